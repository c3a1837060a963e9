"""What tenants use: events, their sums by meter and period, and the keys under which events were counted.

Tenants read and write them through the functions of the schema ``isola`` only: see migrations/control/0001_usage.sql.
"""

from sqlalchemy import (
    BigInteger,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    Table,
    UniqueConstraint,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from isola.platform.tenants import metadata
from isola.subjects.metadata import identifier, indexed_text, moment
from isola.subjects.meters import MAX_NAME
from isola.subjects.usage import MAX_CUSTOMER

usage = Table(
    "usage",
    metadata,
    identifier(),
    Column("tenant_id", Uuid, ForeignKey("control.tenants.id"), nullable=False),
    indexed_text("meter", MAX_NAME),
    # '' for all that the tenant used.
    indexed_text("customer", MAX_CUSTOMER),
    moment("starts_at", default=None),
    Column("quantity", BigInteger, nullable=False),
    Column("events", BigInteger, nullable=False),
    # Those that came after the period had ended.
    Column("late", BigInteger, nullable=False),
    # The highest percentage of the limit of which the tenant was told.
    Column("warned", Integer, nullable=False, server_default=text("0")),
    moment("changed_at"),
    UniqueConstraint("tenant_id", "meter", "customer", "starts_at"),
    postgresql_with={"fillfactor": 50, "autovacuum_vacuum_scale_factor": 0},
)

# The tables below have no foreign keys: each write would pay for them. Only a function writes rows.
usage_events = Table(
    "usage_events",
    metadata,
    Column("tenant_id", Uuid, nullable=False),
    indexed_text("meter", MAX_NAME),
    indexed_text("customer", MAX_CUSTOMER, nullable=True),
    moment("at", default=None),
    moment("recorded_at"),
    Column("quantity", BigInteger, nullable=False),
    Column("properties", JSONB, nullable=False),
    Index(None, "tenant_id", "meter", "at"),
)

# Digests of keys, which are kept for ever, and of the events that were counted under them.
usage_keys = Table(
    "usage_keys",
    metadata,
    Column("tenant_id", Uuid, primary_key=True),
    Column("key", LargeBinary, primary_key=True),
    Column("content", LargeBinary, nullable=False),
)

# Digests of the values that meters of the kind ``unique`` have counted.
usage_values = Table(
    "usage_values",
    metadata,
    Column("tenant_id", Uuid, nullable=False),
    indexed_text("meter", MAX_NAME),
    indexed_text("customer", MAX_CUSTOMER),
    moment("starts_at", default=None),
    Column("value", LargeBinary, nullable=False),
    UniqueConstraint("tenant_id", "meter", "customer", "starts_at", "value"),
)
