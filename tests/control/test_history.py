"""Replaying the revisions creates what the models declare."""

from collections.abc import Iterable

import pytest
from sqlalchemy import MetaData, Table
from sqlalchemy.schema import CreateIndex, CreateTable

from isola.database.transactions import DIALECT, Database
from isola.installed import APPLICATIONS, metadata as domain
from isola.platform import (
    api_keys,
    audit as audit_tables,
    changes,
    domains,
    federation,
    grants,
    idempotency,
    incidents,
    invitations,
    leases,
    memberships,
    migrations,
    orders,
    overrides,
    partnerships,
    plans,
    platform_log,
    registry,
    request_records,
    retention,
    revocations,
    secrets,
    sessions,
    shares,
    sign_in_log,
    storage,
    tenants,
    tickets,
    usage,
    webhooks,
)
from isola.subjects import history
from isola.testing.fixtures import TRIED, Copy
from isola_strategies import registry as strategies
from isola_strategies.base import Capability
from tests.control.dumps import Made, dumped

# Importing a module registers its tables with their metadata.
CONTROL = [
    tenants.tenants,
    partnerships.partners,
    partnerships.partner_domains,
    partnerships.partnership_declines,
    partnerships.partnership_offers,
    partnerships.tenant_blocks,
    shares.disabled_users,
    shares.received_shares,
    shares.shares,
    shares.share_comments,
    shares.share_notices,
    shares.share_rules,
    secrets.secrets,
    secrets.binding_keys,
    changes.changes,
    domains.domains,
    api_keys.api_keys,
    revocations.revocations,
    revocations.sign_outs,
    sessions.sessions,
    sessions.refresh_tokens,
    sign_in_log.refusals,
    sign_in_log.reads,
    sign_in_log.logged_reads,
    incidents.incidents,
    incidents.incident_notes,
    incidents.incident_tenants,
    memberships.memberships,
    audit_tables.audit_checkpoints,
    audit_tables.audit_heads,
    audit_tables.audit_pending,
    audit_tables.audit_seals,
    grants.access_grants,
    tickets.tickets,
    idempotency.first_answers,
    request_records.request_records,
    request_records.hourly_metrics,
    request_records.hourly_members,
    invitations.invitations,
    overrides.feature_overrides,
    overrides.meter_overrides,
    overrides.quota_overrides,
    overrides.rate_overrides,
    overrides.retention_overrides,
    leases.rate_levels,
    plans.plans,
    plans.quota_bounds,
    plans.quota_turns,
    registry.applications_,
    registry.counted,
    registry.kept,
    registry.meters_,
    registry.subjects,
    platform_log.entries,
    platform_log.interventions,
    orders.orders,
    retention.expiring,
    storage.storage,
    usage.usage,
    usage.usage_events,
    usage.usage_keys,
    usage.usage_values,
    webhooks.webhooks,
    webhooks.dead_letters,
    webhooks.connector_events,
    federation.remote_owners,
    federation.remote_partners,
    federation.remote_tokens,
]
SHARED_TABLES = [name for name in TRIED if Capability.POLICIES in strategies.load("login")[name].capabilities]


def ddl(tables: Iterable[Table]) -> list[str]:
    statements: list[CreateTable | CreateIndex] = []
    for table in tables:
        statements += [CreateTable(table), *(CreateIndex(index) for index in table.indexes)]
    return [str(statement.compile(dialect=DIALECT)) for statement in statements]


async def made_both_ways(blank: Copy, owner: Database, strategy_name: str, *differences: str) -> tuple[Made, Made]:
    """The tenant tables created by replay, and from the models plus some more statements."""
    strategy = blank.strategies[strategy_name]
    shaped = MetaData(naming_convention=domain.naming_convention)
    tables = [strategy.shape(table, shaped) for table in domain.sorted_tables]
    guards = [statement for table in tables for statement in strategy.guard(table.name)]
    for table in domain.sorted_tables:
        guards += history.triggers_of(table)
    await migrations.prepare(owner, blank.where)
    async with owner.unbound() as transaction:
        await transaction.script("CREATE SCHEMA replayed; SET LOCAL search_path TO replayed")
        for name in APPLICATIONS:
            await transaction.script(migrations.rendered(name, strategy, None))
        await transaction.script("CREATE SCHEMA declared; SET LOCAL search_path TO declared")
        await transaction.script(";".join([*ddl(tables), *guards, *differences]))
    assert blank.where.owner
    schemas = dumped(blank.where.owner)
    return schemas["replayed"], schemas["declared"]


@pytest.mark.parametrize("strategy_name", TRIED)
async def test_the_tenant_history_makes_what_the_models_declare(
    blank: Copy, blank_owner: Database, strategy_name: str
) -> None:
    replayed, declared = await made_both_ways(blank, blank_owner, strategy_name)
    assert replayed == declared
    assert {f"TABLE {table.name}" for table in domain.sorted_tables} <= replayed.keys()


@pytest.mark.parametrize(
    "difference",
    [
        "ALTER TABLE users ALTER name DROP NOT NULL",
        "ALTER TABLE resources ALTER size_bytes SET DEFAULT 1",
        "ALTER TABLE resources ALTER kind TYPE varchar",
        "ALTER TABLE spans DROP CONSTRAINT ck_spans_title_length",
        "ALTER INDEX ix_spans_title_id RENAME TO ix_spans_heading_id",
        "DROP INDEX ix_resources_kind_id",
        "DROP TRIGGER audit_update ON users",
    ],
)
@pytest.mark.parametrize("strategy_name", TRIED)
async def test_a_model_missing_in_the_history_is_detected(
    blank: Copy, blank_owner: Database, strategy_name: str, difference: str
) -> None:
    replayed, declared = await made_both_ways(blank, blank_owner, strategy_name, difference)
    assert replayed != declared


@pytest.mark.parametrize(
    "difference",
    [
        "ALTER TABLE users NO FORCE ROW LEVEL SECURITY",
        "ALTER TABLE users DISABLE ROW LEVEL SECURITY",
        "DROP POLICY bound_tenant ON spans",
        "ALTER POLICY bound_tenant ON spans USING (true)",
        "ALTER POLICY bound_tenant ON spans WITH CHECK (true)",
        "CREATE POLICY another ON spans USING (true)",
    ],
)
@pytest.mark.parametrize("strategy_name", SHARED_TABLES)
async def test_a_missing_trigger_in_the_history_is_detected(
    blank: Copy, blank_owner: Database, strategy_name: str, difference: str
) -> None:
    replayed, declared = await made_both_ways(blank, blank_owner, strategy_name, difference)
    assert replayed != declared


async def test_the_control_history_makes_what_the_models_declare(blank: Copy, blank_owner: Database) -> None:
    elsewhere = MetaData(naming_convention=domain.naming_convention)
    assert {table.name for table in tenants.metadata.sorted_tables} == {table.name for table in CONTROL}
    copies = [table.to_metadata(elsewhere, schema="declared") for table in tenants.metadata.sorted_tables]
    for original, copied in zip(tenants.metadata.sorted_tables, copies, strict=True):
        copied._prefixes = original._prefixes  # a copy loses UNLOGGED
    await migrations.prepare(blank_owner, blank.where)
    async with blank_owner.unbound() as transaction:
        await transaction.script(";".join(["CREATE SCHEMA declared", *ddl(copies)]))
    assert blank.where.owner
    schemas = dumped(blank.where.owner)
    declared = {name: lines for name, lines in schemas["declared"].items() if not name.startswith("SCHEMA")}
    # Rights, views, functions and statistics are not part of the models.
    beside = ("ENABLE ROW LEVEL SECURITY;", "SET STATISTICS 0;")
    replayed = {
        name: tuple(line for line in lines if not line.endswith(beside))
        for name, lines in schemas["control"].items()
        if name in declared
    }
    assert replayed == declared
    undeclared = {name for name in schemas["control"].keys() - declared.keys() if name.startswith(("TABLE ", "INDEX "))}
    assert undeclared == {"TABLE alembic_version"}
