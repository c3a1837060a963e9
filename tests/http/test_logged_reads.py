"""Reads of subjects that a tenant has chosen, in its log: by whom, how many rows, by which operation and client."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import pytest

from isola.database.transactions import Database
from isola.platform import audit, provisioning, sign_in_log
from isola.settings import Settings
from isola.subjects.permissions import Role
from isola.testing.fixtures import Copy
from isola.testing.patience import PATIENCE
from isola.testing.served import Api, Client, serving
from isola_strategies.base import Strategy

CHOOSE = "mutation ($subjects: [String!]!) { logReads(input: {subjects: $subjects}) { subjects } }"
LIST = "query List($first: Int) { resources(first: $first) { totalCount nodes { name owner { name } } } }"
LOG = """query ($actor: String, $since: DateTime) {
  auditLog(filter: {action: {eq: "row_read:create"}, actor: {eq: $actor}, at: {gt: $since}}) {
    nodes { actor object new old } } }"""


@pytest.fixture
async def api(copy: Copy, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Api]:
    monkeypatch.setattr(sign_in_log, "INTERVAL", 0.02)
    async with serving(copy, settings.model_copy(update={"directory_ttl": 0})) as api:
        yield api


@pytest.fixture
def ada(api: Api, strategy: Strategy) -> Client:
    return api.client(f"{strategy.name}-a")


async def choose(client: Client, *subjects: str) -> None:
    chosen = (await client.ask(CHOOSE, {"subjects": subjects})).data["logReads"]["subjects"]
    assert chosen == sorted(set(subjects))


async def logged(api: Api, owner: Database, tenant: str, reads: int) -> Sequence[Mapping[str, Any]]:
    """The new values of the entries about reads, when the log has as many reads."""
    async with asyncio.timeout(PATIENCE):
        while True:
            async with owner.unbound() as work:
                await work.script("UPDATE control.logged_reads SET due_at = now()")
            entries = [
                {**each["new"], "actor": each["actor"], "object": each["object"]}
                for each in (await api.content(tenant))["audit_entries"]
                if each["action"] == "row_read:create"
            ]
            if sum(each["count"] for each in entries) >= reads:
                return entries
            await asyncio.sleep(0.05)


async def test_chosen_reads_are_in_the_log_with_user_rows_operation_and_client(
    api: Api, owner: Database, ada: Client
) -> None:
    for name in ("first", "second", "third"):
        await ada.create(name)
    before = await ada.ask(LIST, {"first": 2})
    await choose(ada, "resource")
    eve = api.client(ada.tenant, "eve", Role.VIEWER)
    answers = [await ada.ask(LIST, {"first": 2}) for _ in range(2)]
    counted = (await eve.ask("{ resources { totalCount } }")).data
    viewer = (await ada.run("Viewer")).data["viewer"]["user"]["id"]

    entries = await logged(api, owner, ada.tenant, 3)
    assert [answer.body for answer in answers] == [before.body] * 2
    assert counted == {"resources": {"totalCount": 3}}
    [mine] = [each for each in entries if each["actor"] == viewer]
    [others] = [each for each in entries if each["actor"] != viewer]
    assert mine.items() >= {"object": "read:resource", "subject": "resource", "count": 2, "rows": 4}.items()
    assert (mine["operation"], mine["address"], mine["user_agent"][:12]) == ("List", "127.0.0.1", "python-httpx")
    assert (others["count"], others["rows"], others["operation"][:7]) == (1, 0, "sha256:")
    found = (await ada.ask(LOG, {"actor": viewer, "since": mine["first_at"]})).data["auditLog"]["nodes"]
    assert [(each["object"], each["new"]["rows"], each["old"]) for each in found] == [("read:resource", 4, None)]
    tenant = await provisioning.named(api.control, ada.tenant)
    assert (await audit.verify(api.control, api.tenants, tenant)).broken is None


async def test_rows_of_relations_payloads_and_look_ups_count_and_answers_have_no_marks(
    api: Api, owner: Database, ada: Client
) -> None:
    made = await ada.create("first")
    create = (
        "mutation Make($name: String!) { createResource(input: {name: $name}) { resource { name owner { name } } } }"
    )
    await choose(ada, "user", "resource")
    keyed = [
        await ada.request("POST", json={"query": create, "variables": {"name": "x"}}, headers={"idempotency-key": "k"})
        for _ in range(2)
    ]
    one = await ada.ask(
        "query One($id: ID!) { node(id: $id) { id __typename } resource(id: $id) { name } }", {"id": made}
    )
    edges = await ada.ask(
        "query Edges { resources { edges { cursor node { owner { name } } } pageInfo { endCursor } } }"
    )

    assert keyed[0].data == keyed[1].data
    assert one.data["resource"] == {"name": "first"}
    assert len(edges.data["resources"]["edges"]) == 2
    assert all(
        "\\u0003" not in each.response.text and "\x03" not in each.response.text for each in (*keyed, one, edges)
    )
    entries = await logged(api, owner, ada.tenant, 5)
    rows = {(each["operation"], each["subject"]): each["rows"] for each in entries}
    assert rows == {
        ("Make", "resource"): 1,
        ("Make", "user"): 1,
        ("One", "resource"): 2,
        ("Edges", "resource"): 2,
        ("Edges", "user"): 2,
    }


async def test_a_choice_is_logged_and_ends_and_is_of_one_tenant(
    api: Api, owner: Database, ada: Client, strategy: Strategy
) -> None:
    other = api.client(f"{strategy.name}-b")
    await choose(ada, "resource", "resource", "role")
    assert (await ada.ask("{ loggedReads }")).data == {"loggedReads": ["resource", "role"]}
    assert (await other.ask("{ loggedReads }")).data == {"loggedReads": []}
    await other.ask(LIST)
    await ada.ask(LIST)
    await choose(ada)
    await ada.ask(LIST)

    assert [each["count"] for each in await logged(api, owner, ada.tenant, 1)] == [1]
    assert not [each for each in (await api.content(other.tenant))["audit_entries"] if "read" in each["action"]]
    changes = [each for each in (await api.content(ada.tenant))["audit_entries"] if each["action"] == "read_log:update"]
    changed = [(each["old"]["subjects"], each["new"]["subjects"]) for each in changes]
    assert sorted(changed) == [([], ["resource", "role"]), (["resource", "role"], [])]
    assert all(each["actor"].startswith("usr_") for each in changes)


async def test_only_administrators_choose_and_only_known_subjects(api: Api, ada: Client) -> None:
    for role in (Role.VIEWER, Role.EDITOR):
        client = api.client(ada.tenant, role.value, role)
        assert (await client.ask(CHOOSE, {"subjects": []})).code == "FORBIDDEN"
    refused = (await ada.ask(CHOOSE, {"subjects": ["resource", "Zwvxqj"]})).error
    assert (refused["extensions"]["code"], refused["extensions"]["field"]) == ("BAD_USER_INPUT", "input.subjects")
    assert "Zwvxqj" not in refused["message"]
    assert (await ada.ask("{ loggedReads }")).data == {"loggedReads": []}


async def test_injected_sql_writes_no_entry_about_reads(api: Api, ada: Client) -> None:
    tenant = await provisioning.named(api.control, ada.tenant)
    for call in (
        "SELECT isola.audit_of_reader(gen_random_uuid(), '{read:resource}', '{null}')",
        "INSERT INTO control.logged_reads SELECT",
        "UPDATE control.tenants SET logged_reads = '{}'",
    ):
        with pytest.raises(Exception, match="permission denied"):
            async with api.tenants.transaction(tenant) as work:
                await work.value(call)
