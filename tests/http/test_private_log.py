"""The log does not show a reader rows that the reader may not see."""

from typing import Any

import pytest

from isola.database.transactions import Database
from isola.platform import provisioning
from isola.subjects.audit import OF_PLATFORM
from isola.subjects.permissions import Role
from isola.testing.served import Api, Client
from isola_strategies.base import Strategy

SECRET = "canary-of-the-author"
SPAN = "mutation ($input: CreateSpanInput!) { createSpan(input: $input) { span { id } } }"
LOG = """query ($filter: AuditFilter) { auditLog(first: 100, filter: $filter) {
    totalCount nodes { id action object old new withheld } } }"""


@pytest.fixture
def author(api: Api, strategy: Strategy) -> Client:
    """A user who may also read the log."""
    return api.client(f"{strategy.name}-a", "ada", Role.ADMIN)


@pytest.fixture
def auditor(api: Api, strategy: Strategy) -> Client:
    """A user with every permission of a role, including reading the log."""
    return api.client(f"{strategy.name}-a", "olga", Role.OWNER)


async def write(client: Client, visibility: str, **more: Any) -> str:
    given = {"title": SECRET, "payload": {"text": SECRET}, "visibility": visibility, **more}
    made = await client.ask(SPAN, {"input": given})
    return str(made.data["createSpan"]["span"]["id"])


async def entries(client: Client, span: str) -> list[dict[str, Any]]:
    """The entries about a span, oldest first."""
    found: list[dict[str, Any]] = (await client.ask(LOG, {"filter": {"object": {"eq": span}}})).data["auditLog"][
        "nodes"
    ]
    return found[::-1]


async def run(api: Api, client: Client, sql: str, *values: object) -> None:
    """Run SQL in the client's tenant, on rows that the client's user may see."""
    user = (await client.ask("{ viewer { user { id } } }")).data["viewer"]["user"]["id"]
    tenant = await provisioning.named(api.control, client.tenant)
    async with api.tenants.transaction(tenant, about={"user": user.partition("_")[2]}) as work:
        await work.value(sql, *values)


async def change(api: Api, client: Client, span: str, values: str) -> None:
    await run(api, client, f"UPDATE spans SET {values} WHERE id::text = $1", span.partition("_")[2])


async def test_a_private_span_is_in_the_log_and_only_its_author_reads_the_values(
    author: Client, auditor: Client
) -> None:
    span = await write(author, "PRIVATE")

    [seen] = await entries(auditor, span)
    [own] = await entries(author, span)

    assert (seen["action"], seen["old"], seen["new"], seen["withheld"]) == ("span:create", None, None, True)
    assert (own["new"]["title"], own["new"]["payload"], own["withheld"]) == (SECRET, {"text": SECRET}, False)
    whole = await auditor.ask(LOG)
    assert SECRET not in whole.response.text
    assert whole.data["auditLog"]["totalCount"] == (await author.ask(LOG)).data["auditLog"]["totalCount"]
    node = "query ($id: ID!) { node(id: $id) { ... on AuditEntry { old new withheld } } }"
    found = (await auditor.ask(node, {"id": seen["id"]})).data["node"]
    assert found == {"old": None, "new": None, "withheld": True}


async def test_a_span_of_an_organization_is_visible_to_its_members(author: Client, auditor: Client) -> None:
    make = 'mutation { createOrganization(input: {name: "red"}) { organization { id } } }'
    red = (await auditor.ask(make)).data["createOrganization"]["organization"]["id"]
    join = "mutation ($input: AddMemberInput!) { addMember(input: $input) { user { id } } }"
    users = [
        (await client.ask("{ viewer { user { id } } }")).data["viewer"]["user"]["id"] for client in (author, auditor)
    ]
    await auditor.ask(join, {"input": {"organizationId": red, "userId": users[0]}})
    span = await write(author, "ORGANIZATION", organizationId=red)
    assert [entry["withheld"] for entry in await entries(auditor, span)] == [True]

    await auditor.ask(join, {"input": {"organizationId": red, "userId": users[1]}})

    [entry] = await entries(auditor, span)
    assert (entry["new"]["title"], entry["withheld"]) == (SECRET, False)


async def test_entries_of_once_private_columns_stay_private(api: Api, author: Client, auditor: Client) -> None:
    opened, closed = await write(author, "PRIVATE"), await write(author, "PUBLIC")
    assert [entry["withheld"] for entry in await entries(auditor, closed)] == [False]
    await change(api, author, opened, "title = 'changed while private'")
    await change(api, author, opened, "visibility = 'public'")
    await change(api, author, opened, "title = 'changed in public'")
    await change(api, author, closed, "visibility = 'private'")

    assert [entry["old"] for entry in await entries(auditor, closed)] == [None, None]
    assert {entry["withheld"] for entry in await entries(auditor, closed)} == {True}
    made, changed, published, public = await entries(auditor, opened)
    assert (made["new"], changed["old"], changed["new"], published["old"]) == (None, None, None, None)
    assert (published["new"]["visibility"], "title" in published["new"], published["withheld"]) == (
        "public",
        False,
        True,
    )
    assert (public["old"]["title"], public["new"]["title"]) == ("changed while private", "changed in public")
    own = [*await entries(author, opened), *await entries(author, closed)]
    assert [entry["withheld"] for entry in own] == [False] * 6


async def test_a_deleted_span_has_its_last_visibility_in_the_log(api: Api, author: Client, auditor: Client) -> None:
    private, public, closed = [await write(author, each) for each in ("PRIVATE", "PUBLIC", "PUBLIC")]
    await change(api, author, closed, "visibility = 'private'")
    await run(api, author, "DELETE FROM spans")

    for span in (private, closed):
        assert {entry["withheld"] for entry in await entries(auditor, span)} == {True}
        assert SECRET not in str(await entries(auditor, span))
    *_, last = await entries(auditor, public)
    assert (last["action"], last["old"]["title"], last["withheld"]) == ("span:delete", SECRET, False)
    assert (await entries(author, private))[-1]["old"]["title"] == SECRET


async def test_no_filter_or_order_reads_private_values(auditor: Client) -> None:
    kinds = """{ filter: __type(name: "AuditFilter") { inputFields { name } }
        order: __type(name: "AuditOrderField") { enumValues { name } } }"""
    introspected = (await auditor.ask(kinds)).data
    names = {each["name"] for each in introspected["filter"]["inputFields"]} | {
        each["name"].lower() for each in introspected["order"]["enumValues"]
    }
    assert names == {"id", "actor", "action", "object", "at", "and", "or", "not"}


async def test_data_of_an_uninstalled_application_is_not_readable(
    api: Api, author: Client, owner: Database, strategy: Strategy
) -> None:
    """The server cannot know whether the application restricts who sees a row."""
    span = await write(author, "PUBLIC")
    [entry] = await entries(author, span)
    assert entry["new"]["title"] == SECRET
    home = strategy.home((await provisioning.named(api.control, author.tenant)).id)
    async with owner.unbound() as work:
        await work.value(f"UPDATE {home.schema}.audit_entries SET action = 'ghost:create' WHERE object = $1", span)
    [entry] = await entries(author, span)
    assert (entry["action"], entry["old"], entry["new"], entry["withheld"]) == ("ghost:create", None, None, True)


async def test_all_actions_in_the_platforms_log_are_declared(owner: Database) -> None:
    noted = """
        SELECT DISTINCT split_part(encode(tgargs, 'escape'), '\\000', 1) FROM pg_trigger
        WHERE tgfoid = 'isola.audit'::regproc AND tgrelid IN (
            SELECT oid FROM pg_class WHERE relnamespace = 'control'::regnamespace
        )
    """
    async with owner.unbound() as work:
        subjects = await work.texts(noted)
    assert len(subjects) > 3
    assert set(subjects) <= set(OF_PLATFORM)
