"""Invitations to become a user of a tenant, and the queue of those to send.

Tenants read and write them through the functions of the schema ``isola`` only. The token of an invitation is stored as
a hash, and not at all until it is sent: each attempt to send makes another, so a crash loses no invitation, and the
database never has a token.
"""

from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from uuid import UUID

from sqlalchemy import (
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    Table,
    UniqueConstraint,
    Uuid,
    bindparam,
    func,
    select,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY

from isola.database.transactions import Database
from isola.platform.tenants import Tenant, metadata
from isola.subjects.metadata import identifier, indexed_text, moment
from isola.subjects.users import MAX_EMAIL

ATTEMPTS = 6
"""How often a server tries to send an invitation, within about six hours."""

invitations = Table(
    "invitations",
    metadata,
    identifier(),
    Column("tenant_id", Uuid, ForeignKey("control.tenants.id"), nullable=False),
    indexed_text("email", MAX_EMAIL),
    # The roles that the invited person gets, and their organization: rows of the tenant.
    Column("role_ids", ARRAY(Uuid), nullable=False),
    Column("organization_id", Uuid),
    Column("invited_by", Uuid, nullable=False),
    # SHA-256 of the token; none until it is sent.
    Column("digest", LargeBinary),
    moment("created_at"),
    moment("expires_at", default=None),
    Column("attempts", Integer, nullable=False, server_default=text("0")),
    # None if it has been sent, or never will be.
    moment("next_attempt_at", nullable=True, default=None),
    moment("sent_at", nullable=True, default=None),
    moment("failed_at", nullable=True, default=None),
    moment("accepted_at", nullable=True, default=None),
    Column("accepted_by", Uuid),
    moment("revoked_at", nullable=True, default=None),
    CheckConstraint("length(digest) = 32", name="digest_length"),
    CheckConstraint("cardinality(role_ids) <= 100", name="role_ids_length"),
    UniqueConstraint("digest"),
    Index(None, "tenant_id", "id"),
    Index(None, "expires_at"),
    Index(None, "next_attempt_at", postgresql_where=text("next_attempt_at IS NOT NULL")),
)


@dataclass(frozen=True, slots=True, repr=False)  # without repr: it is personal data
class Invitation:
    """An open invitation; ``digest`` is the one of its token."""

    id: UUID
    tenant_id: UUID
    email: str
    digest: bytes


@dataclass(frozen=True, slots=True, repr=False)  # without repr: it is personal data
class Due:
    """An invitation that this server has to send now; the ``attempts`` include this one."""

    id: UUID
    tenant_id: UUID
    tenant_name: str
    email: str
    expires_at: datetime
    attempts: int


def digest_of(token: str) -> bytes:
    """The stored form of a token. A fast hash is enough for 256 random bits."""
    return sha256(token.encode()).digest()


async def find(control: Database, token: str) -> Invitation | None:
    """The open invitation with this token, None if there is none."""
    digest = digest_of(token)
    async with control.unbound() as work:
        rows = await work.rows(_OPEN.where(invitations.c.digest == digest))
    return Invitation(**rows[0], digest=digest) if rows else None


async def claim(control: Database, token: str) -> Due | None:
    """Take an invitation that is due, and give it this token instead of the one of an earlier attempt.

    None if none is due. If the server ends before it is ``sent``, another takes it when the next attempt is due.
    """
    async with control.unbound() as work:
        rows = await work.rows(_CLAIM, {"digest": digest_of(token)})
    return Due(**rows[0]) if rows else None


async def sent(control: Database, due: Due) -> None:
    """Record that an invitation was handed over to the mail server."""
    async with control.unbound() as work:
        await work.value(_SENT, due.id)


async def fail(tenants: Database, tenant: Tenant, due: Due) -> None:
    """Give an invitation up, in its tenant's log as well."""
    async with tenants.transaction(tenant) as work:
        await work.scalar(select(func.isola.fail_invitation(due.id)))


async def forget(control: Database) -> None:
    """Delete invitations that expired more than 30 days ago."""
    async with control.unbound() as work:
        await work.value(_FORGET)


_OPEN = select(invitations.c.id, invitations.c.tenant_id, invitations.c.email).where(
    invitations.c.accepted_at.is_(None), invitations.c.revoked_at.is_(None), invitations.c.expires_at > func.now()
)
# The next attempt is after 1, 4, 16, 64 and 240 minutes. SKIP LOCKED: servers skip what another takes.
_CLAIM = text("""
UPDATE control.invitations i SET
    digest = :digest, attempts = attempts + 1, next_attempt_at = now() + least(4 ^ attempts, 240) * interval '1 minute'
FROM control.tenants t
WHERE t.id = i.tenant_id AND i.id = (
    SELECT d.id FROM control.invitations d JOIN control.tenants o ON o.id = d.tenant_id
    WHERE d.next_attempt_at <= now() AND d.accepted_at IS NULL AND d.revoked_at IS NULL AND d.expires_at > now()
      AND o.status = 'active'
    ORDER BY d.next_attempt_at LIMIT 1 FOR UPDATE OF d SKIP LOCKED
)
RETURNING i.id, i.tenant_id, t.name AS tenant_name, i.email, i.expires_at, i.attempts
""").bindparams(bindparam("digest", type_=LargeBinary()))
_SENT = "UPDATE control.invitations SET sent_at = now(), next_attempt_at = NULL WHERE id = $1"
_FORGET = "DELETE FROM control.invitations WHERE expires_at < now() - interval '30 days'"
