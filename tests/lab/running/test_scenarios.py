"""Scenarios on the database, at minimal size: each returns its values, and leaves nothing behind."""

import math
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path

import asyncpg
import pytest

from isola.lab import cluster as clusters, machine, scenarios
from isola.lab.laboratory import Laboratory
from isola.lab.population import DATABASES, OWN_TABLES, Population
from isola.lab.scenario import Grid, Point, Profile, Value, one_database
from isola.testing.fixtures import Cluster
from isola_strategies import registry

STRATEGIES = sorted(registry.load("isola_tenant"))
UNITS = ("_ms", "_us", "_s", "_bytes", "_count", "_ratio")
ROWS = 6
SMALLEST: Mapping[str, Mapping[str, Value]] = {
    "policies": {"operation": "Resources"},
    "switching": {"operation": "Resource"},
    "memory": {"tables": OWN_TABLES},
    "provisioning": {},
    "statistics": {"operation": "SearchResources", "new_rows": 40},
    "restore": {},
    "removal": {"new_rows": 40},
    "vacuum": {"new_rows": 40, "updates": 3},
    "indexes": {"new_rows": 2000},
    "affinity": {"connections": 2},
}
GIVEN = {
    "policies": {"proved_us", "claimed_us", "without_policies_us", "policies_ratio", "signing_ratio"},
    "switching": {
        "nothing_us",
        "entering_us",
        "settings_us",
        "search_path_us",
        "first_visit_us",
        "same_tenant_us",
        "other_tenant_us",
        "after_grant_us",
        "moving_ratio",
    },
    "memory": {"statements_count", "relations_count", "catalogue_bytes", "tables_a_tenant_bytes"},
    "provisioning": {
        "make_ms",
        "export_ms",
        "drop_ms",
        "nothing_s",
        "add_column_s",
        "add_index_s",
        "backfill_s",
    },
    "statistics": {
        "before_ms",
        "after_ms",
        "before_off_ratio",
        "after_off_ratio",
        "before_estimated_count",
        "actual_count",
        "changed_nodes_count",
        "analyze_ms",
    },
    "restore": {"backup_s", "backup_bytes", "unpack_s", "copy_s", "restore_s"},
    "removal": {"drop_s", "drop_wal_bytes", "left_bytes", "vacuum_s", "alone_p99_ms", "meanwhile_p99_ms"},
    "vacuum": {"bloat_bytes", "vacuum_ms", "scanned_count", "other_before_ms", "other_bloated_ms", "busy_vacuumed_ms"},
    "indexes": {
        "own_used_count",
        "own_make_ms",
        "all_make_ms",
        "least_make_ms",
        "least_index_bytes",
        "least_other_write_ratio",
    },
    "affinity": {"staying_ms", "mixed_ms"},
}
# What a scenario could have left behind in homes: what guards tables, what they have, how many rows are in them.
TRACES = """
SELECT c.oid::regclass::text, c.relrowsecurity, c.relforcerowsecurity, c.reloptions,
    ARRAY(SELECT attname::text FROM pg_attribute WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped
          ORDER BY attnum),
    ARRAY(SELECT indexrelid::regclass::text FROM pg_index WHERE indrelid = c.oid ORDER BY 1),
    ARRAY(SELECT pg_get_expr(polqual, polrelid) || coalesce(pg_get_expr(polwithcheck, polrelid), '') FROM pg_policy
          WHERE polrelid = c.oid ORDER BY 1)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' AND (n.nspname = 'rls' OR n.nspname LIKE 't\\_%')
ORDER BY 1
"""
MEMBERS = """
SELECT roleid::regrole::text, member::regrole::text FROM pg_auth_members
WHERE roleid::regrole::text LIKE 'isola_lab%' AND member::regrole::text LIKE 'isola_lab%'
"""


@pytest.fixture(scope="module")
async def laboratory(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Laboratory]:
    """Shared by all tests: leftovers of a scenario would affect the next."""
    async with clusters.entered(cluster.url, lasting=True) as ground:
        connection = await asyncpg.connect(cluster.url)
        postgresql = await machine.postmaster(connection)
        await connection.close()
        directory: Path = tmp_path_factory.mktemp("lab")
        async with Laboratory(ground, directory=directory, seed=1, postgresql=postgresql) as laboratory:
            yield laboratory


@pytest.mark.parametrize("subject", STRATEGIES)
@pytest.mark.parametrize("name", SMALLEST)
async def test_a_scenario_returns_its_values_and_restores_the_population(
    laboratory: Laboratory, name: str, subject: str
) -> None:
    scenario = scenarios.load()[name]
    grid = {"tenants": (3,), "rows": (ROWS,), **{key: (value,) for key, value in SMALLEST[name].items()}}
    (point,) = scenario.points(Profile("smallest", {name: [Grid(1, grid)]}, {name: 0.01}))
    population = await laboratory.population(strategy=subject, tenants=3, rows=ROWS)
    before = await _traces(population)

    values = await scenario.measure(laboratory, point, subject, 0)

    assert GIVEN[name] <= values.keys()
    assert all(key.endswith(UNITS) and math.isfinite(value) for key, value in values.items())
    assert await _traces(population) == before


async def test_measures_the_memory_and_the_time_of_the_process_behind_a_connection(laboratory: Laboratory) -> None:
    if laboratory.postgresql is None or not Path("/proc/self/schedstat").exists():
        pytest.skip("PostgreSQL's processes are not to be seen from here")
    population = await laboratory.population(strategy="rls", tenants=3, rows=ROWS)
    point = Point((("tenants", 3), ("rows", ROWS), ("tables", OWN_TABLES)))
    values = await scenarios.load()["memory"].measure(laboratory, point, population.size.strategy, 0)
    assert values["backend_bytes"] > 1 << 20
    assert values["contexts_bytes"] > values["plans_bytes"] > 0


@pytest.mark.parametrize("name", ["memory", "provisioning"])
async def test_a_database_for_each_tenant_is_measured_and_unchanged(laboratory: Laboratory, name: str) -> None:
    scenario = scenarios.load()[name]
    point = Point(tuple({"tenants": 3, "rows": ROWS, **SMALLEST[name]}.items()))
    copies = await laboratory.copies(one_database(point), 3)
    before = [await _traces(copy) for copy in copies]
    assert len({copy.place.name for copy in copies}) == 3

    values = await scenario.measure(laboratory, point, DATABASES, 0)

    expected = {"memory": GIVEN["memory"] | {"connect_ms", "disk_a_tenant_bytes"}, "provisioning": GIVEN[name]}
    assert expected[name] - {"nothing_s"} <= values.keys()
    assert all(key.endswith(UNITS) and math.isfinite(value) for key, value in values.items())
    assert [await _traces(copy) for copy in copies] == before


@pytest.mark.parametrize("name", ["memory", "provisioning"])
def test_not_more_databases_are_made_than_fit(name: str) -> None:
    scenario = scenarios.load()[name]
    for tenants in (50, 1000):
        point = Point(tuple({"tenants": tenants, "rows": ROWS, **SMALLEST[name]}.items()))
        assert (DATABASES in scenario.subjects(point)) == (tenants == 50)


@pytest.mark.parametrize("subject", STRATEGIES)
async def test_restores_every_row_of_the_tenant_that_lost_them(laboratory: Laboratory, subject: str) -> None:
    population = await laboratory.population(strategy=subject, tenants=3, rows=ROWS)
    tables = [table for table, *_ in await _tables(population)]
    before = await _rows(population, tables)
    point = Point((("tenants", 3), ("rows", ROWS)))
    await scenarios.load()["restore"].measure(laboratory, point, subject, 0)
    assert await _rows(population, tables) == before


@pytest.mark.parametrize("subject", STRATEGIES)
async def test_an_index_of_one_tenant_is_used_where_a_tenant_has_tables_of_its_own(
    laboratory: Laboratory, subject: str
) -> None:
    point = Point((("tenants", 3), ("rows", ROWS), ("new_rows", 2000)))
    values = await scenarios.load()["indexes"].measure(laboratory, point, subject, 0)
    assert values["own_used_count"] == (subject != "rls")
    assert values["least_index_bytes"] == values["own_index_bytes" if values["own_used_count"] else "all_index_bytes"]


@pytest.mark.parametrize("name", SMALLEST)
def test_a_scenario_declares_its_needs_and_notes(name: str) -> None:
    scenario = scenarios.load()[name]
    point = Point(tuple({"tenants": 3, "rows": ROWS, **SMALLEST[name]}.items()))
    assert {size.strategy for size in scenario.needs(point).populations} == set(STRATEGIES)
    assert scenario.needs(point).connections > 0
    assert scenario.expected_seconds(point) > 0
    assert set(STRATEGIES) <= set(scenario.subjects(point))
    assert vars(type(scenario))["notes"]


def test_a_peer_is_limited_to_the_tenants_that_it_creates_in_reasonable_time() -> None:
    subjects = {
        tenants: scenarios.load()["provisioning"].subjects(Point((("tenants", tenants), ("rows", ROWS))))
        for tenants in (100, 1000)
    }
    assert "django-tenants" in subjects[100]
    assert "django-tenants" not in subjects[1000]


async def _tables(population: Population) -> Sequence[asyncpg.Record]:
    connection = await asyncpg.connect(population.place.address)
    try:
        found: Sequence[asyncpg.Record] = await connection.fetch(TRACES)
        return found
    finally:
        await connection.close()


async def _rows(population: Population, tables: Sequence[str]) -> Sequence[object]:
    connection = await asyncpg.connect(population.place.address)
    try:
        return [
            await connection.fetchval(f"SELECT array_agg(t::text ORDER BY t::text) FROM {table} t") for table in tables
        ]
    finally:
        await connection.close()


async def _traces(population: Population) -> Sequence[object]:
    tables = await _tables(population)
    connection = await asyncpg.connect(population.place.address)
    try:
        counts = [await connection.fetchval(f"SELECT count(*) FROM {table[0]}") for table in tables]
        return [*tables, *counts, *await connection.fetch(MEMBERS)]
    finally:
        await connection.close()
