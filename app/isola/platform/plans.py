"""Plans: what a tenant pays, its quotas and limits. Every tenant has a plan; the database enforces both."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from types import MappingProxyType
from typing import Any, Literal

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Numeric,
    Table,
    Text,
    Uuid,
    delete,
    func,
    insert,
    select,
    text,
    update,
)
from sqlalchemy.dialects.postgresql import JSONB

from isola.database.transactions import Database, Transaction
from isola.errors import BadUserInput, Conflict, NotFound
from isola.platform import changes, commits, platform_log, rates as rate_names
from isola.platform.changes import Kind
from isola.platform.platform_log import Action, Author
from isola.platform.rates import Rate, parsed
from isola.platform.tenants import COLUMNS, SLUG, SLUG_FORM, Status, Tenant, entry, metadata, tenants
from isola.subjects import features as feature_names, meters, names, quotas as quota_names, retention as retention_names
from isola.subjects.metadata import indexed_text, moment
from isola.subjects.prices import PlanPeriod, Price

MAX_TITLE = 200
MOST = 2**53 - 1
"""The largest quota: the largest integer that every JSON reader represents exactly."""

PATIENCE = 10.0
"""Seconds to wait for transactions that began to commit before the tenant's plan changed."""

UNLIMITED = "unlimited"
"""The built-in default plan of tenants. It never has quotas or limits."""

plans = Table(
    "plans",
    metadata,
    Column("name", Text, primary_key=True),
    Column("title", Text, nullable=False),
    # All three or none. They are shown; nothing charges them.
    Column("price", Numeric),
    Column("currency", Text),
    Column("period", Text),
    # Limits by quota names of isola.subjects.quotas. A missing name means no limit.
    Column("quotas", JSONB, nullable=False, server_default=text("'{}'")),
    # Limits of a period by names of meters of isola.subjects.meters.
    Column("limits", JSONB, nullable=False, server_default=text("'{}'")),
    # By names of isola.platform.rates.
    Column("rates", JSONB, nullable=False, server_default=text("'{}'")),
    # Days by names of isola.subjects.retention. A missing name is kept for ever.
    Column("retention", JSONB, nullable=False, server_default=text("'{}'")),
    # NULL for all: see isola.subjects.features.
    Column("features", ARRAY(Text)),
    Column("listed", Boolean, nullable=False, server_default=text("false")),
    moment("created_at"),
    # A retired plan cannot be given to further tenants.
    moment("retired_at", nullable=True, default=None),
    CheckConstraint("name ~ '^[a-z][a-z0-9-]{0,61}[a-z0-9]$'", name="name"),
    CheckConstraint(f"length(title) BETWEEN 1 AND {MAX_TITLE}", name="title_length"),
    CheckConstraint("num_nonnulls(price, currency, period) IN (0, 3)", name="price_complete"),
    CheckConstraint("price >= 0 AND price < 1e12 AND scale(price) <= 3", name="price_range"),
    CheckConstraint("currency ~ '^[A-Z]{3}$'", name="currency"),
    CheckConstraint("period IN ('month', 'year')", name="period"),
    CheckConstraint("jsonb_typeof(quotas) = 'object'", name="quotas_object"),
    CheckConstraint("jsonb_typeof(limits) = 'object'", name="limits_object"),
    CheckConstraint("jsonb_typeof(rates) = 'object'", name="rates_object"),
    CheckConstraint("jsonb_typeof(retention) = 'object'", name="retention_object"),
    CheckConstraint(
        f'retention @@ \'!exists($.* ? (@.type() != "number" || @ < 1 || @ > {retention_names.MOST} '
        "|| @ != @.floor()))'",
        name="retention_days",
    ),
)

# Upper bounds for a tenant's usage, for each current or former quota. Read, and written on inserts, by triggers only.
quota_bounds = Table(
    "quota_bounds",
    metadata,
    Column("tenant_id", Uuid, primary_key=True),
    indexed_text("quota", 100, primary_key=True),
    Column("at_most", BigInteger, nullable=False),
    prefixes=["UNLOGGED"],
)

# Serialises inserting transactions of a tenant at commit.
quota_turns = Table("quota_turns", metadata, Column("tenant_id", Uuid, primary_key=True), prefixes=["UNLOGGED"])


@dataclass(frozen=True, slots=True)
class Plan:
    """``price`` is None if the plan has none: it is not sold, or at an individual price.

    ``limits`` are those of meters, ``retention`` the days for which something is kept. ``features`` is None for all.
    Tenants that lack a feature are told which plans that are ``listed`` have it.
    """

    name: str
    title: str
    price: Price | None
    quotas: Mapping[str, int]
    limits: Mapping[str, int]
    rates: Mapping[str, Rate]
    retention: Mapping[str, int]
    features: Sequence[str] | None
    listed: bool
    created_at: datetime
    retired_at: datetime | None


_COLUMNS = (
    plans.c.name,
    plans.c.title,
    plans.c.price,
    plans.c.currency,
    plans.c.period,
    plans.c.quotas,
    plans.c.limits,
    plans.c.rates,
    plans.c.retention,
    plans.c.features,
    plans.c.listed,
    plans.c.created_at,
    plans.c.retired_at,
)
_PLANS = select(*_COLUMNS)


async def every(control: Database) -> Sequence[Plan]:
    """All plans by name, including retired ones."""
    async with control.unbound() as transaction:
        return [_plan(row) for row in await transaction.rows(_PLANS.order_by(plans.c.name))]


async def create(
    control: Database,
    by: Author,
    *,
    name: str,
    title: str,
    quotas: Mapping[str, int],
    limits: Mapping[str, int] | None = None,
    price: Price | None = None,
    features: Collection[str] | None = None,
    listed: bool = False,
    rates: Mapping[str, Rate] = MappingProxyType({}),
    retention: Mapping[str, int] = MappingProxyType({}),
) -> Plan:
    """Create a plan. What is missing in ``quotas``, ``limits`` or ``rates`` has no limit, in ``retention`` no end.

    Without ``features``, it has all of them.

    Raises BadUserInput naming the invalid input, and Conflict for a name in use.
    """
    if not SLUG.fullmatch(name):
        raise BadUserInput(f"name: {SLUG_FORM}", "name", value=name)
    title = names.checked("title", title, MAX_TITLE)
    check_quotas(quotas)
    check_limits(limits or {})
    check_rates(rates)
    check_retention(retention)
    values = {
        "name": name,
        "title": title,
        "quotas": dict(quotas),
        "limits": dict(limits or {}),
        "rates": _stored(rates),
        "retention": dict(retention),
        **_price_columns(price),
        "features": _checked(features),
        "listed": listed,
    }
    async with control.unbound() as transaction:
        [row] = await transaction.rows(insert(plans).values(values).returning(*_COLUMNS))
        made = _plan(row)
        await _note(transaction, by, Action.PLAN_CREATE, None, made)
    return made


async def change(
    control: Database,
    by: Author,
    name: str,
    *,
    title: str | None = None,
    quotas: Mapping[str, int | None] | None = None,
    limits: Mapping[str, int | None] | None = None,
    price: Price | Literal["unchanged"] | None = "unchanged",
    features: Collection[str] | Literal["unchanged"] | None = "unchanged",
    listed: bool | None = None,
    rates: Mapping[str, Rate | None] = MappingProxyType({}),
    retention: Mapping[str, int | None] = MappingProxyType({}),
) -> Plan:
    """Change a plan for all tenants that have it. What is missing stays. None removes a limit, an end, or the price.

    ``features`` are all that it has from now on, None for all there are. They and the rates are effective on every
    server within ``EFFECTIVE_WITHIN`` seconds.

    Existing data stays: a tenant above a new limit cannot add more. What is older than a new retention goes with the
    next pass. Raises NotFound, BadUserInput naming the invalid
    input, and Conflict for the built-in plan.
    """
    quotas, limits = quotas or {}, limits or {}
    title = None if title is None else names.checked("title", title, MAX_TITLE)
    check_quotas(quotas)
    check_limits(limits)
    check_rates(rates)
    check_retention(retention)
    if name == UNLIMITED and (quotas or limits or rates or retention):
        raise Conflict(
            f"the plan {UNLIMITED} stays without quotas, limits, rates and retention: make another one", "name"
        )
    async with control.unbound() as transaction:
        before = await _locked(transaction, name)
        values = {
            "title": before.title if title is None else title,
            "quotas": _changed_limits(before.quotas, quotas),
            "limits": _changed_limits(before.limits, limits),
            "rates": _stored({name: rate for name, rate in {**before.rates, **rates}.items() if rate is not None}),
            "retention": _changed_limits(before.retention, retention),
            **_price_columns(before.price if price == "unchanged" else price),
            "features": before.features if features == "unchanged" else _checked(features),
            "listed": before.listed if listed is None else listed,
        }
        await changes.announce(transaction, Kind.PLAN, name)
        return await _changed(transaction, by, Action.PLAN_CHANGE, before, values)


async def retire(control: Database, by: Author, name: str) -> Plan:
    """Stop a plan from being given to further tenants; those that have it keep it.

    Raises NotFound, and Conflict for a plan that is already retired and for the built-in one.
    """
    if name == UNLIMITED:
        raise Conflict(f"the plan {UNLIMITED} cannot be retired", "name")
    async with control.unbound() as transaction:
        before = await _locked(transaction, name)
        if before.retired_at is not None:
            raise Conflict("the plan is retired already", "name", value=name)
        await changes.announce(transaction, Kind.PLAN, name)
        return await _changed(transaction, by, Action.PLAN_RETIRE, before, {"retired_at": func.now()})


async def remove(control: Database, by: Author, name: str) -> None:
    """Delete a plan. Raises NotFound, and Conflict for one that a tenant has or had, and for the built-in one."""
    if name == UNLIMITED:
        raise Conflict(f"the plan {UNLIMITED} cannot be deleted", "name")
    async with control.unbound() as transaction:
        await _locked(transaction, name)
        # Tenants are given a plan while they lock it: see ``offered``.
        if await transaction.scalar(select(tenants.c.id).where(tenants.c.plan == name).limit(1)):
            raise Conflict("the plan is that of a tenant, or of one that is deleted: retire it", "name", value=name)
        await transaction.execute(delete(plans).where(plans.c.name == name))
        await platform_log.note(transaction, by.actor, Action.PLAN_DELETE, f"plan:{name}", request=by.request)


async def give(control: Database, by: Author, tenant: Tenant, name: str) -> Tenant:
    """Give a tenant a plan. Raises NotFound, and Conflict for one that is retired or that the tenant has already."""
    own = tenants.c.id == tenant.id
    async with control.unbound() as transaction:
        await offered(transaction, name)
        before = await transaction.scalar(select(tenants.c.plan).where(own).with_for_update())
        if before == name:
            raise Conflict("the tenant has this plan already", "plan", value=name)
        [row] = await transaction.rows(update(tenants).where(own).values(plan=name).returning(*COLUMNS))
        await platform_log.note(
            transaction,
            by.actor,
            Action.TENANT_SET_PLAN,
            platform_log.about(tenant.slug),
            {"plan": before},
            {"plan": name},
            by.request,
        )
    await recount(control, tenant)
    return entry(row)


async def revenue(control: Database) -> Sequence[Mapping[str, Any]]:
    """The number of active tenants of each plan that has any, and what they pay together for its period.

    Raises Unavailable.
    """
    number = func.count(tenants.c.id)
    query = (
        select(plans.c.name, number.label("tenants"), plans.c.price, (plans.c.price * number).label("revenue"))
        .add_columns(plans.c.currency, plans.c.period)
        .join(tenants, tenants.c.plan == plans.c.name)
        .where(tenants.c.status == Status.ACTIVE, tenants.c.remote.is_(False))
        .group_by(plans.c.name)
        .order_by(plans.c.name)
    )
    async with control.unbound() as transaction:
        return await transaction.rows(query)


async def recount(control: Database, tenant: Tenant) -> None:
    """Have the usage of a tenant counted anew, after its limits have changed."""
    # Without quotas, inserting transactions do not wait for each other: those about to commit were not counted.
    await commits.settled(control, PATIENCE)
    async with control.unbound() as transaction:
        await transaction.execute(delete(quota_bounds).where(quota_bounds.c.tenant_id == tenant.id))


async def offered(transaction: Transaction, name: str) -> None:
    """Check that a plan can be given to a tenant, and lock it until the end of the transaction.

    Raises NotFound, and Conflict for a retired plan.
    """
    if (await _locked(transaction, name, shared=True)).retired_at is not None:
        raise Conflict("the plan is retired", "plan", value=name)


async def _locked(transaction: Transaction, name: str, *, shared: bool = False) -> Plan:
    # The database may reject a text that is not a valid name.
    query = _PLANS.where(plans.c.name == name).with_for_update(read=shared)
    rows = await transaction.rows(query) if SLUG.fullmatch(name) else []
    if not rows:
        raise NotFound("there is no such plan", value=name)
    return _plan(rows[0])


def _plan(row: Mapping[str, Any]) -> Plan:
    amount: Decimal | None = row["price"]
    price = None if amount is None else Price(amount, row["currency"], PlanPeriod(row["period"]))
    read = {"price": price, "rates": parsed(row["rates"])}
    return Plan(**{key: value for key, value in row.items() if key not in {"currency", "period"}} | read)


def _changed_limits(before: Mapping[str, int], changes: Mapping[str, int | None]) -> Mapping[str, int]:
    return {name: most for name, most in {**before, **changes}.items() if most is not None}


def _price_columns(price: Price | None) -> Mapping[str, object]:
    if price is None:
        return {"price": None, "currency": None, "period": None}
    return {"price": price.amount, "currency": price.currency, "period": price.period}


async def _changed(
    transaction: Transaction, by: Author, action: Action, before: Plan, values: Mapping[str, object]
) -> Plan:
    changed = update(plans).where(plans.c.name == before.name).values(values).returning(*_COLUMNS)
    [row] = await transaction.rows(changed)
    now = _plan(row)
    await _note(transaction, by, action, before, now)
    return now


async def _note(transaction: Transaction, by: Author, action: Action, before: Plan | None, now: Plan) -> None:
    """Log the changed values."""
    was, is_ = ({} if before is None else _logged_values(before)), _logged_values(now)
    changed = [key for key in is_ if key not in was or was[key] != is_[key]]
    if not changed:
        return
    old = None if before is None else {key: was[key] for key in changed}
    new = {key: is_[key] for key in changed}
    await platform_log.note(transaction, by.actor, action, f"plan:{now.name}", old, new, by.request)


def _logged_values(plan: Plan) -> Mapping[str, object]:
    price = None if plan.price is None else str(plan.price)
    return {
        "title": plan.title,
        "price": price,
        "quotas": plan.quotas,
        "limits": plan.limits,
        "rates": _stored(plan.rates),
        "retention": plan.retention,
        "features": plan.features,
        "listed": plan.listed,
        "retired": plan.retired_at is not None,
    }


def check_features(names: Collection[str]) -> None:
    """Raise BadUserInput for a feature that nothing declares."""
    known = feature_names.known()
    for name in names:
        if name not in known:
            raise BadUserInput(f"features: expected any of {', '.join(sorted(known))}", "features", value=name)


def _checked(names: Collection[str] | None) -> Sequence[str] | None:
    if names is None:
        return None
    check_features(names)
    return sorted(set(names))


def check_rates(rates: Mapping[str, Rate | None]) -> None:
    """Raise BadUserInput for a rate of an unknown name."""
    rate_names.check(rates)


def check_retention(retention: Mapping[str, int | None]) -> None:
    """Raise BadUserInput, naming the input, for what cannot be kept for a time, or an invalid number of days."""
    known = retention_names.names()
    for name, days in retention.items():
        if name not in known:
            raise BadUserInput(f"retention: expected any of {', '.join(known)}", "retention", value=name)
        if days is not None and not 1 <= days <= retention_names.MOST:
            raise BadUserInput(f"{name}: expected 1 to {retention_names.MOST} days", "retention", value=str(days))


def _stored(rates: Mapping[str, Rate]) -> Mapping[str, str]:
    return {name: str(rate) for name, rate in rates.items()}


def check_quotas(quotas: Mapping[str, int | None]) -> None:
    """Raise BadUserInput, naming the input, for an unknown quota or an invalid limit."""
    _check("quotas", quotas, quota_names.names())


def check_limits(limits: Mapping[str, int | None]) -> None:
    """Raise BadUserInput, naming the input, for an unknown meter or an invalid limit."""
    _check("limits", limits, sorted(meters.known()))


def _check(field: str, limits: Mapping[str, int | None], known: Sequence[str]) -> None:
    for name, most in limits.items():
        if name not in known:
            raise BadUserInput(f"{field}: expected any of {', '.join(known)}", field, value=name)
        if most is not None and not 0 <= most <= MOST:
            raise BadUserInput(f"{name}: expected 0 to {MOST}", field, value=str(most))
