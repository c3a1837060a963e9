"""Partners on other installations: at the owner's, tenants that stand for them; at theirs, the tenants that share.

A tenant that stands for a partner is ``remote``: it is the partner of one tenant, has no people and no data, and its
home is that of a strategy with shared tables. Everything else about partners applies to it as to every tenant.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import (
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Table,
    UniqueConstraint,
    Uuid,
    func,
    insert,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import JSONB

from isola.database.transactions import Database, Transaction
from isola.errors import Forbidden, QuotaExceeded
from isola.platform.audit import audit_heads
from isola.platform.partnerships import partners
from isola.platform.tenants import metadata, tenants
from isola.subjects.metadata import identifier, indexed_text, moment
from isola_strategies.base import Capability, Strategy

MAX_PARTNERS = 100
"""The partners on other installations that a tenant ever had, and that were not dropped."""
MAX_INSTALLATION = 255
MAX_NAME = 200

remote_partners = Table(
    "remote_partners",
    metadata,
    # The tenant that stands for the partner.
    Column("tenant_id", Uuid, ForeignKey("control.tenants.id"), primary_key=True),
    # Whose partner it is.
    Column("owner_id", Uuid, ForeignKey("control.tenants.id"), nullable=False),
    # The name of the partner's installation, and the id of the partner there: iss and sub of its tokens.
    indexed_text("installation", MAX_INSTALLATION),
    Column("remote_id", Uuid, nullable=False),
    # The last partnership, which may have ended, and the public key that verifies its tokens, as a JSON Web Key.
    Column("partnership_id", Uuid, unique=True),
    Column("key", JSONB),
    Column("pinned_by", Uuid),
    moment("pinned_at", nullable=True, default=None),
    UniqueConstraint("owner_id", "installation", "remote_id"),
    CheckConstraint("octet_length(key::text) <= 4000", name="key_length"),
    CheckConstraint("(partnership_id IS NULL) = (key IS NULL)", name="pinned"),
)

# The tokens that were used, until they have expired.
remote_tokens = Table(
    "remote_tokens",
    metadata,
    Column("tenant_id", Uuid, ForeignKey("control.tenants.id"), primary_key=True),
    Column("id", Uuid, primary_key=True),
    moment("expires_at", default=None),
    Index(None, "expires_at"),
)

# At the partner's: the tenants of other installations that share with a tenant of this one.
remote_owners = Table(
    "remote_owners",
    metadata,
    identifier(),
    Column("tenant_id", Uuid, ForeignKey("control.tenants.id"), nullable=False),
    # As the tenant calls it.
    indexed_text("name", MAX_NAME),
    indexed_text("installation", MAX_INSTALLATION),
    # The id of the partnership there.
    Column("partnership_id", Uuid, nullable=False),
    Column("added_by", Uuid),
    moment("added_at"),
    UniqueConstraint("tenant_id", "installation", "partnership_id"),
)


@dataclass(frozen=True, slots=True)
class RemotePartner:
    """A partner on another installation, as its live partnership has it. ``key`` is a JSON Web Key."""

    tenant_id: UUID
    owner_id: UUID
    installation: str
    remote_id: UUID
    key: Mapping[str, Any]


_COLUMNS = tuple(remote_partners.c[name] for name in ("tenant_id", "owner_id", "installation", "remote_id", "key"))
_LIVE = select(*_COLUMNS).join(
    partners,
    (partners.c.id == remote_partners.c.partnership_id) & (partners.c.tenant_id == remote_partners.c.tenant_id),
)

# One statement checks the partnership and its key, and records the use. The database's clock decides what has expired,
# so a token whose use is forgotten cannot be used again.
_USE = """
WITH forgotten AS (
    DELETE FROM control.remote_tokens WHERE (tenant_id, id) IN (
        SELECT tenant_id, id FROM control.remote_tokens WHERE expires_at <= now()
        ORDER BY expires_at LIMIT 100 FOR UPDATE SKIP LOCKED
    )
)
INSERT INTO control.remote_tokens (tenant_id, id, expires_at)
SELECT r.tenant_id, $2, to_timestamp($3)
FROM control.remote_partners r JOIN control.partners p ON p.id = r.partnership_id AND p.tenant_id = r.tenant_id
WHERE r.partnership_id = $1 AND r.key = $4 AND to_timestamp($3) > now()
ON CONFLICT DO NOTHING
RETURNING true
"""


class RemotePartners:
    """Those of this installation, in the control plane."""

    def __init__(self, control: Database, strategies: Mapping[str, Strategy]) -> None:
        self._control = control
        self._strategies = strategies

    async def prepare(self, owner: UUID, *, installation: str, remote_id: UUID, name: str) -> UUID:
        """The tenant that stands for a partner of ``owner``; it is made if there is none. It is no partner yet.

        Raises QuotaExceeded, Forbidden where no strategy has shared tables, and Unavailable.
        """
        named = select(remote_partners.c.tenant_id).where(
            remote_partners.c.owner_id == owner,
            remote_partners.c.installation == installation,
            remote_partners.c.remote_id == remote_id,
        )
        count = select(func.count()).where(remote_partners.c.owner_id == owner)
        async with self._control.unbound() as transaction:
            # One at a time for each owner.
            await transaction.rows(select(tenants.c.id).where(tenants.c.id == owner).with_for_update(key_share=True))
            known: UUID | None = await transaction.scalar(named)
            if known is not None:
                renamed = update(tenants).where(tenants.c.id == known, tenants.c.name != name)
                await transaction.execute(renamed.values(name=name))
                return known
            if await transaction.scalar(count) >= MAX_PARTNERS:
                raise QuotaExceeded(f"there have been {MAX_PARTNERS} partners on other installations")
            made = await self._make(transaction, name)
            new = {"tenant_id": made, "owner_id": owner, "installation": installation, "remote_id": remote_id}
            await transaction.execute(insert(remote_partners).values(new))
            return made

    async def _make(self, transaction: Transaction, name: str) -> UUID:
        made: UUID = await transaction.value("SELECT isola.uuid_v7()")
        strategy = next(
            (each for _, each in sorted(self._strategies.items()) if _shares_tables(each, made)),
            None,
        )
        if strategy is None:
            raise Forbidden("partners on other installations need a strategy with shared tables")
        new = {
            "id": made,
            "slug": f"remote-{made}",
            "name": name,
            "strategy": strategy.name,
            "home": strategy.home(made).schema,
            "role": "none",
            "remote": True,
        }
        await transaction.execute(insert(tenants).values(new))
        # Needed from the beginning: a log without a head counts as tampered with.
        await transaction.execute(insert(audit_heads).values(tenant_id=made))
        return made

    async def find(self, partnership: UUID) -> RemotePartner | None:
        """The partner in a partnership; None if there is none, or if it has ended. Raises Unavailable."""
        async with self._control.unbound() as transaction:
            rows = await transaction.rows(_LIVE.where(remote_partners.c.partnership_id == partnership))
        return RemotePartner(**rows[0]) if rows else None

    async def use(self, partnership: UUID, key: Mapping[str, Any], token: UUID, expires_at: float) -> bool:
        """Record the use of a token that ``key`` has verified; ``expires_at`` is in seconds since 1970.

        False if it was used before or has expired, or if the partnership has ended or has another key. Raises
        Unavailable.
        """
        async with self._control.unbound() as transaction:
            return bool(await transaction.value(_USE, partnership, token, expires_at, dict(key)))


def _shares_tables(strategy: Strategy, tenant: UUID) -> bool:
    return Capability.SHARING in strategy.capabilities and strategy.home(tenant).role is None


def of_owner(owner: UUID) -> Any:
    """A statement that selects the slugs of the remote tenants of ``owner`` that have not been erased."""
    return (
        select(tenants.c.slug)
        .join(remote_partners, remote_partners.c.tenant_id == tenants.c.id)
        .where(remote_partners.c.owner_id == owner, tenants.c.remote, tenants.c.home.is_not(None))
        .order_by(tenants.c.id)
    )
