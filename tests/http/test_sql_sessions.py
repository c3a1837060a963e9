"""SQL sessions with a ticket answer as the API answers the same user, and the log shows what they do."""

import json
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any

import asyncpg
import pytest

from isola.subjects.permissions import Role
from isola.testing.fixtures import Copy
from isola.testing.served import Api, Client
from isola.testing.sql_sessions import Analyst, analyst as made_analyst
from isola_strategies.base import Strategy

CREATE = "mutation ($input: CreateTicketInput!) { createTicket(input: $input) { ticket expiresAt } }"
SPAN = "mutation ($input: CreateSpanInput!) { createSpan(input: $input) { span { id } } }"
REPLAY = "mutation ($id: ID!) { replaySpan(input: {id: $id}) { span { id } } }"
TIMELINE = """{ timeline(first: 100) { nodes {
    id type title payload metadata visibility author { id } organization { id } resource { id } node deltaS
    replayFrom { id } replayCount verification createdAt updatedAt } } }"""
STATS = """{ tenantStats(from: "2020-01-01T00:00:00Z", to: "2020-12-31T00:00:00Z") {
    spans byType { type spans } byVisibility { visibility spans } byDay { day spans }
    activeUsers replays storageBytes } }"""
NAMES = {"deltaS": "delta_s", "replayFrom": "replay_from", "replayCount": "replay_count"}
NAMES |= {"createdAt": "created_at", "updatedAt": "updated_at"}


@pytest.fixture
async def analyst(copy: Copy, server: asyncpg.Connection) -> AsyncIterator[Analyst]:
    async with made_analyst(copy, server) as made:
        yield made


async def ticket(client: Client, **values: Any) -> str:
    return str((await client.ask(CREATE, {"input": values})).data["createTicket"]["ticket"])


async def timeline(client: Client) -> list[dict[str, Any]]:
    """The spans as the API shows them, with the names and the values of SQL."""
    nodes = (await client.ask(TIMELINE)).data["timeline"]["nodes"]
    spans = [{NAMES.get(name, name): value for name, value in node.items()} for node in nodes]
    for span in spans:
        for name in ("author", "organization", "resource", "replay_from"):
            span[name] = span[name] and span[name]["id"]
        for name in ("created_at", "updated_at"):
            span[name] = datetime.fromisoformat(span[name])
    return spans


async def test_functions_answer_as_the_api_answers_the_same_user(
    api: Api, strategy: Strategy, analyst: Analyst
) -> None:
    slug = f"{strategy.name}-a"
    ada, bob = (api.client(slug, name, Role.EDITOR) for name in ("ada", "bob"))
    olga = api.client(slug, "olga", Role.ADMIN)
    resource = await ada.create("turbine")
    origins = []
    for client in (ada, bob):
        for visibility in ("PRIVATE", "PUBLIC"):
            values = {"title": "t", "visibility": visibility, "payload": {"a": 1.5}, "deltaS": -2.5}
            made = await client.ask(SPAN, {"input": {**values, "resourceId": resource, "node": "urn:device:17"}})
            origins.append(made.data["createSpan"]["span"]["id"])
    await olga.ask(SPAN, {"input": {"title": "g", "type": "GHOST", "visibility": "PUBLIC"}})
    await bob.ask(REPLAY, {"id": origins[1]})
    await bob.ask(REPLAY, {"id": origins[2]})

    session = await analyst.session()
    await session.set_type_codec("jsonb", schema="pg_catalog", encoder=json.dumps, decoder=json.loads)
    seen = set()
    for client in (ada, bob, olga):
        expected = await timeline(client)
        seen.add(tuple(span["id"] for span in expected))
        async with session.transaction():
            await session.execute("SELECT isola.enter($1)", await ticket(client))
            found = [dict(row) for row in await session.fetch("SELECT * FROM isola.get_tenant_timeline()")]
            assert found == expected
            first = await session.fetch("SELECT id FROM isola.get_tenant_timeline(most => 2)")
            rest = await session.fetch("SELECT id FROM isola.get_tenant_timeline(after => $1)", first[-1]["id"])
            assert [row["id"] for row in (*first, *rest)] == [span["id"] for span in expected]
            chosen = "of_type => 'USER', of_visibility => 'PUBLIC', of_resource => $1"
            some = await session.fetch(f"SELECT id FROM isola.get_tenant_timeline({chosen})", resource)
            assert [row["id"] for row in some] == [
                span["id"]
                for span in expected
                if (span["type"], span["visibility"], span["resource"]) == ("USER", "PUBLIC", resource)
            ]
    assert len(seen) == 3


async def test_statistics_are_those_of_the_api(api: Api, strategy: Strategy, analyst: Analyst) -> None:
    ada = api.client(f"{strategy.name}-a", "ada", Role.EDITOR)
    bob = api.client(f"{strategy.name}-a", "bob", Role.EDITOR)
    for client, visibility in ((ada, "PRIVATE"), (ada, "PUBLIC"), (bob, "PRIVATE"), (bob, "PUBLIC")):
        await client.ask(SPAN, {"input": {"title": "Größe", "visibility": visibility, "payload": {"a": [1, "ü"]}}})
    made = (await ada.ask(SPAN, {"input": {"title": "s", "type": "SYSTEM", "visibility": "PUBLIC"}})).data
    await ada.ask(REPLAY, {"id": made["createSpan"]["span"]["id"]})
    session = await analyst.session()
    for client in (ada, bob):
        found = await timeline(client)
        since, until = found[-1]["created_at"], found[0]["created_at"]
        document = STATS.replace("2020-01-01T00:00:00Z", since.isoformat()).replace(
            "2020-12-31T00:00:00Z", until.isoformat()
        )
        expected = (await client.ask(document)).data["tenantStats"]
        assert expected["spans"] > 1
        async with session.transaction():
            await session.execute("SELECT isola.enter($1)", await ticket(client))
            stats = json.loads(await session.fetchval("SELECT isola.get_tenant_stats($1, $2)", since, until))
        assert stats == expected


async def test_what_sql_creates_is_in_the_api_and_in_the_log(api: Api, strategy: Strategy, analyst: Analyst) -> None:
    ada = api.client(f"{strategy.name}-a", "ada", Role.ADMIN)
    user = (await ada.ask("{ viewer { user { id } } }")).data["viewer"]["user"]["id"]
    session = await analyst.session()
    async with session.transaction():
        await session.execute("SELECT isola.enter($1)", await ticket(ada))
        resource = await session.fetchval("""SELECT isola.create_resource('{"name": "n", "sizeBytes": 7}')""")
        span = await session.fetchval("SELECT isola.create_tenant_span('t', '{\"a\": 1.50}', resource => $1)", resource)
    document = """query ($span: ID!, $resource: ID!) {
        span(id: $span) { title payload type visibility author { id } resource { id } }
        resource(id: $resource) { name kind data sizeBytes owner { id } } }"""
    answer = await ada.ask(document, {"span": span, "resource": resource})
    assert answer.data == {
        "span": {
            "title": "t", "payload": {"a": 1.5}, "type": "USER", "visibility": "PRIVATE", "author": {"id": user},
            "resource": {"id": resource},
        },
        "resource": {"name": "n", "kind": None, "data": {}, "sizeBytes": 7, "owner": {"id": user}},
    }  # fmt: skip
    assert '"payload":{"a":1.50}' in answer.response.text.replace(" ", "")
    log = "{ auditLog(first: 4) { nodes { actor action object onBehalfOf new } } }"
    entries = (await ada.ask(log)).data["auditLog"]["nodes"]
    assert [(entry["actor"], entry["action"], entry["onBehalfOf"]) for entry in entries] == [
        (user, action, None) for action in ("span:create", "resource:create", "ticket:update", "ticket:create")
    ]
    assert [entry["object"] for entry in entries[:2]] == [span, resource]
    assert not {"digest", "permissions", "proved", "used_by"} & entries[3]["new"].keys()


@pytest.mark.parametrize(
    ("values", "code", "field"),
    [
        ({"minutes": 0}, "BAD_USER_INPUT", "input.minutes"),
        ({"minutes": 61}, "BAD_USER_INPUT", "input.minutes"),
        ({"process": 0}, "BAD_USER_INPUT", "input.process"),
        ({"organizationId": "secret"}, "BAD_USER_INPUT", "input.organizationId"),
        ({"organizationId": "org_01980000-0000-7000-8000-000000000000"}, "FORBIDDEN", "input.organizationId"),
    ],
)
async def test_bad_input_for_a_ticket_is_refused(
    values: dict[str, Any], code: str, field: str, api: Api, strategy: Strategy
) -> None:
    refused = await api.client(f"{strategy.name}-a", "ada", Role.EDITOR).ask(CREATE, {"input": values})
    assert (refused.code, refused.error["extensions"]["field"]) == (code, field)
    assert "secret" not in refused.response.text
