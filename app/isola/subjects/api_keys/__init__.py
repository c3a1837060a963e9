"""API keys of machines. They are stored outside of the tenants' tables, and accessed only by database functions."""

from collections.abc import Collection
from datetime import UTC, datetime
from uuid import UUID

from sqlalchemy import ARRAY, DateTime, LargeBinary, Text, func, literal, select

from isola.errors import BadUserInput, NotFound, QuotaExceeded
from isola.subjects import names, users
from isola.subjects.actor import Actor
from isola.subjects.permissions import Permission, all_permissions
from isola.subjects.work import Work

MAX_LIVE = 1000
MAX_NAME = 200


async def create(
    work: Work,
    actor: Actor,
    *,
    prefix: str,
    digest: bytes,
    name: str,
    permissions: Collection[str],
    expires_at: datetime | None = None,
) -> UUID:
    """Store a key as its public ``prefix`` and the SHA-256 ``digest`` of the whole key, and make the user it acts as.

    Raises Forbidden for permissions that the actor does not have, QuotaExceeded, and BadUserInput naming the invalid
    field.
    """
    actor.require(Permission.API_KEY_MANAGE)
    name = names.checked("name", name, MAX_NAME)
    if expires_at is not None and expires_at <= datetime.now(UTC):
        raise BadUserInput("expiresAt: expected a future time", "expiresAt")
    if not permissions or Permission.API_KEY_MANAGE in permissions:
        message = f"permissions: expected one at least, and not {Permission.API_KEY_MANAGE}: only people create keys"
        raise BadUserInput(message, "permissions")
    if not set(permissions) <= all_permissions():
        raise BadUserInput(f"permissions: expected any of {', '.join(sorted(all_permissions()))}", "permissions")
    actor.may_all(set(permissions)).enforce()
    keys = func.isola.api_keys().table_valued("revoked_at")
    if await work.scalar(select(func.count()).select_from(keys).where(keys.c.revoked_at.is_(None))) >= MAX_LIVE:
        raise QuotaExceeded(f"there are {MAX_LIVE} keys already: revoke one first")
    machine = await users.ensure(work, subject=f"key:{prefix}", name=name, email=None)
    key: UUID = await work.scalar(
        select(
            func.isola.create_api_key(
                prefix,
                literal(digest, LargeBinary()),
                name,
                literal(sorted(set(permissions)), ARRAY(Text())),
                machine,
                literal(expires_at, DateTime(timezone=True)),
            )
        )
    )
    return key


async def revoke(work: Work, actor: Actor, key_id: UUID) -> None:
    """Revoke a key permanently; its user keeps the rows that it made. Raises NotFound and Forbidden."""
    actor.require(Permission.API_KEY_MANAGE)
    if not await work.scalar(select(func.isola.revoke_api_key(key_id))):
        raise NotFound("there is no such key")
