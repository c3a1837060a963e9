"""Sessions of people: each is a chain of refresh tokens, of which only the last is valid, and only once.

Refresh tokens are stored as hashes; a fast hash is enough for 256 random bits. If one is used a second time, two
parties have it, and the legitimate one cannot be determined: the session ends.

Two tabs of a browser may refresh at the same moment. So a use within the reuse interval after the first gets the same
next token. Each token is derived from the one before it, because only hashes are stored: the chain cannot fork, and who
stole a token in that moment is detected at the next refresh.
"""

import hmac
import secrets
from base64 import urlsafe_b64encode
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from hashlib import sha256
from uuid import UUID

from sqlalchemy import (
    CheckConstraint,
    Column,
    ColumnElement,
    ForeignKey,
    Index,
    LargeBinary,
    Table,
    Text,
    Update,
    Uuid,
    and_,
    bindparam,
    delete,
    func,
    insert,
    or_,
    select,
    text,
    update,
)

from isola.database.transactions import Transaction
from isola.errors import TenantDeleted, TenantSuspended, Unavailable
from isola.platform import revocations
from isola.platform.clients import MAX_ADDRESS, MAX_USER_AGENT
from isola.platform.revocations import Revocable
from isola.platform.tenants import ENTRY, STATUS, Status, Tenant, entry, metadata, tenants
from isola.subjects.metadata import identifier, indexed_text, moment
from isola.subjects.work import Work

_RANDOM_BYTES = 32
# Longer than a token of the session may be accepted after it has expired, because of clock differences.
_AFTERLIFE = timedelta(hours=1)
# The steps of a chain that a repeated use follows. A client that refreshes more often within the interval has a bug.
_MOST_STEPS = 10
# Longer than a sign-in takes after its preparation.
_PREPARED_FOR = timedelta(minutes=10)
# For this long after it has expired, the end of a session may still be written to the tenant's log.
_KEPT_FOR = timedelta(days=1)


class End(StrEnum):
    """Why a session ended before it expired."""

    REUSE = "reuse"
    REVOCATION = "revocation"
    SIGN_OUT = "sign_out"


sessions = Table(
    "sessions",
    metadata,
    identifier(),
    Column("tenant_id", Uuid, ForeignKey("control.tenants.id"), nullable=False),
    Column("subject", Text, nullable=False),
    # None until the session begins, with its entry in the tenant's log. Only then can it be refreshed.
    Column("user_id", Uuid),
    moment("created_at"),
    moment("expires_at", default=None),
    # An ended session stays until the tenant's log records its end: see isola.platform.sign_in_log.
    moment("ended_at", nullable=True, default=None),
    Column("ended_for", Text),
    # What the client calls itself, so that users recognize their sessions.
    indexed_text("user_agent", MAX_USER_AGENT, nullable=True),
    # Where the user signed in from, for the tenant's log.
    indexed_text("address", MAX_ADDRESS, nullable=True),
    CheckConstraint("ended_for IN ('reuse', 'revocation', 'sign_out')", name="ended_for"),
    CheckConstraint("ended_at IS NULL OR ended_for IS NOT NULL", name="ended"),
    Index(None, "expires_at"),
    Index(None, "tenant_id", "user_id", postgresql_where=text("ended_at IS NULL")),
    Index(None, "created_at", postgresql_where=text("user_id IS NULL")),
    Index(None, "tenant_id", postgresql_where=text("ended_at IS NOT NULL")),
)

refresh_tokens = Table(
    "refresh_tokens",
    metadata,
    Column("hash", LargeBinary, primary_key=True),
    Column("session_id", Uuid, ForeignKey("control.sessions.id", ondelete="CASCADE"), nullable=False),
    moment("expires_at", default=None),
    moment("used_at", nullable=True, default=None),
    Index(None, "session_id"),
)


@dataclass(frozen=True, slots=True)
class Lifetimes:
    """The maximum lifetime of a session, its lifetime without a refresh, and the reuse interval of its tokens."""

    session: timedelta
    idle: timedelta
    reuse: timedelta = timedelta()


@dataclass(frozen=True, slots=True)
class Session:
    """A live session. ``now`` is the database's time, which its revocations are compared with."""

    id: UUID
    tenant_id: UUID
    subject: str
    created_at: datetime
    expires_at: datetime
    now: datetime


@dataclass(frozen=True, slots=True, repr=False)  # without repr: it holds a credential
class Refreshed:
    session: Session
    refresh_token: str


async def prepare(
    control: Transaction,
    tenant: UUID,
    subject: str,
    lifetimes: Lifetimes,
    user_agent: str | None = None,
    address: str | None = None,
) -> Refreshed:
    """Prepare a session of a tenant's user; ``begin`` begins it. Also deletes expired sessions."""
    await control.execute(_EXPIRED)
    new = insert(sessions).values(
        tenant_id=tenant,
        subject=subject,
        expires_at=func.now() + lifetimes.session,
        user_agent=user_agent,
        address=address,
    )
    [row] = await control.rows(new.returning(*_SESSION))
    return await _continued(control, Session(**row), lifetimes, secrets.token_urlsafe(_RANDOM_BYTES))


async def begin(work: Work, session: UUID, user_id: UUID) -> None:
    """Begin a prepared session, in a transaction inside its tenant, atomically with its log entry.

    Raises Unavailable if it was prepared too long ago.
    """
    if not await work.scalar(_BEGIN, {"session": session, "user": user_id}):
        raise Unavailable("the session could not begin in time: try again")


async def refresh(control: Transaction, issuer: str, token: str, lifetimes: Lifetimes, key: bytes) -> Refreshed | None:
    """Consume a refresh token and issue the next; None if it is not valid. Commit in either case.

    A token that was used within the reuse interval gets the last token of its session again. If it was used before
    that, its session is ended. ``issuer`` signs the access tokens of sessions; ``key`` derives the next token. Raises
    TenantSuspended and TenantDeleted, which do not consume the token.
    """
    use = update(refresh_tokens).where(
        refresh_tokens.c.hash == _hash(token),
        refresh_tokens.c.used_at.is_(None),
        refresh_tokens.c.expires_at > func.now(),
    )
    # Of two concurrent calls, the second waits here for the first, and finds the token used.
    used = await control.scalar(use.values(used_at=func.now()).returning(refresh_tokens.c.session_id))
    last = None
    if used is None:
        used, last = await _used_just_now(control, token, lifetimes.reuse, key)
    if used is None:
        await _end(control, issuer, token, End.REUSE, refresh_tokens.c.used_at.is_not(None))
        return None
    rows = await control.rows(
        select(*_SESSION, STATUS.label("status")).join_from(sessions, tenants).where(sessions.c.id == used, _LIVE)
    )
    if not rows:
        return None
    [row] = rows
    status, session = row["status"], Session(**{name: value for name, value in row.items() if name != "status"})
    match status:
        case Status.SUSPENDED:
            raise TenantSuspended("the tenant is suspended")
        case Status.DELETED:
            raise TenantDeleted("the tenant is deleted")
    revoked = await revocations.find(
        control,
        Revocable.user(session.tenant_id, session.subject),
        [Revocable.session(issuer, str(session.id))],
    )
    if any(session.created_at.timestamp() < not_before for not_before in revoked.values()):
        await control.execute(_ended(End.REVOCATION).where(sessions.c.id == session.id))
        return None
    if last is not None:
        return Refreshed(session, last)
    return await _continued(control, session, lifetimes, _next(key, token))


async def end(control: Transaction, issuer: str, token: str) -> None:
    """End the session that a refresh token belongs to, used or not; an unknown token is ignored."""
    await _end(control, issuer, token, End.SIGN_OUT)


async def revoke(control: Transaction, issuer: str, session: str) -> Tenant | None:
    """End a session, with all its access tokens; its tenant, whose log must record that. None if it is not live."""
    try:
        condition = sessions.c.id == UUID(session)
    except ValueError:
        return None
    ended = await _end_all(control, issuer, End.REVOCATION, condition)
    rows = await control.rows(ENTRY.where(tenants.c.id.in_(ended)))
    return entry(rows[0]) if rows else None


_SESSION = (
    sessions.c.id,
    sessions.c.tenant_id,
    sessions.c.subject,
    sessions.c.created_at,
    sessions.c.expires_at,
    func.now().label("now"),
)
_LIVE = and_(sessions.c.user_id.is_not(None), sessions.c.ended_at.is_(None))
_EXPIRED = delete(sessions).where(
    or_(
        and_(sessions.c.expires_at < func.now(), sessions.c.ended_at.is_(None)),
        sessions.c.expires_at < func.now() - _KEPT_FOR,
        and_(sessions.c.user_id.is_(None), sessions.c.created_at < func.now() - _PREPARED_FOR),
    )
)
_BEGIN = select(func.isola.begin_session(bindparam("session", type_=Uuid()), bindparam("user", type_=Uuid())))


async def _continued(control: Transaction, session: Session, lifetimes: Lifetimes, token: str) -> Refreshed:
    expires_at = min(session.now + lifetimes.idle, session.expires_at)
    await control.execute(
        insert(refresh_tokens).values(hash=_hash(token), session_id=session.id, expires_at=expires_at)
    )
    return Refreshed(session, token)


async def _used_just_now(
    control: Transaction, token: str, interval: timedelta, key: bytes
) -> tuple[UUID | None, str | None]:
    """The session of a token that was used within the interval, and the last token of the session; else None."""
    if not interval:
        return None, None  # not even for calls at the same moment
    just_now = refresh_tokens.c.used_at > func.now() - interval
    condition: ColumnElement[bool] = just_now
    for _ in range(_MOST_STEPS):
        found = select(refresh_tokens.c.session_id, refresh_tokens.c.used_at).where(
            refresh_tokens.c.hash == _hash(token), refresh_tokens.c.expires_at > func.now(), condition
        )
        rows = await control.rows(found)
        if not rows:
            break
        if rows[0]["used_at"] is None:
            return rows[0]["session_id"], token
        token, condition = _next(key, token), or_(refresh_tokens.c.used_at.is_(None), just_now)
    return None, None


def _next(key: bytes, token: str) -> str:
    """The token that follows another. Without the key it is as good as random."""
    return urlsafe_b64encode(hmac.digest(key, token.encode(), "sha256")).rstrip(b"=").decode()


async def _end(control: Transaction, issuer: str, token: str, reason: End, *conditions: ColumnElement[bool]) -> None:
    belongs = select(refresh_tokens.c.session_id).where(refresh_tokens.c.hash == _hash(token), *conditions)
    await _end_all(control, issuer, reason, sessions.c.id == belongs.scalar_subquery())


async def _end_all(control: Transaction, issuer: str, reason: End, condition: ColumnElement[bool]) -> list[UUID]:
    """End sessions, with all their access tokens; the tenants that they belonged to."""
    ended = _ended(reason).where(condition)
    rows = await control.rows(ended.returning(sessions.c.id, sessions.c.expires_at, sessions.c.tenant_id))
    for row in rows:
        revocable = Revocable.session(issuer, str(row["id"]))
        await revocations.revoke(control, revocable, until=row["expires_at"] + _AFTERLIFE)
    return [row["tenant_id"] for row in rows]


def _ended(reason: End) -> Update:
    return update(sessions).where(_LIVE).values(ended_at=func.now(), ended_for=reason.value)


def _hash(token: str) -> bytes:
    return sha256(token.encode(errors="surrogatepass")).digest()
