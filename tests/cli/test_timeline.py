"""``isola timeline``."""

import base64
from uuid import UUID

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import insert, select, update

from isola.database.transactions import Database
from isola.platform import provisioning
from isola.platform.tenants import Tenant
from isola.subjects import users
from isola.subjects.signing_keys import signing_keys
from isola.subjects.spans import spans
from isola.subjects.spans.signatures import canonical
from isola.testing.fixtures import Copy
from tests.cli.processes import Place


async def signed(database: Database, tenant: Tenant) -> UUID:
    """A span with a good signature."""
    private = Ed25519PrivateKey.generate()
    public = base64.b64encode(private.public_key().public_bytes_raw()).decode()
    async with database.transaction(tenant) as work:
        user = await users.ensure(work, subject="ada", name=None, email=None)
        new = insert(signing_keys).values(owner_id=user, public_key=public)
        key = await work.scalar(new.returning(signing_keys.c.id))
        made = insert(spans).values(type="user", author_id=user, title="read the meter", visibility="public")
        span: UUID = await work.scalar(made.returning(spans.c.id))
        [row] = await work.rows(select(spans).where(spans.c.id == span))
        signature = base64.b64encode(private.sign(canonical(row))).decode()
        change = update(spans).where(spans.c.id == span)
        await work.execute(change.values(signing_key_id=key, signature=signature))
    return span


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
