"""Custom domains of a tenant; each is active once its ownership is verified in DNS."""

from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from sqlalchemy import func, select

from isola.errors import BadUserInput, Conflict, NotFound, QuotaExceeded
from isola.subjects.actor import Actor
from isola.subjects.permissions import Permission
from isola.subjects.work import Work

MAX_DOMAINS = 100


@dataclass(frozen=True, slots=True)
class Claimed:
    """A domain, and the expected value of its TXT record."""

    name: str
    challenge: str


async def add(work: Work, actor: Actor, name: str) -> UUID:
    """Claim a domain, by its name in DNS, to be verified with a challenge. Repeating it sets a new challenge.

    It works even if another tenant has verified the domain. Raises Forbidden, QuotaExceeded, and Conflict if this
    tenant has already verified it.
    """
    actor.require(Permission.DOMAIN_MANAGE)
    domains = func.isola.domains().table_valued("name")
    if await work.scalar(select(func.count()).select_from(domains).where(domains.c.name != name)) >= MAX_DOMAINS:
        raise QuotaExceeded(f"there are {MAX_DOMAINS} domains already: remove one first")
    domain: UUID | None = await work.scalar(select(func.isola.add_domain(name)))
    if domain is None:
        raise Conflict("this domain is verified already", "name")
    return domain


async def claimed(work: Work, actor: Actor, domain_id: UUID) -> Claimed:
    """The record expected in DNS. Raises Forbidden, NotFound, and BadUserInput for an expired challenge."""
    actor.require(Permission.DOMAIN_MANAGE)
    domains = func.isola.domains().table_valued("id", "name", "challenge", "challenge_expires_at", "verified_at")
    rows = await work.rows(select(domains).where(domains.c.id == domain_id))
    if not rows:
        raise NotFound("there is no such domain")
    [row] = rows
    if row["verified_at"] is None and row["challenge_expires_at"] <= datetime.now(UTC):
        raise BadUserInput("domainId: its challenge has expired; add the domain again for a new one", "domainId")
    return Claimed(row["name"], row["challenge"])


async def verify(work: Work, actor: Actor, domain_id: UUID) -> None:
    """Activate a domain whose challenge a server has found in DNS.

    Raises Forbidden, and Conflict if the domain was removed or its challenge changed meanwhile, or if another tenant
    has verified it and not removed it.
    """
    actor.require(Permission.DOMAIN_MANAGE)
    if not await work.scalar(select(func.isola.verify_domain(domain_id))):
        raise Conflict("the domain or its challenge has changed: try again", "domainId")


async def remove(work: Work, actor: Actor, domain_id: UUID) -> None:
    """Remove a domain. Raises NotFound and Forbidden."""
    actor.require(Permission.DOMAIN_MANAGE)
    if not await work.scalar(select(func.isola.remove_domain(domain_id))):
        raise NotFound("there is no such domain")
