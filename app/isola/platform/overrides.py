"""Limits, rates, features and retention of single tenants, instead of their plan's: for a reason, perhaps for a time.

The database uses a limit where it uses the plan's, up to its very end: see migrations/control/0001_quotas.sql. Features
and rates come with the tenant's entry in the directory: see isola.platform.entitlements.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ColumnElement,
    ForeignKey,
    Integer,
    Table,
    Text,
    Uuid,
    delete,
    func,
    insert,
    select,
)
from sqlalchemy.dialects.postgresql import insert as upsert

from isola.database.transactions import Database, Transaction
from isola.errors import BadUserInput, Conflict, NotFound
from isola.platform import changes, plans, platform_log
from isola.platform.platform_log import Action, Author
from isola.platform.rates import MAX_NAME as MAX_RATE, Rate
from isola.platform.shares import share_notices
from isola.platform.tenants import Status, Tenant, metadata, tenants
from isola.subjects import meters, names, retention
from isola.subjects.features import MAX_NAME
from isola.subjects.metadata import indexed_text, moment

MAX_REASON = 500
MAX_TABLE = 63


def _table(name: str, key: Column[Any], value: Column[Any], *rules: CheckConstraint) -> Table:
    return Table(
        name,
        metadata,
        Column("tenant_id", Uuid, ForeignKey("control.tenants.id"), primary_key=True),
        key,
        value,
        Column("reason", Text, nullable=False),
        moment("created_at"),
        moment("ends_at", nullable=True, default=None),
        *rules,
        CheckConstraint(f"length(reason) BETWEEN 1 AND {MAX_REASON}", name="reason_length"),
    )


quota_overrides = _table(
    "quota_overrides",
    indexed_text("quota", 100, primary_key=True),
    # NULL for no limit.
    Column("at_most", BigInteger),
    CheckConstraint("at_most >= 0", name="at_most"),
)
meter_overrides = _table(
    "meter_overrides",
    indexed_text("meter", meters.MAX_NAME, primary_key=True),
    # NULL for no limit.
    Column("at_most", BigInteger),
    CheckConstraint("at_most >= 0", name="at_most"),
)
feature_overrides = _table(
    "feature_overrides",
    indexed_text("feature", MAX_NAME, primary_key=True),
    Column("given", Boolean, nullable=False),
)
rate_overrides = _table(
    "rate_overrides",
    indexed_text("rate", MAX_RATE, primary_key=True),
    # NULL for no rate.
    Column("value", Text, info={"examples": ["50/minute"]}),
    CheckConstraint("value ~ '^[1-9][0-9]*/(second|minute|hour|day)$'", name="value"),
)


retention_overrides = _table(
    "retention_overrides",
    indexed_text("retention", MAX_TABLE, primary_key=True),
    # NULL for ever.
    Column("days", Integer),
    CheckConstraint(f"days BETWEEN 1 AND {retention.MOST}", name="days"),
)


class Kind(StrEnum):
    """What an override replaces; the name of its column as well."""

    QUOTA = "quota"
    METER = "meter"
    FEATURE = "feature"
    RATE = "rate"
    RETENTION = "retention"


_TABLES: Mapping[Kind, tuple[Table, str]] = {
    Kind.QUOTA: (quota_overrides, "at_most"),
    Kind.METER: (meter_overrides, "at_most"),
    Kind.FEATURE: (feature_overrides, "given"),
    Kind.RATE: (rate_overrides, "value"),
    Kind.RETENTION: (retention_overrides, "days"),
}
_SHOWN = {
    Kind.QUOTA: "limit",
    Kind.METER: "limit",
    Kind.FEATURE: "given",
    Kind.RATE: "limit",
    Kind.RETENTION: "days",
}


_CHECKS: Mapping[Kind, Callable[[Mapping[str, Any]], None]] = {
    Kind.QUOTA: plans.check_quotas,
    Kind.METER: plans.check_limits,
    Kind.FEATURE: plans.check_features,
    Kind.RATE: plans.check_rates,
    Kind.RETENTION: plans.check_retention,
}


@dataclass(frozen=True, slots=True)
class Override:
    """An exception for a tenant: a limit, a rate or days, None for none, or whether it has a feature.

    ``ends_at`` is None if it has no end; ``ended`` is whether that has passed.
    """

    kind: Kind
    name: str
    value: int | str | None
    reason: str
    created_at: datetime
    ends_at: datetime | None
    ended: bool


async def every(control: Database, tenant: Tenant) -> Sequence[Override]:
    """A tenant's overrides: of quotas, meters, features, rates and retention, each by name.

    Those that ended and were not removed are among them.
    """
    async with control.unbound() as transaction:
        return [
            each
            for kind, (table, _) in _TABLES.items()
            for each in await _rows(transaction, kind, table.c.tenant_id == tenant.id)
        ]


async def put(
    control: Database,
    by: Author,
    tenant: Tenant,
    kind: Kind,
    name: str,
    *,
    value: int | Rate | None,
    reason: str,
    ends_at: datetime | None = None,
) -> Override:
    """Give a tenant something else than its plan or its earlier override says: see ``Override``. Existing data stays.

    Raises BadUserInput naming the invalid input, and NotFound for a tenant that was deleted.
    """
    _CHECKS[kind]({name: value})
    reason = names.checked("reason", reason, MAX_REASON)
    table, column = _TABLES[kind]
    values = {column: str(value) if isinstance(value, Rate) else value, "reason": reason, "ends_at": ends_at}
    new = upsert(table).values({"tenant_id": tenant.id, kind: name, **values})
    replaced = new.on_conflict_do_update(
        index_elements=[table.c.tenant_id, table.c[kind]], set_={**values, "created_at": func.now()}
    )
    async with control.unbound() as transaction:
        await _lock(transaction, tenant)
        if ends_at is not None and ends_at <= await transaction.scalar(select(func.clock_timestamp())):
            raise BadUserInput("until: expected a moment in the future", "until")
        before = await _found(transaction, tenant, kind, name)
        await transaction.execute(replaced)
        [made] = await _rows(transaction, kind, *_own(tenant, kind, name))
        await _note(transaction, by, tenant, Action.TENANT_OVERRIDE, before, made)
    if kind is Kind.QUOTA:
        await plans.recount(control, tenant)
    return made


async def remove(control: Database, by: Author, tenant: Tenant, name: str, kind: Kind | None = None) -> None:
    """End an override: what the plan says applies.

    Raises NotFound, and Conflict without a ``kind`` for a name that overrides of several kinds have.
    """
    kinds = Kind if kind is None else (kind,)
    async with control.unbound() as transaction:
        await _lock(transaction, tenant)
        found = [each for of in kinds if (each := await _found(transaction, tenant, of, name)) is not None]
        if not found:
            raise NotFound("the tenant has no such override", value=name)
        if len(found) > 1:
            several = ", ".join(each.kind for each in found)
            raise Conflict(f"the tenant has overrides of several kinds with this name: expected one of {several}")
        [before] = found
        await transaction.execute(delete(_TABLES[before.kind][0]).where(*_own(tenant, before.kind, name)))
        await _note(transaction, by, tenant, Action.TENANT_END_OVERRIDE, before, None)
    await plans.recount(control, tenant)


async def _lock(transaction: Transaction, tenant: Tenant) -> None:
    """Serialise changes to the overrides of a tenant, and its deletion."""
    own = select(tenants.c.id).where(tenants.c.id == tenant.id, tenants.c.status != Status.DELETED)
    if await transaction.scalar(own.with_for_update()) is None:
        raise NotFound("there is no such tenant", value=tenant.slug)


def _own(tenant: Tenant, kind: Kind, name: str) -> Sequence[ColumnElement[bool]]:
    table, _ = _TABLES[kind]
    return table.c.tenant_id == tenant.id, table.c[kind] == name


async def _found(transaction: Transaction, tenant: Tenant, kind: Kind, name: str) -> Override | None:
    found = await _rows(transaction, kind, *_own(tenant, kind, name))
    return found[0] if found else None


async def _rows(transaction: Transaction, kind: Kind, *conditions: ColumnElement[bool]) -> Sequence[Override]:
    table, column = _TABLES[kind]
    ended = func.coalesce(table.c.ends_at <= func.clock_timestamp(), False).label("ended")
    columns = table.c[kind].label("name"), table.c[column].label("value")
    question = select(*columns, table.c.reason, table.c.created_at, table.c.ends_at, ended)
    rows = await transaction.rows(question.where(*conditions).order_by(table.c[kind]))
    return [Override(kind, **row) for row in rows]


async def _note(
    transaction: Transaction, by: Author, tenant: Tenant, action: Action, old: Override | None, new: Override | None
) -> None:
    """Log a change in the platform, and on its way to the tenant's log, which may not be writable now."""
    changed = new or old
    if changed is None:
        raise RuntimeError("expected a change")
    before, after = _logged(old), _logged(new)
    about, named = platform_log.about(tenant.slug), {changed.kind.value: changed.name}
    was, is_ = before and {**named, **before}, after and {**named, **after}
    await platform_log.note(transaction, by.actor, action, about, was, is_, by.request)
    verb = "create" if old is None else "delete" if new is None else "update"
    notice = {"action": f"{changed.kind}_override:{verb}", "object": f"{changed.kind}:{changed.name}"}
    notices = insert(share_notices).values(tenant_id=tenant.id, old=before, new=after, **notice)
    # Inline: the id of the row must not be read.
    await transaction.execute(notices.inline())
    for key in (str(tenant.id), tenant.slug):
        await changes.announce(transaction, changes.Kind.TENANT, key)


def _logged(override: Override | None) -> Mapping[str, Any] | None:
    if override is None:
        return None
    until = None if override.ends_at is None else override.ends_at.isoformat()
    return {_SHOWN[override.kind]: override.value, "reason": override.reason, "until": until}
