"""The planner's estimates for a new tenant, and their effect."""

import json
import statistics
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from isola.errors import OperatorError
from isola.lab.laboratory import Laboratory
from isola.lab.newcomer import Beside, newcomer, run, tables
from isola.lab.operations import Operation
from isola.lab.population import Population, Resident
from isola.lab.scenario import Point, sized
from isola_strategies.base import Home, Strategy

OTHERS = 10
"""Tenants that a connection has served before the new one: it keeps a plan by then."""
VISITS = 15
CONSUMING = {"Aggregate", "Group", "Hash", "Incremental Sort", "Materialize", "Sort", "WindowAgg"}


class Statistics(Beside):
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
    question = "What does the planner know about a new tenant?"
    notes = (
        (
            "Autovacuum analyzes a table when a tenth of its rows have changed: tables of a tenant's own within about "
            "a minute of its first 50 rows, shared tables only after many tenants have come. This is set for each "
            "table, so it could be made otherwise."
        ),
        (
            "In a shared table one statistic serves all tenants: for the planner, a tenant that is not among the most "
            "common values has the rows of the table divided by the number of tenants. This is inherent."
        ),
        (
            "Under `rls` statements name the tenant by a sub-select, whose value the planner does not know: one text "
            "and one plan serve all tenants. It is made to assume that each tenant has a quarter of all rows, before "
            "ANALYZE and after, because the plans for a large tenant suit a small one as well, and not the other way "
            "round. With the value in the text it would know the largest tenants, and keep a text for each."
        ),
    )

    async def measure(self, laboratory: Laboratory, point: Point, subject: str, round: int) -> Mapping[str, float]:  # noqa: ARG002  each round has its own tenant
        population = await laboratory.populated(sized(point, subject))
        strategy = population.place.strategies[subject]
        operation = laboratory.operations[point.text("operation")]
        async with newcomer(population, strategy, point.number("new_rows")) as new:
            before = await self._asked(operation, population, new, strategy)
            seconds = await _analyze(population, strategy.home(new.tenant.id))
            after = await self._asked(operation, population, new, strategy)
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
                async with database.transaction(other.tenant, read_only=True, about=others.about) as work:
                    await work.value(others.sql, *others.arguments)
            for _ in range(VISITS):
                started = time.perf_counter()
                async with database.transaction(newcomer.tenant, read_only=True, about=written.about) as work:
                    await work.value(written.sql, *written.arguments)
                times.append(time.perf_counter() - started)
            async with database.transaction(newcomer.tenant, read_only=True, about=written.about) as work:
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


async def _analyze(population: Population, home: Home) -> float:
    """Run ANALYZE. Returns its seconds."""
    started = time.perf_counter()
    await run(population, [f"ANALYZE {', '.join(tables(home))}"])
    return time.perf_counter() - started
