"""Spans with good signatures, for tests of what notices others."""

import base64
from uuid import UUID

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import insert, select, update

from isola.database.transactions import Database
from isola.platform.tenants import Tenant
from isola.subjects import users
from isola.subjects.signing_keys import signing_keys
from isola.subjects.spans import spans
from isola.subjects.spans.signatures import canonical


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
