"""Errors follow the GraphQL specification and reveal no internals."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import pytest
from sqlalchemy import Integer, cast, literal
from structlog.testing import capture_logs

from isola.api.execute import Executor
from isola.api.schema import model
from isola.errors import Unavailable, Unconfirmed
from isola.query.json_text import VIOLATION
from isola.query.mapping import Model, Value
from tests.api.conftest import SECRET, Caller, ids

DELETE = f'mutation {{ deleteResource(input: {{id: "{ids("res", 1)}"}}) {{ deletedId }} }}'


@dataclass
class Broken(Caller):
    """A caller whose transactions return or raise something."""

    outcome: Any = None

    def transaction(self, *, read_only: bool = False, claim: object = None) -> AbstractAsyncContextManager[Any]:  # noqa: ARG002
        self.transactions += 1
        return self._transaction()

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[Any]:
        if isinstance(self.outcome, Unavailable):
            raise self.outcome
        yield self

    @property
    def strategy(self) -> Any:
        return Nowhere()

    async def value(self, sql: str, *parameters: object) -> Any:  # noqa: ARG002
        if isinstance(self.outcome, BaseException):
            raise self.outcome
        return self.outcome


class Nowhere:
    def predicate(self, table: str) -> None:
        pass


def broken(a: Caller, outcome: object) -> Broken:
    return Broken(a.database, a.principal, a.executor, outcome=outcome)


async def test_a_crash_is_logged_once_with_its_id(a: Caller) -> None:
    secret = RuntimeError("SELECT secret FROM /etc/passwd")
    document = '{ resource(id: "x") { id } b: resource(id: "y") { id } node(id: "z") { id } }'
    with capture_logs() as logs:
        answer = await broken(a, secret).ask(document)
    assert answer.body["data"] == {"resource": None, "b": None, "node": None}
    assert [error["path"] for error in answer.body["errors"]] == [["resource"], ["b"], ["node"]]
    known = {error["extensions"]["correlationId"] for error in answer.body["errors"]}
    assert len(known) == 1
    assert {error["message"] for error in answer.body["errors"]} == {"internal error"}
    assert [log["correlation_id"] for log in logs] == list(known)
    assert logs[0]["exc_info"] is secret
    assert "secret" not in answer.text
    assert answer.status == 200


async def test_a_null_in_a_non_null_field_propagates(a: Caller) -> None:
    answer = await broken(a, RuntimeError("x")).ask('{ resource(id: "x") { id } viewer { roles } }')
    assert answer.body["data"] == {"resource": None, "viewer": None}


async def test_a_database_that_is_not_there(a: Caller) -> None:
    answer = await broken(a, Unavailable("the database cannot be reached")).ask("{ resources { totalCount } }")
    assert (answer.status, answer.code, list(answer.body)) == (503, "UNAVAILABLE", ["errors"])
    answer = await broken(a, Unavailable("the database cannot be reached")).ask(DELETE)
    assert (answer.status, answer.code, list(answer.body)) == (503, "UNAVAILABLE", ["errors"])
    assert answer.error["path"] == ["deleteResource"]


async def test_a_mutation_that_may_have_been_done_is_not_to_be_sent_again(a: Caller) -> None:
    response = await a.executor.execute(DELETE, None, None, None, broken(a, Unavailable("gone")))
    assert (response.status, response.retry_after) == (503, 1)
    response = await a.executor.execute(DELETE, None, None, None, broken(a, Unconfirmed("lost")))
    assert (response.status, response.retry_after) == (200, None)
    body = json.loads(response.body)
    assert body["data"] == {"deleteResource": None}
    assert body["errors"][0]["extensions"] == {"code": "UNAVAILABLE"}


async def test_cancellation_passes(a: Caller) -> None:
    with pytest.raises(asyncio.CancelledError):
        await broken(a, asyncio.CancelledError()).ask("{ resources { totalCount } }")


async def test_a_null_in_a_field_that_must_not_be_null(a: Caller) -> None:
    """It is an error at that field, and null propagates to the next nullable field."""
    document = '{ resource(id: "x") { id owner { name } } }'
    text = '{"resource":{"id":"res_1","owner":%s}}' % VIOLATION  # noqa: UP031
    with capture_logs():
        answer = await broken(a, text).ask(document)
    assert answer.body["data"] == {"resource": None}
    assert answer.error["path"] == ["resource", "owner"]
    assert answer.code == "INTERNAL"
    assert "Resource.owner" not in answer.text


async def test_a_user_that_is_gone(a: Caller) -> None:
    """The database has no row for the caller: a real NULL in a non-null field."""
    with capture_logs():
        answer = await a.being(99).ask("{ a: viewer { roles user { name } } }")
    assert answer.body["data"] == {"a": None}
    assert answer.error["path"] == ["a", "user"]


async def test_a_value_too_large_for_its_type(a: Caller) -> None:
    """A computed field overflows in PostgreSQL: the error is that of the fields of the statement."""
    resource = model.entities["Resource"]
    overflow = Value(lambda row: cast(row["size_bytes"] + literal(2**62) * 2, Integer))
    fields = {**resource.fields, "sizeBytes": overflow}
    entities = {**model.entities, "Resource": replace(resource, fields=fields)}
    executor = Executor(
        Model(model.schema, entities, model.filters, model.left, groupings=model.groupings), secret=SECRET
    )
    with capture_logs():
        answer = await a.using(executor).ask(
            "query ($id: ID!) { resource(id: $id) { sizeBytes } __typename }", {"id": ids("res", 1)}
        )
    assert answer.body["data"] == {"resource": None, "__typename": "Query"}
    assert answer.error["path"] == ["resource"]


@pytest.mark.parametrize(
    ("document", "variables", "name", "said"),
    [
        ("{", None, None, "Syntax Error"),
        ("", None, None, "Syntax Error"),
        (None, None, None, "query"),
        ("{ nonsense }", None, None, "'Query'"),
        ("{ viewer }", None, None, "viewer"),
        ("query A { __typename } query B { __typename }", None, None, "operationName"),
        ("query A { __typename }", None, "C", "operationName"),
        ("fragment F on Query { __typename }", None, None, ""),
        ("query ($id: ID!) { resource(id: $id) { id } }", None, None, "$id"),
        ("query ($id: ID!) { resource(id: $id) { id } }", {"id": None}, None, "$id"),
        ("query ($id: ID!) { resource(id: $id) { id } }", {"id": {"a": 1}}, None, "$id"),
        ("query ($n: Int) { resources(first: $n) { totalCount } }", {"n": "1"}, None, "$n"),
        ("query ($n: Int) { resources(first: $n) { totalCount } }", {"n": 2**31}, None, "$n"),
        ("subscription { x }", None, None, ""),
        ("{ resource(id: 1.5) { id } }", None, None, ""),
        ("query ($b: Boolean = true) { viewer @skip(if: $b) { roles } }", {"b": None}, None, "if"),
    ],
)
async def test_requests_that_make_no_sense(
    a: Caller, document: str | None, variables: dict[str, Any] | None, name: str | None, said: str
) -> None:
    answer = await a.ask(document, variables, name=name)
    assert "data" not in answer.body
    assert (answer.status, answer.code) == (400, "BAD_USER_INPUT")
    assert said in answer.error["message"]
    assert answer.transactions == 0


async def test_a_null_that_validation_could_not_foresee(a: Caller) -> None:
    for key, field, document in (
        ("resource", "id", 'query ($i: ID = "x") { resource(id: $i) { id } }'),
        ("nodes", "ids.1", 'query ($i: ID = "x") { nodes(ids: ["y", $i]) { id } }'),
        ("x", "input", 'mutation ($i: DeleteResourceInput = {id: "x"}) { x: deleteResource(input: $i) { deletedId } }'),
        ("x", "input.id", 'mutation ($i: ID = "x") { x: deleteResource(input: {id: $i}) { deletedId } }'),
    ):
        answer = await a.ask(document, {"i": None})
        assert (answer.body["data"], answer.code, answer.transactions) == ({key: None}, "BAD_USER_INPUT", 0)
        assert (answer.error["path"], answer.error["extensions"]["field"]) == ([key], field)


async def test_production_reveals_no_schema_in_errors(a: Caller) -> None:
    closed = a.using(Executor(model, secret=SECRET, production=True))
    for document in ("{ __schema { queryType { name } } }", '{ __type(name: "Query") { name } }'):
        answer = await closed.ask(document)
        assert answer.code == "BAD_USER_INPUT"
        assert "introspection" in answer.error["message"]
    assert (await closed.ask("{ __typename }")).data == {"__typename": "Query"}
    for document, variables in (
        ("{ resourcez { totalCount } }", None),
        ("{ resources(frist: 1) { totalCount } }", None),
        ("{ resources { totalCounts } }", None),
        ("{ ... on Resourc { id } }", None),
        ('{ resources(filter: {nam: {eq: "x"}}) { totalCount } }', None),
        ("query ($f: ResourceFilter) { resources(filter: $f) { totalCount } }", {"f": {"nam": 1}}),
        ("query ($o: [ResourceOrder!]) { resources(orderBy: $o) { totalCount } }", {"o": [{"field": "NAM"}]}),
        ("{ timeline(filter: {visibility: {eq: PUBLI}}) { totalCount } }", None),
    ):
        answer = await closed.ask(document, variables)
        assert answer.code == "BAD_USER_INPUT"
        assert "mean" not in answer.text
        assert "mean" in (await a.ask(document, variables)).text
