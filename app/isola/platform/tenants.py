"""The directory of tenants, with the home of each."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    MetaData,
    Table,
    Text,
    Uuid,
    func,
    select,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from isola.errors import TenantDeleted, TenantSuspended, Unavailable
from isola.platform import entitlements
from isola.platform.entitlements import NOTHING, Entitlements
from isola.subjects.metadata import identifier, metadata as domain, moment

SLUG = re.compile(r"[a-z][a-z0-9-]{0,61}[a-z0-9]", re.ASCII)
SLUG_FORM = "expected 2 to 63 of a-z, 0-9 and '-', a letter first and no '-' last"

metadata = MetaData(schema="control", naming_convention=domain.naming_convention)


class Status(StrEnum):
    ACTIVE = "active"
    SUSPENDED = "suspended"
    DELETED = "deleted"


tenants = Table(
    "tenants",
    metadata,
    identifier(),
    Column("slug", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("status", Text, nullable=False, server_default=text("'active'")),
    Column("settings", JSONB, nullable=False, server_default=text("'{}'")),
    Column("strategy", Text, nullable=False),
    # The schema that holds the tenant's tables, until they are erased.
    Column("home", Text),
    # The role of this tenant's transactions, 'none' for the login itself.
    Column("role", Text, nullable=False),
    moment("created_at"),
    moment("deleted_at", nullable=True, default=None),
    # Whether a deleted tenant had the slug: credentials that name this tenant by slug may be meant for that one.
    Column("slug_reused", Boolean, nullable=False, server_default=text("false")),
    # Triggers prevent cycles in the hierarchy and limit its depth.
    Column("parent_id", Uuid, ForeignKey("control.tenants.id")),
    # What hides the parent from its child in what it shares: see migrations/control/0001_family_shares.sql.
    Column("child_key", Uuid),
    moment("child_since", nullable=True, default=None),
    # The plan with its quotas: see isola.platform.plans.
    Column("plan", Text, ForeignKey("control.plans.name"), nullable=False, server_default=text("'unlimited'")),
    # The target strategy of a running move. Until it ends, nothing is written in the tenant.
    Column("moving_to", Text),
    moment("moved_at", nullable=True, default=None),
    # Whether it stands for a partner on another installation: see isola.platform.federation.
    Column("remote", Boolean, nullable=False, server_default=text("false")),
    # The subjects whose reads the log has: see isola.platform.sign_in_log.
    Column("logged_reads", ARRAY(Text), nullable=False, server_default=text("'{}'")),
    CheckConstraint("slug ~ '^[a-z][a-z0-9-]{0,61}[a-z0-9]$'", name="slug"),
    CheckConstraint("status IN ('active', 'suspended', 'deleted')", name="status"),
    CheckConstraint("home IS NOT NULL OR status = 'deleted'", name="home"),
    CheckConstraint("NOT remote OR parent_id IS NULL", name="remote_alone"),
    CheckConstraint("cardinality(logged_reads) <= 200", name="logged_reads"),
    # The slug of a deleted tenant can be reused.
    Index(None, "slug", unique=True, postgresql_where=text("status <> 'deleted'")),
    Index(None, "parent_id"),
    Index(None, "moved_at", postgresql_where=text("moved_at IS NOT NULL")),
)


@dataclass(frozen=True, slots=True)
class Tenant:
    """An entry of the directory. ``strategy`` names the placement; ``moving_to`` the target of a running move.

    ``slug_reused``: a deleted tenant had the slug before. ``entitlements`` are its features. ``remote``: it stands for
    a partner on another installation, and nobody signs in to it. ``logged_reads`` are the subjects whose reads are
    logged.
    """

    id: UUID
    slug: str
    name: str
    status: Status
    strategy: str
    settings: Mapping[str, Any]
    created_at: datetime
    parent_id: UUID | None = None
    plan: str = "unlimited"
    moving_to: str | None = None
    slug_reused: bool = False
    entitlements: Entitlements = NOTHING
    remote: bool = False
    logged_reads: frozenset[str] = frozenset()

    def require_active(self) -> None:
        """Raise TenantSuspended, TenantDeleted, or Unavailable while the tenant is being moved."""
        match self.status:
            case Status.SUSPENDED:
                raise TenantSuspended("the tenant is suspended")
            case Status.DELETED:
                raise TenantDeleted("the tenant is deleted")
        self.refuse_moving()

    def refuse_moving(self) -> None:
        """Raise Unavailable while the tenant is being moved."""
        if self.moving_to is not None:
            raise Unavailable("the tenant is being moved: try again in some seconds")


_ENTITLEMENTS = func.control.entitlements(tenants.c.id, tenants.c.plan, type_=JSONB()).label("entitlements")
COLUMNS = tuple(_ENTITLEMENTS if field.name == "entitlements" else tenants.c[field.name] for field in fields(Tenant))
ENTRY = select(*COLUMNS)
STATUS = func.control.status_of(tenants.c.id)
"""The effective status of a tenant: an active one is suspended while an ancestor is."""
SERVED = select(*(STATUS.label("status") if column is tenants.c.status else column for column in COLUMNS))
"""``ENTRY`` for requests, with the effective ``STATUS``."""


def entry(row: Mapping[str, Any]) -> Tenant:
    """A tenant from a row of ``COLUMNS``."""
    known = {
        "status": Status(row["status"]),
        "entitlements": entitlements.read(row["entitlements"]),
        "logged_reads": frozenset(row["logged_reads"]),
    }
    return Tenant(**{**row, **known})
