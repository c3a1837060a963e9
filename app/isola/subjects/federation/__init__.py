"""Partners on other installations, and the tokens by which the tenant's users read what other installations share.

Both sides agree: the owner pins the key of the partner's installation, and the partner remembers the partnership for
which it asks its own installation for tokens.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Interval, Text, func, literal, select
from sqlalchemy.dialects.postgresql import JSONB

from isola.errors import Conflict, NotFound, QuotaExceeded
from isola.subjects import names
from isola.subjects.actor import Actor
from isola.subjects.permissions import Permission
from isola.subjects.work import Work

MAX_NAME = 200
MAX_OWNERS = 100
"""As in isola.add_remote_owner()."""
VALID_FOR = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class Stated:
    """What a token says: for which partnership, with a tenant of which installation, and when."""

    token_id: UUID
    installation: str
    partnership_id: UUID
    issued_at: datetime
    expires_at: datetime


def named(name: str) -> str:
    """The name of a partner. Raises BadUserInput."""
    return names.checked("name", name, MAX_NAME)


async def add_partner(work: Work, actor: Actor, remote: UUID, key: Mapping[str, Any]) -> UUID:
    """Make a tenant that stands for a partner on another installation a partner, and pin the key; the partnership's id.

    Raises Forbidden, Conflict for one that is a partner already or is blocked, and NotFound.
    """
    actor.require(Permission.SHARE_MANAGE)
    call = func.isola.add_remote_partner(remote, literal(key, JSONB())).table_valued("partnership", "refused")
    [row] = await work.rows(select(call))
    match row["refused"]:
        case "partner":
            raise Conflict("it is a partner already: changeRemotePartnerKey pins another key")
        case "blocked":
            raise Conflict("the partner is blocked: unblock it first")
        case "remote":
            raise NotFound("there is no such partner")
    made: UUID = row["partnership"]
    return made


async def pin_key(work: Work, actor: Actor, partnership: UUID, key: Mapping[str, Any]) -> None:
    """Pin another key: tokens of the former one are refused. Raises Forbidden and NotFound."""
    actor.require(Permission.SHARE_MANAGE)
    if not await work.scalar(select(func.isola.pin_remote_key(partnership, literal(key, JSONB())))):
        raise NotFound("there is no such partnership with a partner on another installation")


async def add_owner(work: Work, actor: Actor, *, name: str, installation: str, partnership: UUID) -> UUID:
    """Remember a partnership with a tenant of another installation, under a name of one's own; its id here.

    Raises Forbidden, BadUserInput, Conflict for one that is known, and QuotaExceeded.
    """
    actor.require(Permission.SHARE_MANAGE)
    call = func.isola.add_remote_owner(
        literal(named(name), Text()), literal(installation, Text()), partnership
    ).table_valued("added", "refused")
    [row] = await work.rows(select(call))
    match row["refused"]:
        case "again":
            raise Conflict("this partnership is known already", "partnershipId")
        case "many":
            raise QuotaExceeded(
                f"there are {MAX_OWNERS} partnerships with other installations already: remove one first"
            )
    added: UUID = row["added"]
    return added


async def remove_owner(work: Work, actor: Actor, remote: UUID) -> None:
    """Forget a partnership with a tenant of another installation. Raises Forbidden and NotFound."""
    actor.require(Permission.SHARE_MANAGE)
    if not await work.scalar(select(func.isola.remove_remote_owner(remote))):
        raise _missing()


async def state(work: Work, actor: Actor, remote: UUID) -> Stated:
    """What a new token for a partnership with a tenant of another installation says. It is in the log from now on.

    Raises Forbidden and NotFound.
    """
    actor.require(Permission.FEDERATION_WRITE)
    call = func.isola.note_remote_token(remote, literal(VALID_FOR, Interval())).table_valued(*Stated.__slots__)
    rows = await work.rows(select(call))
    if not rows:
        raise _missing()
    return Stated(**rows[0])


def _missing() -> NotFound:
    return NotFound("there is no such partnership with a tenant of another installation")
