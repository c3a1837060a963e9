"""The cost of binding a transaction to a tenant, and of switching between tenants."""

import re
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager

import asyncpg

from isola.database.transactions import Database
from isola.errors import OperatorError
from isola.installed import metadata
from isola.lab.backend import Backend
from isola.lab.laboratory import Laboratory
from isola.lab.place import Place
from isola.lab.population import Resident
from isola.lab.scenario import Needs, Point, Profile, sized, strategies
from isola.lab.statements import Statements, Written
from isola.platform.logins import quote
from isola_strategies.base import Strategy

PHASES = 5
"""Into so many parts the seconds of a measurement go."""
AMONG = 250
"""The most tenants that a connection goes round: more texts than the driver keeps statements of, which is 200."""
STAYING = 8
"""So often a connection asks for the same tenant, to see what staying costs; the first times are not counted."""
WARMING = 3
GRANTS = 10
NOTHING = "BEGIN; ROLLBACK"
TABLES = re.compile(rf"\b(FROM|JOIN) ({'|'.join(metadata.tables)})\b")


class Switching:
    """The way into a tenant, whole and in pieces; then a statement in the same tenant, in another, and by full names.

    - ``nothing``: a transaction that enters no tenant, through the same code: begin, commit, the check of the
      connection. ``entering``: one that enters a tenant, another each time, and asks nothing there.
    - ``settings``, ``search_path``, ``role``: what each kind of statement in the binding adds to a message that begins
      a transaction and rolls it back. Whatever a setting does later, such as to the look-up of names, is not in it.
    - ``first_visit``: the statement in a tenant that the connection has not met. ``same_tenant``: again in the tenant
      of the transaction before. ``other_tenant``: in another, all of which it has met. ``qualified``: there, too, by
      a text of each tenant's own, with its schema before every table; only where tenants have schemas of their own.
    - ``after_grant``: entering a tenant, for the first time after somebody was granted membership in a role.

    Turns of the same tenant and of another alternate within one measurement. A connection goes round all tenants, but
    250 at most.
    """

    name = "switching"
    question = "What does entering a tenant cost?"
    notes = (
        (
            "Settings, role and search path are local to the transaction by our design, so that PgBouncer may stand "
            "between and nothing is left behind. A product that keeps a connection for each tenant would pay for them "
            "once."
        ),
        (
            "Under `schema` each tenant has prepared statements of its own, also where their text is the same: "
            "`qualified` texts show what names in the text would change about that. One connection keeps 32 MB of "
            "statements, so where it goes round more tenants than that is enough for, each is planned anew."
        ),
        (
            "Any grant of a role to anybody makes every connection of the server forget which roles it is a member "
            "of. Looking that up again grows with the number of tenants that have a role, and making a tenant is such "
            "a grant."
        ),
    )

    def __init__(self) -> None:
        self._statements = Statements()
        self._seconds = 1.0

    def points(self, profile: Profile) -> Iterable[Point]:
        self._seconds = profile.seconds(self.name)
        return profile.points(self.name)

    def subjects(self, point: Point) -> Sequence[str]:  # noqa: ARG002  the same everywhere
        return strategies()

    def needs(self, point: Point) -> Needs:
        return Needs(connections=3, populations=tuple(sized(point, subject) for subject in self.subjects(point)))

    def expected_seconds(self, point: Point) -> float:
        return self._seconds * 1.2 + min(AMONG, point.number("tenants")) * 0.02

    async def measure(self, laboratory: Laboratory, point: Point, subject: str, round: int) -> Mapping[str, float]:
        population = await laboratory.populated(sized(point, subject))
        residents = _around(population.residents, round)
        strategy = population.place.strategies[subject]
        seconds = self._seconds / PHASES
        operation = laboratory.operations[point.text("operation")]
        written = [self._statements.of(operation, each, strategy) for each in residents]
        async with _one(population.place) as database:
            values = {"first_visit_us": await _first_visits(database, residents, written)}
            values |= await _entering(database, residents, seconds)
            values |= await _moving(laboratory, database, residents, written, seconds * 2)
            values["after_grant_us"] = await _after_grant(population.place, database, residents)
        if strategy.home(residents[0].tenant.id) != strategy.home(residents[-1].tenant.id):
            qualified = [
                _qualified(text, strategy.home(each.tenant.id).schema)
                for each, text in zip(residents, written, strict=True)
            ]
            async with _one(population.place) as database:
                values |= await _going_round(laboratory, database, residents, qualified, seconds)
        values |= await _pieces(population.place, strategy, residents, seconds)
        values["moving_ratio"] = values["other_tenant_us"] / values["same_tenant_us"]
        return values


def _around(residents: Sequence[Resident], round: int) -> Sequence[Resident]:
    """The residents that a connection cycles through, spread over all, in another order each round."""
    step = max(1, len(residents) // AMONG)
    chosen = residents[::step][:AMONG]
    start = round * 7 % len(chosen)
    return [*chosen[start:], *chosen[:start]]


@asynccontextmanager
async def _one(place: Place) -> AsyncIterator[Database]:
    """Tenant traffic with at most one connection, because requests are sequential."""
    async with await place.tenants() as database:
        yield database


async def _asked(database: Database, resident: Resident, written: Written) -> float:
    """Microseconds of a transaction with one statement."""
    started = time.perf_counter()
    async with database.transaction(resident.tenant, read_only=True, about=written.about) as work:
        await work.value(written.sql, *written.arguments)
    return (time.perf_counter() - started) * 1e6


async def _first_visits(database: Database, residents: Sequence[Resident], written: Sequence[Written]) -> float:
    async with database.unbound():
        pass  # opens the connection
    met = await _visits(database, residents, written)
    # The first one fills the caches that all tenants share.
    return statistics.median(met[1:] or met)


async def _visits(database: Database, residents: Sequence[Resident], written: Sequence[Written]) -> Sequence[float]:
    return [await _asked(database, *each) for each in zip(residents, written, strict=True)]


async def _entering(database: Database, residents: Sequence[Resident], seconds: float) -> Mapping[str, float]:
    async def nothing(_: int) -> None:
        async with database.unbound():
            pass

    async def entering(turn: int) -> None:
        async with database.transaction(residents[turn % len(residents)].tenant):
            pass

    timed = await _alternating({"nothing_us": nothing, "entering_us": entering}, seconds)
    return {name: statistics.median(times) for name, times in timed.items()}


async def _alternating(
    asked: Mapping[str, Callable[[int], Awaitable[None]]], seconds: float
) -> Mapping[str, Sequence[float]]:
    """Microseconds of each action; they alternate until the time is over."""
    times: dict[str, list[float]] = {name: [] for name in asked}
    ends = time.monotonic() + seconds
    turn = 0
    while turn <= WARMING or time.monotonic() < ends:
        for name, each in asked.items():
            started = time.perf_counter()
            await each(turn)
            if turn >= WARMING:
                times[name].append((time.perf_counter() - started) * 1e6)
        turn += 1
    return times


async def _moving(
    laboratory: Laboratory,
    database: Database,
    residents: Sequence[Resident],
    written: Sequence[Written],
    seconds: float,
) -> Mapping[str, float]:
    """Alternating blocks of the same tenant and of other tenants, with equal numbers of transactions."""
    async with database.transaction(residents[0].tenant) as work:
        backend = await Backend.behind(work, laboratory)
    times: dict[str, list[float]] = {"same_tenant": [], "other_tenant": []}
    cpu: dict[str, list[float]] = {"same_tenant": [], "other_tenant": []}
    ends = time.monotonic() + seconds
    turn = 0
    while not turn or time.monotonic() < ends:
        here = [turn % len(residents)] * STAYING
        there = [(turn * STAYING + step) % len(residents) for step in range(1, STAYING + 1)]
        for name, chosen in (("same_tenant", here), ("other_tenant", there)):
            if name == "same_tenant":
                # The first execution is a switch, and PostgreSQL chooses a generic plan only after several executions.
                for _ in range(WARMING):
                    await _asked(database, residents[chosen[0]], written[chosen[0]])
            used = backend.timed()
            times[name] += [await _asked(database, residents[number], written[number]) for number in chosen]
            ran = used()
            if ran is not None:
                cpu[name].append(ran / len(chosen))
        turn += 1
    values = {f"{name}_us": statistics.median(each) for name, each in times.items()}
    return values | {f"{name}_postgresql_cpu_us": statistics.median(each) for name, each in cpu.items() if each}


async def _going_round(
    laboratory: Laboratory,
    database: Database,
    residents: Sequence[Resident],
    qualified: Sequence[Written],
    seconds: float,
) -> Mapping[str, float]:
    async with database.unbound() as work:
        backend = await Backend.behind(work, laboratory)
    for _ in range(WARMING * 2):  # until PostgreSQL caches plans
        await _visits(database, residents, qualified)
    times: list[float] = []
    ends = time.monotonic() + seconds
    used = backend.timed()
    while not times or time.monotonic() < ends:
        times += await _visits(database, residents, qualified)
    cpu = used()
    values = {"qualified_us": statistics.median(times)}
    return values if cpu is None else values | {"qualified_postgresql_cpu_us": cpu / len(times)}


def _qualified(written: Written, schema: str) -> Written:
    """The same statement with schema-qualified table names."""
    return Written(TABLES.sub(rf"\1 {schema}.\2", written.sql), written.arguments)


async def _after_grant(place: Place, database: Database, residents: Sequence[Resident]) -> float:
    """Microseconds of entering a tenant right after a membership between two logins was granted or revoked."""
    addresses = place.installation.addresses
    granted, to = quote(addresses.control_login), quote(addresses.tenant_login)
    times: list[float] = []
    async with await place.owner() as owner:
        for turn in range(GRANTS):
            # A tenant login that is a member of the control plane's login could bypass isolation. So the grant is the
            # other way round, which no server checks and no statement uses.
            change = f"GRANT {to} TO {granted}" if turn % 2 == 0 else f"REVOKE {to} FROM {granted}"
            async with owner.unbound() as work:
                await work.script(change)
            started = time.perf_counter()
            async with database.transaction(residents[turn % len(residents)].tenant):
                pass
            times.append((time.perf_counter() - started) * 1e6)
    return statistics.median(times)


async def _pieces(
    place: Place, strategy: Strategy, residents: Sequence[Resident], seconds: float
) -> Mapping[str, float]:
    """The time that each kind of binding statement adds to a message that begins a transaction and rolls it back."""
    messages: dict[str, list[str]] = {}
    for resident in residents:
        for kind, statements in _kinds(strategy.bind(resident.tenant.id)).items():
            messages.setdefault(kind, []).append(f"BEGIN; {'; '.join(statements)}; ROLLBACK")
    connection = await asyncpg.connect(place.installation.addresses.tenant)
    try:

        def sent(each: Sequence[str]) -> Callable[[int], Awaitable[None]]:
            async def send(turn: int) -> None:
                await connection.execute(each[turn % len(each)])

            return send

        asked = {kind: sent(each) for kind, each in messages.items()}
        timed = await _alternating({"": sent([NOTHING]), **asked}, seconds)
    finally:
        await connection.close()
    # They alternate, so adjacent samples ran under the same conditions.
    return {
        f"{kind}_us": statistics.median([time - bare for time, bare in zip(timed[kind], timed[""], strict=True)])
        for kind in asked
    }


def _kinds(binding: str) -> Mapping[str, Sequence[str]]:
    found: dict[str, list[str]] = {}
    for statement in binding.split("; "):
        words = statement.upper().split()
        if words[:2] != ["SET", "LOCAL"]:
            raise OperatorError(f"a binding says {statement.split()[0]}: expected SET LOCAL")
        kind = {"ROLE": "role", "SEARCH_PATH": "search_path"}.get(words[2], "settings")
        found.setdefault(kind, []).append(statement)
    return found
