"""An owner and a partner under every pair of strategies, and a stranger placed like the partner."""

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from itertools import product
from uuid import UUID

import pytest

from isola.database.transactions import Database
from isola.platform import provisioning
from isola.platform.tenants import Tenant
from isola.subjects import partnerships, shares
from isola.subjects.actor import Actor
from isola.subjects.permissions import Permission
from isola.testing.consent import make_partners
from isola.testing.fixtures import TRIED, Copy
from isola.testing.oracles.canary import Canary, Row, plant
from isola_strategies import registry
from isola_strategies.base import Capability

SHARING = sorted(
    name for name, strategy in registry.load("isola_tenant").items() if Capability.SHARING in strategy.capabilities
)
PAIRS = [pair for pair in product(SHARING, SHARING) if set(pair) & set(TRIED)]
PERMISSIONS = frozenset({"share:write", "resource:write", "span:write"})

Grant = Callable[..., Awaitable[UUID]]


def actor(canary: Canary) -> Actor:
    """The tenant's user, who owns its resource."""
    return Actor(canary.rows["users"]["id"], PERMISSIONS)


def manager(canary: Canary) -> Actor:
    """The tenant's user, as one who makes and ends partnerships."""
    return Actor(canary.rows["users"]["id"], frozenset({Permission.SHARE_MANAGE}))


async def offers(database: Database, canary: Canary) -> Sequence[Row]:
    """The offers that a tenant can answer."""
    async with database.transaction(canary.tenant) as work:
        return [dict(row) for row in await work._connection.fetch("SELECT * FROM isola.partnership_offers()")]


async def listed(database: Database, canary: Canary) -> Sequence[Row]:
    """The partnerships of a tenant, and its own offers."""
    async with database.transaction(canary.tenant) as work:
        return [dict(row) for row in await work._connection.fetch("SELECT * FROM isola.partnerships()")]


async def partner_up(database: Database, one: Canary, other: Canary) -> UUID:
    """Make two tenants partners, by an offer of the first."""
    async with database.transaction(one.tenant) as work:
        offer = await partnerships.offer(work, manager(one), other.tenant.slug)
    async with database.transaction(other.tenant) as work:
        await partnerships.accept(work, manager(other), offer)
    return offer


async def end_partnership(database: Database, canary: Canary, partnership: UUID) -> None:
    """End a partnership, or withdraw an offer."""
    async with database.transaction(canary.tenant) as work:
        await partnerships.end(work, manager(canary), partnership)


async def block(database: Database, canary: Canary, other: Canary) -> None:
    async with database.transaction(canary.tenant) as work:
        await partnerships.block(work, manager(canary), other.tenant.slug)


@pytest.fixture(params=PAIRS, ids="-to-".join)
def placements(request: pytest.FixtureRequest) -> tuple[str, str]:
    """The strategy of the owner, and that of the partner."""
    pair: tuple[str, str] = request.param
    return pair


@pytest.fixture
async def sharer(placements: tuple[str, str], control: Database, database: Database) -> Canary:
    return await plant(database, await provisioning.named(control, f"{placements[0]}-a"), "canary-sharer")


@pytest.fixture
async def partner(placements: tuple[str, str], control: Database, database: Database) -> Canary:
    return await plant(database, await provisioning.named(control, f"{placements[1]}-b"), "canary-partner")


@pytest.fixture
async def stranger(placements: tuple[str, str], copy: Copy, owner: Database, database: Database) -> Canary:
    made = await provisioning.create(owner, copy.strategies, slug="stranger", name="Stranger", strategy=placements[1])
    await make_partners(owner)
    return await plant(database, made, "canary-stranger")


@pytest.fixture
def grant(database: Database, sharer: Canary, partner: Canary) -> Grant:
    """Shares the owner's resource with the partner."""

    async def granted(until: datetime | None = None, *, to: Tenant = partner.tenant) -> UUID:
        async with database.transaction(sharer.tenant) as work:
            return await shares.grant(
                work, actor(sharer), "resource", sharer.rows["resources"]["id"], to.slug, expires_at=until
            )

    return granted


@pytest.fixture
async def spans_are_shared(owner: Database) -> None:
    """Make spans sharable: as if their table declared a shared column, and the database were migrated."""
    async with owner.unbound() as work:
        await work.script("INSERT INTO control.subjects (name, relation, shared) VALUES ('span', 'spans', '{title}')")
        for home in await work.texts("SELECT DISTINCT home FROM control.tenants WHERE home IS NOT NULL"):
            await work.script(f"GRANT SELECT (id, title) ON {home}.spans TO isola_sharing")
