"""The directory: which tenants there are, and where each has its home."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, Column, Index, MetaData, Table, Text, select, text
from sqlalchemy.dialects.postgresql import JSONB

from app.domain.metadata import identifier, metadata as domain, moment

SLUG = re.compile(r"[a-z][a-z0-9-]{0,61}[a-z0-9]", re.ASCII)

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
    # The role that transactions of this tenant have, 'none' where it is the login itself.
    Column("role", Text, nullable=False),
    moment("created_at"),
    CheckConstraint("slug ~ '^[a-z][a-z0-9-]{0,61}[a-z0-9]$'", name="slug"),
    CheckConstraint("status IN ('active', 'suspended', 'deleted')", name="status"),
    CheckConstraint("home IS NOT NULL OR status = 'deleted'", name="home"),
    # The slug of a deleted tenant is free again.
    Index(None, "slug", unique=True, postgresql_where=text("status <> 'deleted'")),
)


@dataclass(frozen=True, slots=True)
class Tenant:
    """One entry of the directory. ``strategy`` names the placement."""

    id: UUID
    slug: str
    name: str
    status: Status
    strategy: str
    settings: Mapping[str, Any]
    created_at: datetime


COLUMNS = tuple(tenants.c[field.name] for field in fields(Tenant))
ENTRY = select(*COLUMNS)


def entry(row: Mapping[str, Any]) -> Tenant:
    """What a row of ``COLUMNS`` says."""
    return Tenant(**{**row, "status": Status(row["status"])})
