"""The size of an answer is limited in bytes; the database enforces the limit while it builds the answer."""

import json
from pathlib import Path
from random import Random
from typing import Any

import pytest
from sqlalchemy import insert

from isola.api.execute import Executor
from isola.api.schema import model
from isola.database.transactions import Database
from isola.errors import BadUserInput
from isola.platform import provisioning
from isola.query.limits import Limits
from isola.subjects import shares
from isola.subjects.actor import Actor
from isola.subjects.resources import resources
from isola.subjects.spans import spans
from isola.subjects.users import users
from isola_strategies.base import Strategy
from tests.api.conftest import SECRET, Answer, Caller, Principal, ids, uuid

LIMIT = Limits().answer_bytes
# To build an answer, PostgreSQL takes about nine times its size in memory, up to the limit.
MEMORY = 10 * LIMIT
BACKENDS = (
    "SELECT pid::text FROM pg_stat_activity WHERE datname = current_database() AND backend_type = 'client backend'"
)
ALIASES = " ".join(f"a{index}: resource {{ data }}" for index in range(90))
SPANS = "spans(first: 60) { nodes { id resource { id data } } }"
DETAILS = "id createdAt title visibility author { id } organization { id name }"
TOO_LARGE = {
    "20 x 20": "{ timeline(first: 20) { nodes { resource { spans(first: 20) { nodes { resource { data } } } } } } }",
    "60 x 60": f"{{ timeline(first: 60) {{ nodes {{ resource {{ {SPANS} }} }} }} }}",
    "edges": f"{{ timeline(last: 60) {{ edges {{ cursor node {{ resource {{ {SPANS} }} }} }} }} }}",
    "next pages": f"{{ timeline(first: 9) {{ pageInfo {{ hasNextPage }} nodes {{ resource {{ {SPANS} }} }} }} }}",
    "aliases": f"{{ timeline(first: 60) {{ nodes {{ {ALIASES} }} }} }}",
    "fields": f"{{ a: resources {{ nodes {{ {SPANS} }} }} b: timeline(first: 60) {{ nodes {{ {ALIASES} }} }} }}",
    "ids": f"{{ nodes(ids: {json.dumps([ids('spn', 1)] * 100)}) {{ ... on Span {{ {ALIASES} }} }} }}",
    "compressed": '{ resources(first: 60, filter: {kind: {eq: "compressed"}}) { nodes { a: data b: data c: data } } }',
    "short values": "{ timeline(first: 60) { nodes { resource { spans(first: 60) { nodes { resource {"
    f" spans(first: 12) {{ nodes {{ {DETAILS} }} }} }} }} }} }} }} }} }}",
}


@pytest.fixture
async def full(database: Database, control: Database, strategy: Strategy, executor: Executor) -> Caller:
    """User 0 of a tenant with 60 spans of one resource, which has 50 kB of incompressible data."""
    tenant = await provisioning.named(control, f"{strategy.name}-a")
    noise = "".join(Random(7).choices("abcdefghijklmnopqrstuvwxyz", k=50_000))  # noqa: S311  the same each time
    async with database.transaction(tenant) as work:
        await work.execute(insert(users).values(id=uuid(0, 0), subject="s", name="n"))
        rows: list[dict[str, Any]] = [{"id": uuid(2, 0), "owner_id": uuid(0, 0), "name": "r", "data": {"text": noise}}]
        rows += [
            {"id": uuid(2, i), "owner_id": uuid(0, 0), "name": "r", "kind": "compressed", "data": ["x" * 100_000]}
            for i in range(1, 61)
        ]
        for row in rows:
            await work.execute(insert(resources).values(row))
        entries = [
            {"id": uuid(3, i), "author_id": uuid(0, 0), "title": "t" * 100, "resource_id": uuid(2, 0)}
            for i in range(60)
        ]
        await work.execute(insert(spans).values([{**entry, "visibility": "public"} for entry in entries]))
    return Caller(database, Principal(tenant, uuid(0, 0)), executor)


class Memory:
    """The peak memory of a server process of a database from now on, in bytes."""

    def __init__(self, pids: list[str]) -> None:
        self._processes = [Path("/proc") / pid for pid in pids]
        for process in self._processes:
            (process / "clear_refs").write_text("5")
        self._before = [self._figure(process, "VmRSS") for process in self._processes]

    def grown(self) -> int:
        now = [self._figure(process, "VmHWM") for process in self._processes]
        return max(after - before for before, after in zip(self._before, now, strict=True))

    @staticmethod
    def _figure(process: Path, name: str) -> int:
        status = dict(line.split(":", 1) for line in (process / "status").read_text().splitlines())
        return int(status[name].split()[0]) * 1024


async def memory(owner: Database, caller: Caller) -> Memory:
    # Opens a connection.
    assert (await caller.ask("{ timeline(first: 1) { nodes { id } } }")).data
    async with owner.unbound() as work:
        return Memory(await work.texts(BACKENDS))


@pytest.mark.parametrize("document", TOO_LARGE.values(), ids=TOO_LARGE)
async def test_an_answer_that_is_too_large_is_refused_before_it_is_built(
    document: str, full: Caller, owner: Database
) -> None:
    measured = await memory(owner, full)
    answer = await full.ask(document)
    assert_refused(answer, LIMIT)
    assert measured.grown() < MEMORY
    assert (await full.ask("{ timeline(first: 1) { nodes { id } } }")).data


async def test_the_limit_is_exact(full: Caller) -> None:
    """Also if it leaves no room for a value that is not measured."""
    for document in (
        "{ timeline(first: 60) { nodes { id title resource { name data } } } }",
        "{ timeline(first: 60) { nodes { id title author { id } } } }",
        "{ resources(first: 60) { nodes { id kind sizeBytes } pageInfo { hasNextPage endCursor } totalCount } }",
    ):
        whole = await full.ask(document)
        assert whole.data
        size = len(whole.text.encode()) - len('{"data":}')
        assert (await full.using(limited(size)).ask(document)).text == whole.text
        assert_refused(await full.using(limited(size - 1)).ask(document), size - 1)


async def test_a_mutation_whose_payload_is_too_large_changes_nothing(full: Caller) -> None:
    below = f"data spans(first: 60) {{ nodes {{ {ALIASES} }} }}"
    document = f"""mutation ($id: ID!) {{
        updateResource(input: {{id: $id, name: "changed"}}) {{ resource {{ {below} }} }}
    }}"""
    assert_refused(await full.ask(document, {"id": ids("res", 0)}), LIMIT)
    found = await full.ask("query ($id: ID!) { resource(id: $id) { name } }", {"id": ids("res", 0)})
    assert found.data == {"resource": {"name": "r"}}


async def test_the_payloads_of_all_mutations_are_one_answer(full: Caller) -> None:
    fields = "".join(
        f'm{index}: updateResource(input: {{id: "{ids("res", 0)}", name: "{index}"}}) {{ resource {{ data }} }}'
        for index in range(4)
    )
    answer = await full.using(limited(160_000)).ask(f"mutation {{ {fields} }}")
    assert [error["path"] for error in answer.body["errors"]] == [["m3"]]
    assert answer.body["data"]["m3"] is None
    # The other mutations are answered: they have committed.
    assert [key for key, value in answer.body["data"].items() if value] == ["m0", "m1", "m2"]
    found = await full.ask("query ($id: ID!) { resource(id: $id) { name } }", {"id": ids("res", 0)})
    assert found.data == {"resource": {"name": "2"}}


async def test_shared_rows_count_towards_the_size_of_an_answer(
    full: Caller, control: Database, other: Strategy, owner: Database
) -> None:
    partner = await provisioning.named(control, f"{other.name}-a")
    sharer = Actor(uuid(0, 0), frozenset({"share:write", "resource:write"}))
    async with full.database.transaction(full.principal.tenant) as work:
        for index in range(2):
            await shares.grant(work, sharer, "resource", uuid(2, index), partner.slug)
    async with full.database.transaction(partner) as work:
        await work.execute(insert(users).values(id=uuid(0, 1), subject="s", name="n"))
    reader = Caller(full.database, Principal(partner, uuid(0, 1)), full.executor)
    measured = await memory(owner, reader)
    assert_refused(await reader.ask(f"{{ sharedWithMe {{ nodes {{ {ALIASES} }} }} }}"), LIMIT)
    assert measured.grown() < MEMORY
    assert len((await reader.ask("{ sharedWithMe { nodes { resource { data } } } }")).text) > 150_000


async def test_numbers_and_documents_are_bounded_by_the_database(full: Caller) -> None:
    """However they are written, even without the validation rules."""
    for document in ('{"n": 1e1000}', f"[{','.join(['1e300'] * 100)}]", json.dumps("x" * 5_000_000)):
        for table, column in (("resources", "data"), ("spans", "payload")):
            with pytest.raises(BadUserInput, match=f"{column} size"):
                async with full.database.transaction(full.principal.tenant) as work:
                    await work.value(f"UPDATE {table} SET {column} = $1::text::jsonb RETURNING 1", document)
    for document in ("[1e99, -1e-98]", json.dumps("\u0001" * 5000), json.dumps([[], {}, None, True, ""] * 100)):
        async with full.database.transaction(full.principal.tenant) as work:
            assert await work.value("UPDATE resources SET data = $1::text::jsonb RETURNING 1", document)


def limited(answer_bytes: int) -> Executor:
    return Executor(model, secret=SECRET, limits=Limits(answer_bytes=answer_bytes))


def assert_refused(answer: Answer, limit: int) -> None:
    assert answer.code == "BAD_USER_INPUT"
    assert f"the limit of answer bytes is {limit}; ask for smaller pages or for fewer fields" in answer.error["message"]
    assert len(answer.text) < 1000
