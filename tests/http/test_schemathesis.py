"""Random requests, generated from the contract: none finds a bug, none is left unanswered.

Both profiles of a server are tested: the open one, and the hardened one of ``ISOLA_PRODUCTION``.
"""

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jwt
import pytest
import schemathesis
from graphql import (
    GraphQLSchema,
    build_client_schema,
    build_schema,
    get_introspection_query,
    lexicographic_sort_schema,
    print_schema,
)
from hypothesis import HealthCheck, Phase, given, settings as examples, strategies as st
from pydantic import SecretStr
from schemathesis.core.result import Ok
from schemathesis.graphql import nodes
from schemathesis.schemas import APIOperation

from isola.settings import Settings
from isola.testing.served import GRAPHQL_JSON, Api, Client
from isola_strategies.base import Strategy

CONTRACT = Path(__file__).parents[2] / "graphql" / "schema.graphql"
EXAMPLES = 6  # per operation
CODES = {"BAD_USER_INPUT", "CONFLICT", "FORBIDDEN", "NOT_FOUND", "RATE_LIMITED", "TENANT_REQUIRED", "UNAUTHENTICATED"}
# These invalidate the caller's own token.
LAST = {"signOutEverywhere", "revokeSessions", "endSession", "endOtherSessions"}
STRING = r'"(?:[^"\\]|\\.)*"'
ID = re.compile(rf"(\b(?P<place>id|\w+Id|ids|eq|in): \[?){STRING}")
PLACES = {
    "apiKeyId": "key_",
    "organizationId": "org_",
    "resourceId": "res_",
    "roleId": "rol_",
    "userId": "usr_",
}
MAKE = """
mutation {
  createOrganization(input: {name: "an organization"}) { organization { id } }
  createRole(input: {name: "a role", permissions: ["user:read"]}) { role { id } }
  createApiKey(input: {name: "a key", permissions: ["user:read"]}) { apiKey { id } }
}
"""
MADE = 5  # including a resource, and the caller
FIRST = re.compile(r"\bfirst: -?\d+")
OTHER_PAGES = re.compile(rf"\b(last|after|before): (-?\d+|{STRING})")
SUGGESTION = "Did you mean"
# Only the open profile may use a development key. Both get this key, so that they differ in nothing else.
KEY = "a secret for the tokens of this test only"


@dataclass(frozen=True, slots=True)
class Generated:
    """A document with one root field, and the index of the existing object that it is about, if any."""

    field: str
    is_query: bool
    document: str
    about: int | None

    def understandable(self, ids: Sequence[str]) -> str:
        """The document with that object's id, or one of the right type for its place, and with valid pages."""
        if self.about is None:
            return self.document
        otherwise = ids[self.about]

        def named(match: re.Match[str]) -> str:
            prefix = PLACES.get(match["place"])
            meant = next((each for each in ids if prefix and each.startswith(prefix)), otherwise)
            return f'{match[1]}"{meant}"'

        return OTHER_PAGES.sub(r"\1: null", FIRST.sub("first: 5", ID.sub(named, self.document)))


@pytest.fixture(scope="module")
def generated() -> Sequence[Generated]:
    """The same documents in each run: failures are reproducible."""
    integers = st.integers(-(2**54), 2**54) | st.integers(-1, 3)
    times = st.datetimes(timezones=st.timezones()).map(lambda moment: moment.isoformat()) | st.text(max_size=30)
    values = st.text().map(nodes.String) | st.integers().map(nodes.Int) | st.booleans().map(nodes.Boolean)
    schemathesis.graphql.scalar("BigInt", integers.map(nodes.Int))
    schemathesis.graphql.scalar("Decimal", st.decimals().map(str).map(nodes.String) | integers.map(nodes.Int))
    schemathesis.graphql.scalar("Date", times.map(nodes.String))
    schemathesis.graphql.scalar("UUID", st.uuids().map(str).map(nodes.String))
    schemathesis.graphql.scalar("DateTime", times.map(nodes.String))
    schemathesis.graphql.scalar("JSON", values)
    operations = [
        each.ok() for each in schemathesis.graphql.from_path(CONTRACT).get_all_operations() if isinstance(each, Ok)
    ]
    return [one for each in operations for one in examples_of(each) if one.field not in LAST]


def examples_of(operation: APIOperation[Any, Any, Any, Any]) -> Sequence[Generated]:
    kind, _, field = operation.label.partition(".")
    found: list[Generated] = []

    @examples(
        max_examples=EXAMPLES,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(), about=st.sampled_from([None, *range(MADE)]))
    def generate(case: schemathesis.Case[Any], about: int | None) -> None:
        found.append(Generated(field, kind == "Query", str(case.body), about))

    generate()
    return found


@pytest.fixture(params=["open", "hardened"])
def profile(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def settings(settings: Settings, profile: str) -> Settings:
    return settings.model_copy(update={"production": profile == "hardened", "token_key": SecretStr(KEY)})


@pytest.fixture
def alice(api: Api, strategy: Strategy) -> Client:
    """An administrator of a tenant, under each strategy in turn."""
    tenant = f"{strategy.name}-a"
    claims = {
        "iss": "isola",
        "aud": "isola",
        "tenant": tenant,
        "sub": "ada",
        "role": "admin",
        "exp": time.time() + 3600,
    }
    headers = {"accept": GRAPHQL_JSON, "content-type": "application/json"}
    return Client(api.http, tenant, headers).saying(f"Bearer {jwt.encode(claims, KEY)}")


@pytest.fixture
async def ids(alice: Client) -> Sequence[str]:
    """The id of an object of each type."""
    made = (await alice.ask(MAKE)).data
    user = (await alice.run("Viewer")).data["viewer"]["user"]["id"]
    return [
        await alice.create("a resource"),
        *(each["id"] for payload in made.values() for each in payload.values()),
        user,
    ]


async def test_no_generated_request_finds_a_bug(
    alice: Client, profile: str, generated: Sequence[Generated], ids: Sequence[str]
) -> None:
    answered = [await alice.ask(each.understandable(ids)) for each in generated]

    assert len(answered) > 100
    assert [answer.response.text for answer in answered if answer.status not in {200, 400, 403}] == []
    for answer in answered:
        for error in answer.body.get("errors", []):
            assert error["extensions"]["code"] in CODES, (answer.response.request.content, answer.response.text)
    # Enough of them succeed for the test to be meaningful.
    assert sum(bool(answer.body.get("data")) for answer in answered) > len(answered) / 8
    assert profile == "open" or not any(SUGGESTION in answer.response.text for answer in answered)


async def test_a_similar_name_is_suggested_except_in_production(
    alice: Client, profile: str, generated: Sequence[Generated]
) -> None:
    for each in {each.field: each for each in generated}.values():
        misspelt = await alice.ask(re.sub(rf"\b{each.field}\b", f"{each.field}z", each.document, count=1))
        assert misspelt.status == 400
        assert {error["extensions"]["code"] for error in misspelt.body["errors"]} == {"BAD_USER_INPUT"}
        assert (SUGGESTION in misspelt.response.text) == (profile == "open")


async def test_a_query_by_get_is_answered_by_an_open_server_only(
    alice: Client, profile: str, generated: Sequence[Generated]
) -> None:
    for each in {each.field: each for each in generated}.values():
        answer = await alice.request("GET", params={"query": each.document})
        if profile == "hardened":
            assert (answer.status, answer.code) == (405, "BAD_USER_INPUT")
            assert answer.response.headers["allow"] == "POST, OPTIONS"
        elif each.is_query or answer.status == 400:  # validation comes first
            assert (answer.status, answer.body) == ((posted := await alice.ask(each.document)).status, posted.body)
        else:
            assert (answer.status, answer.code) == (405, "BAD_USER_INPUT")
            assert answer.response.headers["allow"] == "GET, POST, OPTIONS"


async def test_introspection_is_available_except_in_production(alice: Client, profile: str) -> None:
    answer = await alice.ask(get_introspection_query())
    if profile == "open":
        assert written(build_client_schema(answer.data)) == written(build_schema(CONTRACT.read_text(encoding="utf-8")))
    else:
        assert answer.status == 400
        assert {error["extensions"]["code"] for error in answer.body["errors"]} == {"BAD_USER_INPUT"}


def written(schema: GraphQLSchema) -> str:
    return print_schema(lexicographic_sort_schema(schema))
