"""Requests that nobody thought of, generated from the live schema: none finds a bug, none is left unanswered."""

import asyncio
import re
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings as examples, strategies as st
from schemathesis.core.result import Ok
from schemathesis.graphql import nodes
from schemathesis.schemas import APIOperation

from tests.http.served import Answer, Client

EXAMPLES = 15  # an operation
CODES = {"BAD_USER_INPUT", "CONFLICT", "FORBIDDEN", "NOT_FOUND", "RATE_LIMITED", "UNAUTHENTICATED"}
# After these the caller's own token is good for nothing.
LAST = {"Mutation.signOutEverywhere", "Mutation.revokeSessions"}
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
FIRST = re.compile(r"\bfirst: -?\d+")
OTHER_PAGES = re.compile(rf"\b(last|after|before): (-?\d+|{STRING})")


@pytest.fixture(scope="module", autouse=True)
def scalars() -> None:
    integers = st.integers(-(2**54), 2**54) | st.integers(-1, 3)
    times = st.datetimes(timezones=st.timezones()).map(lambda moment: moment.isoformat()) | st.text(max_size=30)
    values = st.text().map(nodes.String) | st.integers().map(nodes.Int) | st.booleans().map(nodes.Boolean)
    schemathesis.graphql.scalar("BigInt", integers.map(nodes.Int))
    schemathesis.graphql.scalar("DateTime", times.map(nodes.String))
    schemathesis.graphql.scalar("JSON", values)


async def test_no_generated_request_finds_a_bug(alice: Client) -> None:
    made = await alice.ask(MAKE)
    ids = [
        await alice.create("a resource"),
        *(each["id"] for payload in made.data.values() for each in payload.values()),
    ]
    ids.append((await alice.run("Viewer")).data["viewer"]["user"]["id"])

    def explore() -> list[Answer]:
        schema = schemathesis.graphql.from_url(f"{alice.http.base_url}/graphql", headers=dict(alice.headers))
        operations = [each.ok() for each in schema.get_all_operations() if isinstance(each, Ok)]
        operations = [operation for operation in operations if operation.label not in LAST]
        with httpx.Client(base_url=alice.http.base_url, headers=alice.headers, timeout=30, trust_env=False) as http:
            return [answer for operation in operations for answer in answers(operation, http, ids)]

    answered = await asyncio.to_thread(explore)

    assert len(answered) > 100
    assert [answer.response.text for answer in answered if answer.status not in {200, 400, 403}] == []
    for answer in answered:
        for error in answer.body.get("errors", []):
            assert error["extensions"]["code"] in CODES, (answer.response.request.content, answer.response.text)
    # Enough of them are understood for that to say something.
    assert sum(bool(answer.body.get("data")) for answer in answered) > len(answered) / 4


def understandable(document: str, id_: str, ids: list[str]) -> str:
    """A document about an object that is there, of the right type where the place says it, and about pages that are."""

    def named(match: re.Match[str]) -> str:
        prefix = PLACES.get(match["place"])
        meant = next((each for each in ids if prefix and each.startswith(prefix)), id_)
        return f'{match[1]}"{meant}"'

    return OTHER_PAGES.sub(r"\1: null", FIRST.sub("first: 5", ID.sub(named, document)))


def answers(operation: APIOperation[Any, Any, Any, Any], http: httpx.Client, ids: list[str]) -> list[Answer]:
    """What the server says to examples of one operation, about objects that are there or not."""
    found: list[Answer] = []

    # The same examples in each run: a failure here is seen by everybody.
    @examples(
        max_examples=EXAMPLES,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(), id_=st.sampled_from([None, *ids]))
    def ask(case: schemathesis.Case[Any], id_: str | None) -> None:
        document = str(case.body) if id_ is None else understandable(str(case.body), id_, ids)
        response = http.post("/graphql", json={"query": document})
        found.append(Answer(response))

    ask()
    return found
