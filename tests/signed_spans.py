"""Spans with good signatures, for tests of what notices others."""

import base64
from uuid import UUID

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import insert, select, update

from isola.database.transactions import Database
from isola.platform.tenants import Tenant
from isola.subjects import users
from isola.subjects.actor import Actor
from isola.subjects.permissions import Permission
from isola.subjects.signing_keys import signing_keys
from isola.subjects.spans import spans
from isola.subjects.spans.signatures import canonical


async def signed(
    database: Database, tenant: Tenant, subject: str = "ada", *, author: bool = True, visibility: str = "public"
) -> UUID:
    """A span with a good signature by a new key of a user, who is its author, or nobody is."""
    private = Ed25519PrivateKey.generate()
    public = base64.b64encode(private.public_key().public_bytes_raw()).decode()
    async with database.transaction(tenant) as work:
        user = await users.ensure(work, subject=subject, name=None, email=None)
    about = Actor(user, {Permission.GHOST_READ}).reader
    async with database.transaction(tenant, about=about) as work:
        new = insert(signing_keys).values(owner_id=user, public_key=public)
        key = await work.scalar(new.returning(signing_keys.c.id))
        type_ = "user" if author else "system"
        made = insert(spans).values(type=type_, author_id=user if author else None, visibility=visibility)
        span: UUID = await work.scalar(made.values(title="read the meter").returning(spans.c.id))
        [row] = await work.rows(select(spans).where(spans.c.id == span))
        signature = base64.b64encode(private.sign(canonical(row))).decode()
        change = update(spans).where(spans.c.id == span)
        await work.execute(change.values(signing_key_id=key, signature=signature))
    return span
