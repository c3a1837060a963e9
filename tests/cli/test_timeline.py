"""``isola timeline``."""

from isola.database.transactions import Database
from isola.platform import provisioning
from isola.testing.fixtures import Copy
from tests.cli.processes import Place
from tests.signed_spans import signed


async def test_spans_that_are_not_as_they_were_signed_are_named(
    empty: Place, copy: Copy, owner: Database, database: Database
) -> None:
    assert copy.where.owner
    there = {"ISOLA_DATABASE_URL": copy.where.owner}
    tenant = await provisioning.named(owner, "schema-a")
    good, bad = await signed(database, tenant), await signed(database, tenant)
    verify = ("timeline", "verify", "--tenant", "schema-a")
    assert empty.run(*verify, **there) == "2 signed spans: 2 verified, 0 failed\nOK\n"

    async with owner.unbound() as work:
        home = copy.strategies["schema"].home(tenant.id).schema
        await work.value(f"UPDATE {home}.spans SET title = 'read the meters' WHERE id = $1", bad)

    error = empty.fail(*verify, **there)
    assert "schema-a: 1 of the signed spans are not as they were signed" in error
    async with database.transaction(tenant, read_only=True) as inside:
        states = await inside.pairs("SELECT id::text, verification FROM spans WHERE signature IS NOT NULL")
    assert states == {str(good): "verified", str(bad): "failed"}
