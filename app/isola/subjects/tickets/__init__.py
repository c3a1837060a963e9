"""Tickets: each binds one transaction of a session that has only SQL to the tenant and its user. See docs/sql.md."""

from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from secrets import token_urlsafe
from uuid import UUID

from sqlalchemy import ARRAY, Integer, LargeBinary, Text, Uuid, bindparam, func, select

from isola.errors import BadUserInput, Forbidden, QuotaExceeded
from isola.subjects.actor import Actor
from isola.subjects.organizations import memberships
from isola.subjects.roles import standing_of
from isola.subjects.users import UserKind, kind_of
from isola.subjects.work import Work

MARK = "ist_"
MINUTES = 5
MAX_MINUTES = 60
MAX_UNUSED = 100
"""The most tickets of a user that are neither used nor expired, as ``isola.issue_ticket`` limits them."""
MAX_PROCESS = 2**31 - 1

_ISSUED = select(
    func.isola.issue_ticket(
        bindparam("digest", type_=LargeBinary()),
        bindparam("permissions", type_=ARRAY(Text())),
        bindparam("organization", type_=Uuid()),
        bindparam("process", type_=Integer()),
        bindparam("minutes", type_=Integer()),
    )
)
_MEMBER = select(memberships.c.user_id).where(
    memberships.c.organization_id == bindparam("organization", type_=Uuid()),
    memberships.c.user_id == bindparam("member", type_=Uuid()),
)


@dataclass(frozen=True, slots=True)
class Ticket:
    """A new ticket. Its ``text`` is a credential; it is stored nowhere."""

    text: str = field(repr=False)
    expires_at: datetime


async def issue(
    work: Work,
    actor: Actor,
    *,
    organization: UUID | None = None,
    process: int | None = None,
    minutes: int = MINUTES,
) -> Ticket:
    """Issue a ticket for the user that the transaction has proved, who is the actor.

    Spans are created for the ``organization`` unless they name another. ``process`` is the process id of the only
    session that can use it, as ``pg_backend_pid()`` returns it. Raises BadUserInput naming the field, Forbidden for an
    organization that the user does not belong to, and QuotaExceeded.
    """
    if not 1 <= minutes <= MAX_MINUTES:
        raise BadUserInput(f"minutes: expected a number from 1 to {MAX_MINUTES}", "minutes")
    if process is not None and not 1 <= process <= MAX_PROCESS:
        raise BadUserInput("process: expected the process id of a session, as pg_backend_pid() returns it", "process")
    if organization is not None:
        member = await work.scalar(_MEMBER, {"organization": organization, "member": actor.user_id})
        if member is None:
            raise Forbidden("organizationId: expected an organization that the user is a member of", "organizationId")
    # What the server knows of the user may be some seconds old, and a ticket would outlive roles that were taken since.
    # Guests have the permissions of a user of another tenant, and no role here.
    standing = await standing_of(work, actor.user_id)
    permissions = actor.permissions
    if standing is None or kind_of(standing.subject) is UserKind.PERSON:
        permissions = permissions & (standing.permissions if standing else frozenset())
    text = f"{MARK}{token_urlsafe(32)}"
    values = {
        "digest": sha256(text.encode()).digest(),
        "permissions": sorted(permissions),
        "organization": organization,
        "process": process,
        "minutes": minutes,
    }
    expires_at: datetime | None = await work.scalar(_ISSUED, values)
    if expires_at is None:
        raise QuotaExceeded(f"there are {MAX_UNUSED} unused tickets of this user: wait until they expire")
    return Ticket(text, expires_at)
