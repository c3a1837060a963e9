"""The effects when the owner turns the proofs of transactions off, and on again."""

import asyncpg
import pytest
from structlog.testing import capture_logs

from isola.database.transactions import Database
from isola.errors import Conflict, Unavailable
from isola.platform import moves, proofs
from isola.platform.platform_log import Author, page
from isola.testing.fixtures import Copy
from isola.testing.oracles.canary import Canary, content
from isola_strategies.base import Strategy

BY = Author("operator:ada")


async def reached(database: Database, strategy: Strategy, a: Canary, b: Canary) -> bool:
    """Whether injected SQL in a transaction of A reads rows of B."""
    with capture_logs():
        try:
            async with database.transaction(a.tenant) as work:
                await work.script(f"RESET ROLE; {strategy.bind(b.tenant.id)}")
                return b.traced_in(await work._connection.fetch("SELECT * FROM users"))
        except (Unavailable, asyncpg.PostgresError):
            return False


async def test_only_the_owner_can_disable_proofs_and_enable_them_again(
    copy: Copy, owner: Database, database: Database, strategy: Strategy, canary_a: Canary, canary_b: Canary
) -> None:
    own = await content(database, canary_a.tenant)
    for login in (copy.where.tenant, copy.where.control):
        connection = await asyncpg.connect(login)
        try:
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(proofs.TRUSTED)
        finally:
            await connection.close()
    assert not await reached(database, strategy, canary_a, canary_b)

    await proofs.believe(owner, BY)
    assert await reached(database, strategy, canary_a, canary_b)
    assert await content(database, canary_a.tenant) == own

    await proofs.demand(owner, BY)
    assert not await reached(database, strategy, canary_a, canary_b)
    assert await content(database, canary_a.tenant) == own


async def test_each_change_of_proofs_is_logged_once(owner: Database, control: Database) -> None:
    await proofs.demand(owner, BY)
    await proofs.believe(owner, BY)
    await proofs.believe(owner, BY)
    await proofs.demand(owner, BY)
    entries = await page(control, object="platform:proofs", first=10)
    assert [(entry.actor, entry.action, entry.new) for entry in entries] == [
        (BY.actor, "proofs:demand", {"demanded": True}),
        (BY.actor, "proofs:believe", {"demanded": False}),
    ]


async def test_moving_tenants_requires_proofs(
    copy: Copy, owner: Database, database: Database, other: Strategy, canary_a: Canary
) -> None:
    before = await content(database, canary_a.tenant)
    mark = "UPDATE control.tenants SET moving_to = $1 WHERE id = $2"
    async with owner.unbound() as work:
        await work.value(mark, other.name, canary_a.tenant.id)
    with pytest.raises(Conflict, match="is being moved: proofs are required"):
        await proofs.believe(owner, BY)
    async with owner.unbound() as work:
        assert await proofs.demanded(work)
        await work.value(mark, None, canary_a.tenant.id)

    await proofs.believe(owner, BY)
    with pytest.raises(Conflict, match="requires proofs of bindings"):
        await moves.move(owner, copy.strategies, canary_a.tenant.slug, to=other.name)
    assert await content(database, canary_a.tenant) == before
