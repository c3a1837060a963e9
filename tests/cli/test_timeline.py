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


async def test_all_signed_spans_are_verified_whoever_may_see_them(
    empty: Place, copy: Copy, owner: Database, database: Database
) -> None:
    """Also those that their signer may not see any more, because the owner of the database gave them to another."""
    there = {"ISOLA_DATABASE_URL": str(copy.where.owner)}
    tenant = await provisioning.named(owner, "rls-a")
    spans = [
        await signed(database, tenant, subject, author=author, visibility=visibility)
        for subject in ("ada", "bob")
        for author in (True, False)
        for visibility in ("private", "public")
    ]
    verify = ("timeline", "verify", "--tenant", "rls-a")
    assert empty.run(*verify, **there) == "8 signed spans: 8 verified, 0 failed\nOK\n"

    home = copy.strategies["rls"].home(tenant.id).schema
    async with owner.unbound() as work:
        bob = await work.value(f"SELECT author_id FROM {home}.spans WHERE id = $1", spans[4])
        await work.value(f"UPDATE {home}.spans SET author_id = $2 WHERE id = $1", spans[0], bob)
        await work.value(f"UPDATE {home}.spans SET title = 'read the meters' WHERE id = $1", spans[2])

    assert "rls-a: 2 of the signed spans are not as they were signed" in empty.fail(*verify, **there)
    async with owner.unbound() as work:
        failed = await work.texts(f"SELECT id::text FROM {home}.spans WHERE verification = 'failed'")
    assert sorted(failed) == sorted(str(spans[each]) for each in (0, 2))
