"""The planner's estimates for a new tenant, and their effect."""

import json
import statistics
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

import asyncpg

from isola.errors import OperatorError
from isola.installed import metadata
from isola.lab.laboratory import Laboratory
from isola.lab.operations import Operation
from isola.lab.owning import entered, furnish
from isola.lab.population import Population, Resident
from isola.lab.scenario import Needs, Point, Profile, sized, strategies
from isola.lab.statements import Statements
from isola.platform import provisioning
from isola_strategies.base import Home, Strategy

OTHERS = 10
"""Tenants that a connection has served before the new one: it keeps a plan by then."""
VISITS = 15
ROW_BYTES = 4000
"""What a resource takes up with its five spans, indexes and what deleting it leaves for a while."""
CONSUMING = {"Aggregate", "Group", "Hash", "Incremental Sort", "Materialize", "Sort", "WindowAgg"}


class Statistics:
    """A tenant comes, with ``new rows`` resources and five spans of each, beside ``tenants`` others.

    - ``before``, ``after``: the operation in the new tenant before and after ANALYZE, on a connection that has served
      ten other tenants, so that it keeps a plan as connections in service do.
    - ``before_off``, ``after_off``: how many times the planner was off in its estimate of rows, at the scan where it
      was off most; planned for this tenant. Scans that a LIMIT cuts short are left out: they have no true number.
    - ``before_estimated``, ``actual``: both numbers at the scan that was off most before.
    - ``before_buffers``, ``after_buffers``: pages that PostgreSQL looked at.
    - ``changed_nodes``: nodes of the plan that are in one plan only, which is none where the plan kept its shape.
    - ``analyze``: how long ANALYZE takes for the tables in which the new tenant is.

    Autovacuum is kept from these tables meanwhile; afterwards the tenant is dropped, the tables vacuumed and analyzed.
    """

    name = "statistics"
    question = "What does the planner know of a tenant that has just come?"
    notes = (
        (
            "Autovacuum analyzes a table when a tenth of its rows have changed: tables of a tenant's own within about "
            "a minute of its first 50 rows, shared tables only after many tenants have come. This is set for each "
            "table, so it could be made otherwise."
        ),
        (
            "In a shared table one statistic serves all tenants: a tenant that is not among the most common values is "
            "taken for one of average size. That is by nature."
        ),
        (
            "Under `rls` statements name the tenant by a sub-select, whose value the planner does not know: it takes "
            "every tenant for one of average size, before ANALYZE and after. That is by our design: one text and one "
            "plan serve all tenants. With the value in the text it would know the largest tenants, and keep a text "
            "for each."
        ),
    )

    def __init__(self) -> None:
        self._statements = Statements()

    def points(self, profile: Profile) -> Iterable[Point]:
        return profile.points(self.name)

    def subjects(self, point: Point) -> Sequence[str]:  # noqa: ARG002  the same everywhere
        return strategies()

    def needs(self, point: Point) -> Needs:
        return Needs(
            connections=3,
            disk_bytes=point.number("new_rows") * ROW_BYTES,
            populations=tuple(sized(point, subject) for subject in self.subjects(point)),
        )

    def expected_seconds(self, point: Point) -> float:
        return 0.7 + point.number("new_rows") / 2500 + point.number("tenants") * point.number("rows") / 60_000

    async def measure(self, laboratory: Laboratory, point: Point, subject: str, round: int) -> Mapping[str, float]:  # noqa: ARG002  each round has its own tenant
        population = await laboratory.populated(sized(point, subject))
        strategy = population.place.strategies[subject]
        operation = laboratory.operations[point.text("operation")]
        async with _newcomer(population, strategy, point.number("new_rows")) as newcomer:
            before = await self._asked(operation, population, newcomer, strategy)
            seconds = await _analyze(population, strategy.home(newcomer.tenant.id))
            after = await self._asked(operation, population, newcomer, strategy)
        worst = max(before.scans, key=lambda scan: scan.off, default=None)
        if worst is None:
            raise OperatorError("every scan of the statement is cut short by a limit: expected one that is not")
        return {
            "before_ms": before.ms,
            "after_ms": after.ms,
            "before_off_ratio": worst.off,
            "after_off_ratio": max(scan.off for scan in after.scans),
            "before_estimated_count": worst.estimated,
            "actual_count": worst.actual,
            "before_buffers_count": before.buffers,
            "after_buffers_count": after.buffers,
            "changed_nodes_count": ((before.nodes - after.nodes) + (after.nodes - before.nodes)).total(),
            "analyze_ms": seconds * 1000,
        }

    async def _asked(
        self, operation: Operation, population: Population, newcomer: Resident, strategy: Strategy
    ) -> "_Looked":
        written = self._statements.of(operation, newcomer, strategy)
        times = []
        async with await population.place.tenants() as database:
            for other in population.residents[-OTHERS:]:
                others = self._statements.of(operation, other, strategy)
                async with database.transaction(other.tenant, read_only=True) as work:
                    await work.value(others.sql, *others.arguments)
            for _ in range(VISITS):
                started = time.perf_counter()
                async with database.transaction(newcomer.tenant, read_only=True) as work:
                    await work.value(written.sql, *written.arguments)
                times.append(time.perf_counter() - started)
            async with database.transaction(newcomer.tenant, read_only=True) as work:
                explained = await work.value(
                    f"EXPLAIN (ANALYZE, BUFFERS, TIMING OFF, FORMAT JSON) {written.sql}", *written.arguments
                )
        root = json.loads(explained)[0]["Plan"]
        return _Looked(
            statistics.median(times) * 1000,
            list(_scans(root, cut=False)),
            root["Shared Hit Blocks"] + root["Shared Read Blocks"],
            Counter(_nodes(root)),
        )


@dataclass(frozen=True, slots=True)
class _Scan:
    estimated: float
    actual: float

    @property
    def off(self) -> float:
        """The factor by which the estimate is too high or too low; a scan without rows counts as one row."""
        estimated, actual = max(self.estimated, 1.0), max(self.actual, 1.0)
        return max(estimated / actual, actual / estimated)


@dataclass(frozen=True, slots=True)
class _Looked:
    ms: float
    scans: Sequence[_Scan]
    buffers: int
    nodes: Counter[str]


def _scans(node: Mapping[str, Any], *, cut: bool) -> Iterator[_Scan]:
    """The table scans that ran to completion."""
    if "Relation Name" in node and not cut and node["Actual Loops"]:
        yield _Scan(node["Plan Rows"], node["Actual Rows"])
    kind = node["Node Type"]
    for child in node.get("Plans", ()):
        beside = child["Parent Relationship"] in {"InitPlan", "SubPlan"}
        yield from _scans(child, cut=not beside and kind not in CONSUMING and (cut or kind == "Limit"))


def _nodes(node: Mapping[str, Any]) -> Iterator[str]:
    yield f"{node['Node Type']} {node.get('Relation Name', '')} {node.get('Index Name', '')}"
    for child in node.get("Plans", ()):
        yield from _nodes(child)


@asynccontextmanager
async def _newcomer(population: Population, strategy: Strategy, rows: int) -> AsyncIterator[Resident]:
    """A new tenant that is removed completely at the end."""
    place = population.place
    slug = f"new-{uuid4().hex[:8]}"
    async with await place.owner() as owner:
        tenant = await provisioning.create(owner, place.strategies, slug=slug, name=slug, strategy=strategy.name)
        home = strategy.home(tenant.id)
        await _run(population, [f"ALTER TABLE {table} SET (autovacuum_enabled = off)" for table in _tables(home)])
        try:
            await furnish(owner, strategy, tenant.id, rows)
            async with entered(owner, strategy, tenant.id) as work:
                ids = await work.texts(f"SELECT id::text FROM users WHERE {strategy.predicate('users') or 'true'}")
            yield Resident(len(population.residents), tenant, rows, UUID(ids[-1]), (), {})
        finally:
            await provisioning.drop(owner, place.strategies, slug, notice=0)
            if home in strategy.homes([]):  # other tenants share this home
                await _run(population, [f"ALTER TABLE {table} RESET (autovacuum_enabled)" for table in _tables(home)])
                await _run(population, [f"VACUUM (ANALYZE) {table}" for table in _tables(home)])


async def _analyze(population: Population, home: Home) -> float:
    """Run ANALYZE. Returns its seconds."""
    started = time.perf_counter()
    await _run(population, [f"ANALYZE {', '.join(_tables(home))}"])
    return time.perf_counter() - started


async def _run(population: Population, statements: Sequence[str]) -> None:
    connection = await asyncpg.connect(population.place.address)
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


def _tables(home: Home) -> Sequence[str]:
    return [f"{home.schema}.{table.name}" for table in metadata.sorted_tables]
