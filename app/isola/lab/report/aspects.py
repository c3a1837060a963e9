"""The criteria of the first page: the respects in which strategies are compared, and possible explanations.

Only the questions are defined here. The results decide which strategy is ahead, where, and if an explanation holds.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum

from isola.lab.report import units
from isola.lab.report.findings import Finding
from isola.lab.report.results import Point, Results
from isola.lab.report.slices import alike, better, main_cut

REQUESTS = "Serving requests"
UPKEEP = "Making and changing tenants"
ROOM = "Room in memory and on disk"
ONE = "One tenant by itself"
OTHER = "Other measurements"
DRAWN = 2


class Limit(Enum):
    """A limit that a figure can exceed."""

    REQUESTS = "fewer requests a second than are wanted"
    MEMORY = "more memory than there is, times the connections"
    MIGRATION = "a migration of all tenants that nobody can wait for"


@dataclass(frozen=True, slots=True)
class Reason:
    """A possible reason why a strategy is behind. Applies if ``value`` of ``scenario`` is worse for it there, too."""

    words: str
    scenario: str
    value: str
    where: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Aspect:
    """One respect: a value of a scenario, at the points whose dimensions match ``where``.

    ``regardless`` are dimensions that do not affect the value: points that differ only in them are joined. ``headline``
    marks the respects in the chart of the first page. ``need`` is what a reader needs who chooses by it; those without
    are not in the recommendation.
    """

    group: str
    label: str
    scenario: str
    value: str
    behind: Sequence[Reason] = ()
    limit: Limit | None = None
    where: Mapping[str, str] = field(default_factory=dict)
    regardless: Sequence[str] = ()
    headline: bool = False
    need: str = ""

    def holds(self, point: Point) -> bool:
        """Whether the named dimensions match ``where``."""
        return all(dict(point).get(name) == value for name, value in self.where.items())


WORK = Reason("PostgreSQL works longer on each request", "read", "postgresql_cpu_ms")
MOVING = Reason("a statement costs more when its connection comes from another tenant", "switching", "moving_ratio")
MEMORY = Reason("a connection remembers tables and indexes of every tenant that it has met", "memory", "backend_bytes")
RELATIONS = Reason("the database has more tables and indexes", "memory", "relations_count")
WHOLE = Reason("more rows have to be read from the backup", "restore", "unpacked_bytes")
PAGES = Reason("VACUUM has more pages to read", "vacuum", "scanned_count")
ENTRIES = Reason("the index has more entries", "indexes", "least_index_bytes")
FILES = Reason("each tenant has tables and indexes of its own", "memory", "relations_count")

ASPECTS = (
    Aspect(
        REQUESTS,
        "Reads a second",
        "read",
        "throughput_per_s",
        (MOVING, WORK),
        Limit.REQUESTS,
        headline=True,
        need="many reads a second",
    ),
    Aspect(REQUESTS, "99th percentile of reads, full load", "read", "p99_ms", (MOVING, WORK)),
    Aspect(REQUESTS, "99th percentile, steady rate", "rate", "p99_ms", (MOVING, WORK), headline=True),
    Aspect(REQUESTS, "Writes a second", "write", "throughput_per_s", headline=True, need="many writes a second"),
    Aspect(
        REQUESTS,
        "A tenant's first request",
        "cold",
        "cold_p50_ms",
        (MEMORY,),
        headline=True,
        need="quick first requests of tenants that were idle",
    ),
    Aspect(REQUESTS, "Others' 99th percentile by a greedy one", "neighbour", "beside_p99_ms", headline=True),
    Aspect(
        REQUESTS,
        "Reading what others shared",
        "partner",
        "throughput_per_s",
        headline=True,
        need="partners that read what tenants share with them",
    ),
    Aspect(REQUESTS, "Entering a tenant", "switching", "entering_us"),
    Aspect(REQUESTS, "Entering, after a grant of a role", "switching", "after_grant_us"),
    Aspect(REQUESTS, "A statement in another tenant than before", "switching", "other_tenant_us"),
    Aspect(REQUESTS, "A new tenant's reads before ANALYZE", "statistics", "before_ms"),
    Aspect(
        UPKEEP,
        "Making a tenant",
        "provisioning",
        "make_ms",
        (FILES,),
        headline=True,
        need="tenants that are made often",
    ),
    Aspect(
        UPKEEP,
        "Adding a column for all",
        "provisioning",
        "add_column_s",
        (FILES,),
        Limit.MIGRATION,
        headline=True,
        need="quick migrations of all tenants",
    ),
    Aspect(UPKEEP, "Adding an index for all", "provisioning", "add_index_s", (FILES,), Limit.MIGRATION),
    Aspect(UPKEEP, "Setting a column in all rows", "provisioning", "backfill_s", limit=Limit.MIGRATION),
    Aspect(UPKEEP, "Migrating when there is nothing to do", "provisioning", "nothing_s"),
    Aspect(UPKEEP, "A backup of everything", "restore", "backup_s", (FILES,), need="quick backups of everything"),
    Aspect(ONE, "Restoring one tenant", "restore", "restore_s", (WHOLE,), headline=True, need="restoring one tenant"),
    Aspect(
        ONE, "Exporting a tenant", "provisioning", "export_ms", headline=True, need="exporting single tenants often"
    ),
    Aspect(ONE, "Dropping a tenant", "provisioning", "drop_ms", headline=True, need="dropping small tenants often"),
    Aspect(ONE, "Dropping a large tenant", "removal", "drop_s", headline=True, need="dropping large tenants"),
    Aspect(ONE, "Write-ahead log of dropping a large tenant", "removal", "drop_wal_bytes"),
    Aspect(ONE, "Others' 99th percentile during such a drop", "removal", "meanwhile_p99_ms"),
    Aspect(
        ONE,
        "Vacuuming after a busy tenant",
        "vacuum",
        "vacuum_ms",
        (PAGES,),
        headline=True,
        need="tenants that change their rows all the time",
    ),
    Aspect(ONE, "Another tenant's list beside a busy one", "vacuum", "other_bloated_ms"),
    Aspect(
        ONE,
        "Making an index for one tenant",
        "indexes",
        "least_make_ms",
        (ENTRIES,),
        headline=True,
        need="an index that only one tenant needs",
    ),
    Aspect(ONE, "Bytes of an index for one tenant", "indexes", "least_index_bytes"),
    Aspect(
        ROOM,
        "Memory of a connection",
        "memory",
        "backend_bytes",
        (RELATIONS,),
        Limit.MEMORY,
        regardless=("rows",),
        headline=True,
        need="little memory a connection",
    ),
    Aspect(ROOM, "The same, where connections stay with tenants", "affinity", "staying_connection_bytes"),
    Aspect(ROOM, "The same, where they do not", "affinity", "mixed_connection_bytes"),
    Aspect(ROOM, "Catalogue", "memory", "catalogue_bytes", (RELATIONS,), regardless=("rows",), headline=True),
    Aspect(ROOM, "Tables, a tenant", "memory", "tables_a_tenant_bytes", need="little disk space a tenant"),
    Aspect(ROOM, "Indexes, a tenant", "memory", "indexes_a_tenant_bytes"),
)
APART = {
    "policies": ("policies_ratio", "signing_ratio", "missing_predicate_ratio"),
}
"""Scenarios that compare something else than strategies, with what is drawn of them: their sections say what it is."""
DRAWN_TOO = {
    "affinity": ("saved_memory_ratio", "saved_cpu_ratio"),
    "indexes": ("read_before_ms", "least_other_write_ratio"),
    "statistics": ("after_ms", "before_off_ratio"),
    "switching": ("same_tenant_us", "moving_ratio"),
}
"""What is drawn besides what the first page asks for."""


def finding(results: Results, aspect: Aspect, first: str, second: str) -> Finding | None:
    """The comparison of two strategies in one respect; None unless both were measured."""
    slices = alike(main_cut(results, aspect.scenario, aspect.regardless), aspect.where)
    by_size = better(results, slices, aspect.value, first, second) if slices else {}
    return Finding(aspect.label, units.dimension(slices[0].dimension), first, second, by_size) if by_size else None


def because(results: Results, aspect: Aspect, found: Finding) -> str:
    """The reason why a strategy is behind at the largest size, if the results support one; otherwise empty."""
    ahead = found.ahead(found.largest)
    if ahead is None:
        return ""
    behind = found.second if ahead == found.first else found.first
    borne = [sentence for reason in aspect.behind if (sentence := _borne_out(results, reason, ahead, behind))]
    return f", because {'; and '.join(borne)}" if borne else ""


def _borne_out(results: Results, reason: Reason, ahead: str, behind: str) -> str:
    slices = alike(main_cut(results, reason.scenario), reason.where)
    shown = better(results, slices, reason.value, ahead, behind) if slices else {}
    if not shown or not (ratio := shown[size := max(shown)]).differs or ratio.value < 1:
        return ""
    at = f" at {size:,.0f} {units.dimension(slices[0].dimension)}" if slices[0].dimension else ""
    return f"{reason.words} (`{behind}` {units.factor(ratio.value)} that of `{ahead}`{at})"


def chosen(results: Results) -> Sequence[Aspect]:
    """The respects that the results cover. A scenario without a defined respect uses its first value."""
    known = [each for each in ASPECTS if each.value in results.values(each.scenario)]
    asked = {*APART, *(each.scenario for each in ASPECTS)}
    others = [
        Aspect(OTHER, f"{name}: {units.words(values[0])}", name, values[0])
        for name in results.scenarios
        if name not in asked and (values := results.values(name))
    ]
    return [*known, *others]


def charted(results: Results, scenario: str) -> Sequence[str]:
    """The values of a scenario to draw: those of the first page and of other findings, or else two."""
    asked = [each.value for each in ASPECTS if each.scenario == scenario]
    asked += [*APART.get(scenario, ()), *DRAWN_TOO.get(scenario, ())]
    there = results.values(scenario)
    return [value for value in dict.fromkeys(asked) if value in there] or there[:DRAWN]


def regardless(scenario: str, value: str) -> Sequence[str]:
    """The dimensions that a value does not depend on."""
    return next((each.regardless for each in ASPECTS if (each.scenario, each.value) == (scenario, value)), ())


def titled(scenario: str, value: str) -> str:
    """The title of a value, or else its name."""
    known = [each.label for each in ASPECTS if (each.scenario, each.value) == (scenario, value)]
    words = units.words(value)
    return known[0] if known else f"{words[0].upper()}{words[1:]}"
