"""Staff order new tenants and moves over HTTP; an operator's process, or the server itself, carries them out."""

from collections.abc import AsyncIterator

import pytest

from isola.database.transactions import Database
from isola.platform import orders, provisioning
from isola.settings import Settings
from isola.testing.fixtures import Copy
from isola.testing.served import Api, Client, serving
from isola_strategies.base import Strategy
from tests.http.staff import StaffClient, admitting, token

CREATE = """mutation ($slug: String!, $strategy: String!, $parent: String) {
  createTenant(slug: $slug, name: "New", strategy: $strategy, parent: $parent) { id state } }"""
MOVE = "mutation ($slug: String!, $strategy: String!) { moveTenant(slug: $slug, strategy: $strategy) { id state } }"
CANCEL = "mutation ($id: ID!) { cancelOrder(id: $id) { state finishedAt } }"
ORDER = "query ($id: ID!) { order(id: $id) { kind slug strategy state orderedBy request message finishedAt } }"


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return admitting(settings)


@pytest.fixture
async def api(copy: Copy, settings: Settings) -> AsyncIterator[Api]:
    async with serving(copy, settings) as api:
        yield api


@pytest.fixture
def sam(api: Api) -> StaffClient:
    return StaffClient(api.http, token())


async def test_orders_create_and_move_a_tenant(
    copy: Copy, api: Api, owner: Database, sam: StaffClient, strategy: Strategy, other: Strategy
) -> None:
    placed = await sam.ask(CREATE, slug="new", strategy=strategy.name, parent=f"{strategy.name}-a")
    assert placed.data["createTenant"]["state"] == "WAITING"
    assert (await provisioning.page(api.control, status=None, after=None, first=100))[-1].slug != "new"
    await orders.carry_out(owner, copy.strategies)
    order = (await sam.ask(ORDER, id=placed.data["createTenant"]["id"])).data["order"]
    assert (order["kind"], order["slug"], order["strategy"], order["state"]) == ("CREATE", "new", strategy.name, "DONE")
    assert (order["orderedBy"], order["request"]) == ("staff:sam", placed.response.headers["x-request-id"])
    assert order["finishedAt"] is not None
    await api.client("new").create("of the new one")

    moving = (await sam.ask(MOVE, slug="new", strategy=other.name)).data["moveTenant"]["id"]
    await orders.carry_out(owner, copy.strategies)
    assert (await sam.ask(ORDER, id=moving)).data["order"]["state"] == "DONE"
    assert (await provisioning.named(api.control, "new")).strategy == other.name
    assert [row["name"] for row in (await api.content("new"))["resources"]] == ["of the new one"]
    listed = (await sam.ask("{ orders(first: 1, state: DONE) { id } }")).data["orders"]
    assert listed == [{"id": moving}]
    rest = await sam.ask("query ($a: ID) { orders(after: $a) { slug kind } }", a=moving)
    assert rest.data["orders"] == [{"slug": "new", "kind": "CREATE"}]


async def test_invalid_orders_are_refused_at_once(
    sam: StaffClient, alice: Client, strategy: Strategy, other: Strategy
) -> None:
    refused = {
        (CREATE, alice.tenant, strategy.name): "CONFLICT",
        (CREATE, "Not a slug", strategy.name): "BAD_USER_INPUT",
        (CREATE, "new", "moon"): "BAD_USER_INPUT",
        (MOVE, alice.tenant, "moon"): "BAD_USER_INPUT",
        (MOVE, alice.tenant, strategy.name): "CONFLICT",
        (MOVE, "nobody", other.name): "NOT_FOUND",
    }
    for (document, slug, where), code in refused.items():
        assert (await sam.ask(document, slug=slug, strategy=where)).code == code
    assert (await sam.ask("{ orders { id } }")).data["orders"] == []
    for bad in ("{ orders(first: 101) { id } }", '{ orders(after: "x") { id } }'):
        assert (await sam.ask(bad)).code == "BAD_USER_INPUT"
    assert (await sam.ask(ORDER, id="x")).data == {"order": None}


async def test_a_waiting_order_can_be_cancelled(sam: StaffClient, alice: Client, other: Strategy) -> None:
    placed = (await sam.ask(MOVE, slug=alice.tenant, strategy=other.name)).data["moveTenant"]["id"]
    # Only one open order per tenant.
    assert (await sam.ask(MOVE, slug=alice.tenant, strategy=other.name)).code == "CONFLICT"
    cancelled = (await sam.ask(CANCEL, id=placed)).data["cancelOrder"]
    assert cancelled["state"] == "CANCELLED"
    assert cancelled["finishedAt"] is not None
    assert (await sam.ask(CANCEL, id=placed)).code == "CONFLICT"
    assert (await sam.ask(CANCEL, id="x")).code == "NOT_FOUND"
