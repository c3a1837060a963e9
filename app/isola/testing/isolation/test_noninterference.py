"""A's responses are the same, whether other tenants have no data, the same data, or a thousand times as much."""

from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from sqlalchemy import func, insert, select

from isola.api.schema import model
from isola.platform import provisioning, storage
from isola.settings import Settings
from isola.subjects.permissions import Role
from isola.subjects.resources import resources
from isola.subjects.spans import spans
from isola.testing.fixtures import DEFAULTS, STRATEGIES, Cluster, Copy, copied
from isola.testing.oracles import walk
from isola.testing.oracles.canary import TABLES, Row, insertable
from isola.testing.oracles.ids import OF_TYPES
from isola.testing.oracles.noninterference import Entry, differences, normal, recorded
from isola.testing.oracles.walk import Document
from isola.testing.served import Api, Client, serving
from isola_strategies.base import Strategy

ORGANIZATION = "mutation ($name: String!) { createOrganization(input: {name: $name}) { organization { id } } }"
MEMBER = """mutation ($organization: ID!, $user: ID!) {
    addMember(input: {organizationId: $organization, userId: $user}) { user { id } } }"""
LISTS = {
    "resources": "ResourceFilter",
    "users": "UserFilter",
    "organizations": "OrganizationFilter",
    "timeline": "SpanFilter",
}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return DEFAULTS.model_copy(update={"data_dir": tmp_path, "document_cache_bytes": 1 << 30})


@pytest.fixture
async def api(copy: Copy, settings: Settings) -> AsyncIterator[Api]:
    async with serving(copy, settings) as served:
        yield served


def others(slug: str) -> list[str]:
    return [f"{strategy}-{letter}" for strategy in STRATEGIES for letter in "ab" if f"{strategy}-{letter}" != slug]


async def record(client: Client, documents: Iterable[Document]) -> list[Entry]:
    """The recorded responses of a client, in order."""
    return [
        recorded(f"{each.path}: {each.text}", (await client.ask(each.text, each.variables)).response)
        for each in documents
    ]


async def furnish(client: Client) -> list[Entry]:
    """Make a tenant's own data by its own requests; returns the recorded responses."""
    documents = [
        Document("a first request", "{ viewer { user { id name } tenant { slug } } }", {}),
        *(Document("an organization", ORGANIZATION, {"name": name}) for name in ("Research", "Sales", "Research")),
        *(
            Document(
                "a resource",
                """mutation ($name: String!, $kind: String) { createResource(
                    input: {name: $name, kind: $kind, data: {name: $name}}) { resource { id name } } }""",
                {"name": f"resource {number}", "kind": None if number % 3 else "map"},
            )
            for number in range(7)
        ),
        *(
            Document(
                "a span",
                """mutation ($title: String!, $visibility: Visibility!) {
                    createSpan(input: {title: $title, visibility: $visibility}) { span { id createdAt } } }""",
                {"title": f"span {visibility}", "visibility": visibility},
            )
            for visibility in ("PRIVATE", "PUBLIC")
        ),
    ]
    return await record(client, documents)


async def crowd(api: Api, slug: str, rows: Mapping[str, list[Row]]) -> None:
    """Give every other tenant a copy of the same rows, including keys, and many more, and make them share."""
    for other in others(slug):
        tenant = await provisioning.named(api.control, other)
        user = rows["users"][0]["id"]
        async with api.tenants.transaction(tenant, about={"user": str(user)}) as work:
            for table in TABLES:
                for row in rows[table.name]:
                    await work.execute(insert(table).values(insertable(table, row)))
            many = [{"owner_id": user, "name": f"resource {number}", "kind": "map"} for number in range(300)]
            await work.execute(insert(resources).values(many))
            await work.execute(
                insert(spans).values([{"author_id": user, "title": "span", "visibility": "public"} for _ in range(300)])
            )
            partner = next(each for each in others(slug) if each != other)
            call = func.isola.share("resource", rows["resources"][0]["id"], partner, None, None, None)
            assert await work.scalar(select(call.table_valued("share")))


def requests(found: Mapping[str, Any], ids: list[str]) -> Iterator[Document]:
    """Requests for pages of every size and position, filters, orders, look-ups and errors."""
    yield from walk.reads(model.schema, ids, OF_TYPES)
    for name, filter_type in LISTS.items():
        for size in (0, 1, 2, 100, -1, 101, 10**9):
            for way in ("first", "last"):
                yield Document(
                    f"{name} by page",
                    f"{{ {name}({way}: {size}) {{ totalCount edges {{ cursor node {{ id }} }}"
                    " pageInfo { hasNextPage hasPreviousPage startCursor endCursor } } }",
                    {},
                )
        for cursor in found[name]:
            for place in ("after", "before"):
                text = f"query ($c: String!) {{ {name}({place}: $c) {{ totalCount nodes {{ id }} }} }}"
                yield Document(f"{name} {place} a cursor", text, {"c": cursor})
        for id_ in ids:
            filter_ = {"or": [{"id": {"eq": id_}}, {"not": {"id": {"in": [id_]}}}]}
            text = f"query ($f: {filter_type}) {{ {name}(filter: $f) {{ totalCount nodes {{ id }} }} }}"
            yield Document(f"{name} by id", text, {"f": filter_})
    for text in ("resource 1", "e", "", "%", "resource 299"):
        for comparison in ("eq", "contains", "startsWith", "gt", "lt"):
            yield Document(
                f"resources by name {comparison}",
                "query ($f: ResourceFilter, $o: [ResourceOrder!]) { resources(filter: $f, orderBy: $o, first: 3) {"
                " totalCount nodes { name } pageInfo { hasNextPage endCursor } } }",
                {"f": {"name": {comparison: text}}, "o": [{"field": "NAME", "direction": "DESC"}]},
            )
    yield Document("nonsense", "{ resources { nonsense } }", {})
    yield Document("a division of work that fails", "{ nodes(ids: []) { id } resource(id: 7) { id } }", {})


async def cursors(client: Client) -> dict[str, list[str]]:
    found = {}
    for name in LISTS:
        answer = await client.ask(f"{{ {name}(first: 100) {{ edges {{ cursor }} }} }}")
        found[name] = [edge["cursor"] for edge in answer.data[name]["edges"]][::3]
    return found


async def test_responses_do_not_change_when_others_add_data(
    api: Api, strategy: Strategy, record_property: Callable[[str, object], None]
) -> None:
    slug = f"{strategy.name}-a"
    client = api.client(slug)
    await furnish(client)
    rows = {name: list(each) for name, each in (await api.content(slug)).items()}
    prefixes = {"usr": "users", "org": "organizations", "res": "resources", "spn": "spans"}
    own = [f"{prefix}_{rows[table][0]['id']}" for prefix, table in prefixes.items()]
    # Ids that do not exist now, but that others will have: the many resources get theirs from the database.
    documents = list(requests(await cursors(client), own))
    users = [client, api.client(slug, "ada", Role.VIEWER), api.client(slug, "eve", Role.EDITOR)]
    # Half for each of those with fewer permissions.
    asked = (documents, documents[::2], documents[1::2])
    for user in users:
        await user.run("Viewer")
    # Not in the middle: when a tenant's rows are measured is a matter of time.
    await storage.measure_due(api.control, api.tenants)
    alone = [await record(user, each) for user, each in zip(users, asked, strict=True)]

    await crowd(api, slug, rows)

    assert len(documents) > 300
    record_property("answers compared", 2 * sum(map(len, asked)))
    for user, each, before in zip(users, asked, alone, strict=True):
        assert differences(before, await record(user, each)) == []


async def test_a_tenants_history_is_the_same_in_an_empty_and_in_a_crowded_database(
    cluster: Cluster,
    server: asyncpg.Connection,
    settings: Settings,
    strategy: Strategy,
    record_property: Callable[[str, object], None],
) -> None:
    """Also for writes, including failing ones: unique values and references in other tenants have no effect here."""
    slug = f"{strategy.name}-a"
    lives: list[list[Entry]] = []
    for crowded in (False, True):
        async with copied(cluster, server) as database, serving(database, settings) as api:
            if crowded:
                for other in others(slug):
                    # A user of several tenants sees that; so these are different users.
                    await furnish(api.client(other, "bob"))
                    await crowd_of_its_own(api.client(other, "bob"))
            lives.append(await life(api.client(slug), api.client(slug, "eve", Role.EDITOR)))
    empty, crowded_one = map(normal, lives)
    assert len(empty) > 60
    record_property("answers compared", len(empty) + len(crowded_one))
    assert differences(empty, crowded_one) == []


async def crowd_of_its_own(client: Client) -> None:
    for number in range(30):
        await client.create(f"more {number}")


async def life(admin: Client, editor: Client) -> list[Entry]:
    """All kinds of operations, and many that fail."""
    recording = [*await furnish(admin), *await furnish(editor)]
    viewers = [(await each.run("Viewer")).data["viewer"]["user"]["id"] for each in (admin, editor)]
    [resource, *more] = [node["id"] for node in (await admin.run("Resources")).data["resources"]["nodes"]]
    organization = (await admin.run("Organizations")).data["organizations"]["nodes"][0]["id"]
    rename = 'mutation ($id: ID!) { updateResource(input: {id: $id, name: "renamed"}) { resource { name } } }'
    delete = "mutation ($id: ID!) { deleteResource(input: {id: $id}) { deletedId } }"
    share = """mutation ($id: ID!, $to: String!) {
        shareResource(input: {resourceId: $id, grantee: $to}) { share { id grantee { slug } } } }"""
    documents = [
        *(Document("a member", MEMBER, {"organization": organization, "user": user}) for user in viewers * 2),
        *(Document("renaming", rename, {"id": id_}) for id_ in (resource, resource.replace("res", "usr"), "res_1")),
        *(Document("sharing", share, {"id": id_, "to": "nobody"}) for id_ in (resource, *more[:2])),
        Document("own shares", "{ myShares { totalCount nodes { id fields grantee { slug } } } }", {}),
        *(Document("deleting", delete, {"id": id_}) for id_ in (more[-1], more[-1], more[-2])),
    ]
    for client in (editor, admin):
        recording += await record(client, documents)
        recording += await record(
            client, list(requests(await cursors(client), [resource, organization, *viewers]))[::9]
        )
    return recording


async def test_page_information_does_not_reveal_filtered_rows(api: Api, strategy: Strategy) -> None:
    """The look-up before a cursor counts only rows that the list would show, even if the cursor's own row is gone."""
    client = api.client(f"{strategy.name}-a")
    await client.create("left out")
    wanted = await client.create("wanted")
    search: dict[str, Any] = {"filter": {"name": {"eq": "wanted"}}}
    found = (await client.run("SearchResources", **search, first=1)).data["resources"]
    cursor = found["pageInfo"]["endCursor"]
    await client.run("UpdateResource", input={"id": wanted, "name": "left out as well"})

    for place, asked in (("after", "hasPreviousPage"), ("before", "hasNextPage")):
        page = (await client.run("SearchResources", **search, **{place: cursor})).data["resources"]
        assert (page["edges"], page["pageInfo"][asked]) == ([], False)


def test_a_difference_is_detected() -> None:
    """In a body, a status, a header, and in repeated values."""
    one = "01980000-0000-7000-8000-000000000001"
    two = "01980000-0000-7000-8000-000000000002"

    def recording(body: str, status: int = 200, **headers: str) -> list[Entry]:
        return normal([Entry("", status, tuple(headers.items()), body)])

    assert differences(recording(f'["{one}","{two}"]'), recording(f'["{two}","{one}"]')) == []
    assert differences(recording(f'["{one}","{two}"]'), recording(f'["{one}","{one}"]'))
    assert differences(recording('{"totalCount":1}'), recording('{"totalCount":2}'))
    assert differences(recording("x"), recording("x", 404))
    assert differences(recording("x"), recording("x", retry="1"))
