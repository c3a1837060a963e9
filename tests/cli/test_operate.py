"""``isola operate`` and ``isola tenant move``, beside a running server without the owner's address."""

import asyncio
from pathlib import Path

import pytest

from isola.database.transactions import Database
from isola.platform import orders, provisioning
from isola.platform.orders import State
from isola.platform.platform_log import Author
from isola.server.installation import Installation
from isola.server.operator import operating
from isola.settings import Settings
from isola.testing.fixtures import Copy
from isola.testing.patience import PATIENCE
from tests.cli.processes import Place, finished

SAM = Author("staff:sam", "request-1")


@pytest.fixture
def place(copy: Copy, tmp_path: Path) -> Place:
    addresses = {"DATABASE": copy.where.owner, "TENANT": copy.where.tenant, "CONTROL": copy.where.control}
    return Place(tmp_path, {f"ISOLA_{name}_URL": str(address) for name, address in addresses.items()})


async def test_a_move_reports_each_step(owner: Database, copy: Copy, place: Place) -> None:
    here, *_, there = sorted(copy.strategies)
    await provisioning.create(owner, copy.strategies, slug="new", name="New", strategy=here)
    moving = await asyncio.to_thread(place.begin, "tenant", "move", "new", "--to", there)
    printed, said, status = await asyncio.to_thread(finished, moving)
    assert (status, printed) == (0, f"tenant new is placed under {there}\n")
    steps = [line.strip() for line in said.splitlines()]
    assert {"copying resources", "comparing audit_entries", "committing"} <= set(steps)


async def test_waiting_orders_are_executed(owner: Database, control: Database, copy: Copy, place: Place) -> None:
    names = sorted(copy.strategies)
    for name in names:
        await orders.create(control, copy.strategies, SAM, slug=f"of-{name}", name="New", strategy=name)
    doomed = await orders.create(control, copy.strategies, SAM, slug="taken", name="New", strategy=names[0])
    await provisioning.create(owner, copy.strategies, slug="taken", name="Sooner", strategy=names[0])

    carried = await asyncio.to_thread(place.begin, "operate", "--once")
    printed, said, status = await asyncio.to_thread(finished, carried)

    assert (status, printed) == (1, "")
    assert "create taken, ordered by staff:sam: failed: tenants: there is one with the same slug already" in said
    states = {order.slug: order.state for order in await orders.page(control, state=None, after=None, first=10)}
    assert states == {**{f"of-{name}": State.DONE for name in names}, doomed.slug: State.FAILED}


async def test_a_server_on_its_own_postgresql_carries_orders_out_itself(
    control: Database, copy: Copy, settings: Settings
) -> None:
    async with operating(Installation(settings, copy.where, copy.strategies)):
        order = await orders.create(
            control, copy.strategies, SAM, slug="new", name="New", strategy=min(copy.strategies)
        )
        async with asyncio.timeout(PATIENCE):
            while (found := await orders.find(control, order.id)) is None or found.finished_at is None:  # noqa: ASYNC110  nobody tells of it
                await asyncio.sleep(0.05)
    assert found.state is State.DONE
