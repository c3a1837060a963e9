"""Partnerships between tenants. Tenants read and write them through the functions of the schema ``isola`` only."""

from collections.abc import Iterable
from uuid import UUID

from sqlalchemy import CheckConstraint, Column, ForeignKey, Index, Table, UniqueConstraint, Uuid

from isola.database.transactions import Transaction
from isola.platform.tenants import metadata
from isola.subjects.metadata import identifier, indexed_text, moment

MAX_SLUG = 63
MAX_DOMAIN = 253

# The open offers. The functions that make them run the same statements whether the slug has a tenant or not.
partnership_offers = Table(
    "partnership_offers",
    metadata,
    identifier(),
    Column("tenant_id", Uuid, ForeignKey("control.tenants.id"), nullable=False),
    # As the offering tenant wrote it, and the only thing about the other that it can see.
    indexed_text("partner_slug", MAX_SLUG, least=2),
    # The tenant with that slug at the time, or an id that nobody has. No foreign key: it would take a lock and time.
    Column("partner_id", Uuid, nullable=False),
    # Null if the transaction proved no user: a worker's.
    Column("offered_by", Uuid),
    moment("offered_at"),
    UniqueConstraint("tenant_id", "partner_slug"),
    CheckConstraint("tenant_id <> partner_id", name="with_another"),
    Index(None, "partner_id", "tenant_id"),
)

# The last offer that a tenant declined, of each other tenant. Apart from the offers, which stay as they are.
partnership_declines = Table(
    "partnership_declines",
    metadata,
    Column("tenant_id", Uuid, ForeignKey("control.tenants.id"), primary_key=True),
    Column("offerer_id", Uuid, ForeignKey("control.tenants.id"), primary_key=True),
    # For the log.
    indexed_text("offerer_slug", MAX_SLUG, least=2),
    Column("offer_id", Uuid, nullable=False),
    Column("declined_by", Uuid),
    moment("declined_at"),
    Index(None, "offerer_id"),
)

# The accepted partnerships, one row for each of the two tenants.
partners = Table(
    "partners",
    metadata,
    Column("tenant_id", Uuid, ForeignKey("control.tenants.id"), primary_key=True),
    Column("partner_id", Uuid, ForeignKey("control.tenants.id"), primary_key=True),
    # For the log.
    indexed_text("partner_slug", MAX_SLUG, least=2),
    # The id of the partnership, in both rows. A later partnership of the same tenants has another.
    Column("id", Uuid, nullable=False),
    moment("offered_at", default=None),
    moment("accepted_at"),
    # The domain by whose rule the tenant accepted. Null in the row of its partner.
    indexed_text("by_domain", MAX_DOMAIN, nullable=True),
    CheckConstraint("tenant_id <> partner_id", name="with_another"),
    Index(None, "id"),
    Index(None, "partner_id"),
)

# The slugs whose offers a tenant neither sees nor accepts.
tenant_blocks = Table(
    "tenant_blocks",
    metadata,
    identifier(),
    Column("tenant_id", Uuid, ForeignKey("control.tenants.id"), nullable=False),
    indexed_text("slug", MAX_SLUG, least=2),
    # The tenant with that slug at the time, or an id that nobody has.
    Column("blocked_id", Uuid, nullable=False),
    Column("blocked_by", Uuid),
    moment("blocked_at"),
    UniqueConstraint("tenant_id", "slug"),
    Index(None, "tenant_id", "blocked_id"),
)

# The domains whose tenant a tenant accepts as a partner as soon as it offers that.
partner_domains = Table(
    "partner_domains",
    metadata,
    identifier(),
    Column("tenant_id", Uuid, ForeignKey("control.tenants.id"), nullable=False),
    # As in control.domains.
    indexed_text("name", MAX_DOMAIN),
    Column("added_by", Uuid),
    moment("added_at"),
    UniqueConstraint("tenant_id", "name"),
    CheckConstraint("name = lower(name)", name="name_lower"),
)

_ESTABLISH = """
WITH pairs AS MATERIALIZED (
    SELECT one, other, gen_random_uuid() AS id FROM unnest($1::uuid[], $2::uuid[]) AS pair (one, other)
)
INSERT INTO control.partners (tenant_id, partner_id, partner_slug, id, offered_at)
SELECT way.tenant_id, way.partner_id, t.slug, way.id, now()
FROM (SELECT one, other, id FROM pairs UNION ALL SELECT other, one, id FROM pairs) AS way (tenant_id, partner_id, id)
JOIN control.tenants t ON t.id = way.partner_id
ON CONFLICT DO NOTHING
"""


async def establish(owner: Transaction, pairs: Iterable[tuple[UUID, UUID]]) -> None:
    """Make pairs of tenants partners without asking them, and without entries in their logs.

    For tests and measurements; each pair is given once. ``owner`` is a transaction of the owner of the database.
    """
    ones, others = zip(*pairs, strict=True)
    await owner.value(_ESTABLISH, list(ones), list(others))
