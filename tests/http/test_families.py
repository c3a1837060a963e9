"""``viewer.descendants``: a parent sees its own subtree, and nobody sees anything above or beside them."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from isola.platform import hierarchy, provisioning
from isola.subjects.permissions import Role
from isola.testing.fixtures import Copy
from isola.testing.served import Api, Client, make_tenant, serving
from isola_strategies.base import Strategy

LISTED = """
query (
  $filter: DescendantFilter, $orderBy: [DescendantOrder!], $first: Int, $after: String, $last: Int, $before: String
) {
  viewer {
    descendants(
      filter: $filter, orderBy: $orderBy, first: $first, after: $after, last: $last, before: $before
    ) {
      nodes { slug depth parentSlug status }
      pageInfo { startCursor endCursor hasNextPage hasPreviousPage }
      totalCount
    }
  }
}
"""


async def listed(client: Client, **variables: Any) -> list[dict[str, Any]]:
    nodes: list[dict[str, Any]] = (await page(client, **variables))["nodes"]
    return nodes


async def page(client: Client, **variables: Any) -> dict[str, Any]:
    found: dict[str, Any] = (await client.ask(LISTED, variables)).data["viewer"]["descendants"]
    return found


@pytest.fixture
async def api(copy: Copy, settings: Any, strategy: Strategy) -> AsyncIterator[Api]:
    """A server where a is above b, with two children of their own, and a further tree."""
    for slug in ("grandchild", "nephew", "stranger"):
        await make_tenant(copy, slug, strategy.name)
    async with serving(copy, settings) as api:
        await hierarchy.place(api.control, f"{strategy.name}-b", under=f"{strategy.name}-a")
        for slug in ("grandchild", "nephew"):
            await hierarchy.place(api.control, slug, under=f"{strategy.name}-b")
        yield api


async def test_descendants_are_listed_at_every_depth(alice: Client, bob: Client) -> None:
    below = [
        {"slug": "grandchild", "depth": 2, "parentSlug": bob.tenant, "status": "ACTIVE"},
        {"slug": "nephew", "depth": 2, "parentSlug": bob.tenant, "status": "ACTIVE"},
        {"slug": bob.tenant, "depth": 1, "parentSlug": alice.tenant, "status": "ACTIVE"},
    ]
    assert await listed(alice) == below
    # The depth is counted from the tenant that asks.
    assert await listed(bob) == [{**each, "depth": 1} for each in below[:2]]


async def test_nothing_above_or_beside_is_listed(api: Api, alice: Client, bob: Client) -> None:
    assert await listed(api.client("grandchild")) == await listed(api.client("stranger")) == []
    answers = json.dumps([await page(each) for each in (bob, api.client("nephew"))])
    assert alice.tenant not in answers
    assert "stranger" not in answers


async def test_suspended_descendants_are_listed_as_such_with_those_below(api: Api, alice: Client, bob: Client) -> None:
    await provisioning.suspend(api.control, "nephew")
    assert {each["slug"]: each["status"] for each in await listed(alice)} == {
        bob.tenant: "ACTIVE",
        "grandchild": "ACTIVE",
        "nephew": "SUSPENDED",
    }
    await provisioning.suspend(api.control, bob.tenant)
    assert {each["status"] for each in await listed(alice)} == {"SUSPENDED"}


async def test_the_plan_is_named(alice: Client, bob: Client) -> None:
    assert (await alice.run("Descendants", first=1)).data["viewer"]["descendants"]["nodes"] == [
        {
            "slug": "grandchild",
            "name": "Grandchild",
            "depth": 2,
            "parentSlug": bob.tenant,
            "status": "ACTIVE",
            "plan": "unlimited",
        }
    ]


async def test_they_are_filtered_ordered_and_paged(alice: Client, bob: Client) -> None:
    async def slugs(**variables: Any) -> list[str]:
        return [each["slug"] for each in await listed(alice, **variables)]

    assert await slugs(filter={"parentSlug": {"eq": bob.tenant}}) == ["grandchild", "nephew"]
    assert await slugs(filter={"depth": {"lt": 2}}) == [bob.tenant]
    assert await slugs(filter={"status": {"eq": "SUSPENDED"}}) == []
    assert await slugs(filter={"slug": {"startsWith": "ne"}}) == ["nephew"]
    by_depth = [{"field": "DEPTH"}, {"field": "SLUG", "direction": "DESC"}]
    assert await slugs(orderBy=by_depth) == [bob.tenant, "nephew", "grandchild"]

    first = await page(alice, first=2)
    assert (first["totalCount"], first["pageInfo"]["hasNextPage"]) == (3, True)
    assert await slugs(after=first["pageInfo"]["endCursor"]) == [bob.tenant]
    last = await page(alice, last=1)
    assert await slugs(last=2, before=last["pageInfo"]["startCursor"]) == ["grandchild", "nephew"]


async def test_a_tenant_that_moves_away_is_not_listed(api: Api, alice: Client, bob: Client) -> None:
    await hierarchy.place(api.control, bob.tenant, under="stranger")
    assert await listed(alice) == []
    assert len(await listed(api.client("stranger"))) == 3


@pytest.mark.parametrize("role", [Role.VIEWER, Role.EDITOR])
async def test_it_needs_a_permission(api: Api, alice: Client, role: Role) -> None:
    answer = await api.client(alice.tenant, role, role).ask("{ viewer { descendants { nodes { slug } } } }")
    assert (answer.body["data"], answer.error["message"]) == (
        {"viewer": None},
        "this needs the permission family:read",
    )


async def test_the_database_asks_for_the_permission(api: Api, alice: Client) -> None:
    """SQL in a transaction of a user without the permission finds nothing."""
    tenant = await provisioning.named(api.control, alice.tenant)
    for permissions, expected in (("", 0), ("resource:read", 0), ("family:read", 3)):
        async with api.tenants.transaction(tenant, read_only=True, about={"permissions": permissions}) as work:
            assert await work.value("SELECT count(*) FROM isola.descendants()") == expected
