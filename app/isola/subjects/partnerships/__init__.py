"""Partnerships with other tenants. Only partners share; nobody learns of another tenant before that one agrees."""

from uuid import UUID

from sqlalchemy import func, select

from isola.errors import BadUserInput, Conflict, NotFound, QuotaExceeded
from isola.subjects.actor import Actor
from isola.subjects.permissions import Permission
from isola.subjects.work import Work

_NO_OFFER = "there is no such offer"


async def offer(work: Work, actor: Actor, slug: str) -> UUID:
    """Offer a partnership to the tenant of a slug; the id of the partnership. Offering it again changes nothing.

    The result does not reveal whether there is such a tenant, unless it accepts at once: because it has offered a
    partnership itself, or accepts offers from one of the tenant's verified domains. Raises Forbidden, BadUserInput for
    an invalid slug and the tenant's own, Conflict for a partner and a blocked tenant, and QuotaExceeded.
    """
    actor.require(Permission.SHARE_MANAGE)
    call = func.isola.offer_partnership(slug).table_valued("partnership", "refused")
    [row] = await work.rows(select(call))
    match row["refused"]:
        case "slug":
            raise _invalid()
        case "blocked":
            raise Conflict("the tenant is blocked: unblock it first", "slug")
        case "partner":
            raise Conflict("the tenant is a partner already", "slug")
        case "many":
            raise QuotaExceeded("there are too many open offers: end one first")
    made: UUID = row["partnership"]
    return made


async def accept(work: Work, actor: Actor, partnership: UUID) -> None:
    """Accept an offer of another tenant: each can share with the other. Raises Forbidden and NotFound."""
    actor.require(Permission.SHARE_MANAGE)
    if not await work.scalar(select(func.isola.accept_partnership(partnership))):
        raise NotFound(_NO_OFFER)


async def decline(work: Work, actor: Actor, partnership: UUID) -> None:
    """Decline an offer of another tenant, which is not notified. Raises Forbidden and NotFound."""
    actor.require(Permission.SHARE_MANAGE)
    if not await work.scalar(select(func.isola.decline_partnership(partnership))):
        raise NotFound(_NO_OFFER)


async def end(work: Work, actor: Actor, partnership: UUID) -> None:
    """End a partnership and all of its shares with the next statement; or withdraw an offer.

    Raises Forbidden and NotFound.
    """
    actor.require(Permission.SHARE_MANAGE)
    if not await work.scalar(select(func.isola.end_partnership(partnership))):
        raise NotFound("there is no such partnership")


async def block(work: Work, actor: Actor, slug: str) -> None:
    """Ignore all offers of the tenant of a slug, and end a partnership with it.

    The result does not reveal whether there is such a tenant. Raises Forbidden, BadUserInput for an invalid slug and
    the tenant's own, and QuotaExceeded.
    """
    actor.require(Permission.SHARE_MANAGE)
    match await work.scalar(select(func.isola.block_tenant(slug))):
        case "slug":
            raise _invalid()
        case "many":
            raise QuotaExceeded("too many tenants are blocked: unblock one first")


async def unblock(work: Work, actor: Actor, slug: str) -> None:
    """Undo ``block``: offers of the tenant are listed again. Raises Forbidden and NotFound."""
    actor.require(Permission.SHARE_MANAGE)
    if not await work.scalar(select(func.isola.unblock_tenant(slug))):
        raise NotFound("no tenant with this slug is blocked")


async def add_domain(work: Work, actor: Actor, name: str) -> None:
    """Accept later offers from the tenant that has verified a domain. Raises Forbidden and QuotaExceeded."""
    actor.require(Permission.SHARE_MANAGE)
    if not await work.scalar(select(func.isola.add_partner_domain(name))):
        raise QuotaExceeded("there are too many domains of partners: remove one first")


async def remove_domain(work: Work, actor: Actor, name: str) -> None:
    """Undo ``add_domain``; partnerships stay. Raises Forbidden and NotFound."""
    actor.require(Permission.SHARE_MANAGE)
    if not await work.scalar(select(func.isola.remove_partner_domain(name))):
        raise NotFound("there is no such domain")


def _invalid() -> BadUserInput:
    return BadUserInput("slug: expected the slug of another tenant", "slug")
