"""Connections with tenant affinity, compared with connections without."""

import asyncio
import random
import statistics
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from uuid import UUID

from isola.database.binding import BindingKey
from isola.database.pool import Link
from isola.database.transactions import Database
from isola.lab.backend import Backend
from isola.lab.laboratory import Laboratory
from isola.lab.looking import timed
from isola.lab.place import Place
from isola.lab.population import Population, Resident
from isola.lab.scenario import Needs, Point, Profile, sized, strategies
from isola.lab.statements import Statements, Written
from isola.platform import secrets

VISITS = 12
"""How often each tenant is served: each statement is planned for its values five times, then a plan is kept."""
BACKEND_BYTES = 64 << 20
VISIT_SECONDS = 0.001


class Mixed(Database):
    """Connections that do not stay with tenants: each transaction gets an idle one, whichever homes it knows."""

    async def _borrowed(self, tenant: UUID | None, home: str | None = None, *, fresh: bool = False) -> Link:  # noqa: ARG002  it is what is not regarded
        return await super()._borrowed(tenant, None, fresh=fresh)


class Affinity:
    """All tenants are served by ``connections`` connections, which stay with the tenants that they know, or do not.

    As many transactions run at once as there are connections. Each reads the list of 50, in tenants in random order,
    each twelve times: once by the product's pool, and once by one that gives any idle connection.

    - ``staying_connection``, ``mixed_connection``: memory of one connection afterwards, the mean of all that are open.
    - ``staying_cpu``, ``mixed_cpu``: CPU of all PostgreSQL processes a transaction, in the second half, when each
      tenant has been served six times; ``staying``, ``mixed``: the median time of such a transaction.
    - ``saved_memory``, ``saved_cpu``: how many times as much the one without affinity takes.
    """

    name = "affinity"
    question = "What does connection affinity save?"
    notes = (
        (
            "A connection that has grown by about 44 MB is replaced, with affinity and without. So with very many "
            "tenants its memory stops growing, and CPU grows instead: catalogue caches and plans are built again."
        ),
        (
            "Under `rls` all tenants have one home, so every connection knows it: there is nothing to stay with, and "
            "both are the same except for noise."
        ),
    )

    def __init__(self) -> None:
        self._statements = Statements()

    def points(self, profile: Profile) -> Iterable[Point]:
        return profile.points(self.name)

    def subjects(self, point: Point) -> Sequence[str]:  # noqa: ARG002  the same everywhere
        return strategies()

    def needs(self, point: Point) -> Needs:
        connections = point.number("connections")
        return Needs(
            connections=connections + 2,
            memory_bytes=connections * BACKEND_BYTES,
            populations=tuple(sized(point, subject) for subject in self.subjects(point)),
        )

    def expected_seconds(self, point: Point) -> float:
        return 1.0 + 2 * VISITS * point.number("tenants") * VISIT_SECONDS

    async def measure(self, laboratory: Laboratory, point: Point, subject: str, round: int) -> Mapping[str, float]:
        population = await laboratory.populated(sized(point, subject))
        kinds: list[tuple[str, type[Database]]] = [("staying", Database), ("mixed", Mixed)]
        values: dict[str, float] = {}
        for name, kind in kinds[:: 1 if round % 2 else -1]:
            async with await _opened(population.place, kind, point.number("connections")) as database:
                measured = await self._served(laboratory, database, population, point, round)
            values |= {f"{name}_{what}": value for what, value in measured.items()}
        for saved, what in (("memory", "connection_bytes"), ("cpu", "cpu_us")):
            # The system counts CPU in ticks, so of few transactions it may be none.
            if staying := values.get(f"staying_{what}"):
                values[f"saved_{saved}_ratio"] = values[f"mixed_{what}"] / staying
        return values

    async def _served(
        self, laboratory: Laboratory, database: Database, population: Population, point: Point, round: int
    ) -> Mapping[str, float]:
        strategy = population.place.strategies[population.size.strategy]
        operation = laboratory.operations["Resources"]
        asked = [(each, self._statements.of(operation, each, strategy)) for each in population.residents]
        # The same order for all subjects, and for both pools.
        chance = random.Random(f"{laboratory.seed} {round}")  # noqa: S311  the same in every run
        halves = []
        for _ in range(2):
            half = asked * (VISITS // 2)
            chance.shuffle(half)
            halves.append(half)
        at_once = point.number("connections")
        await _ask(database, halves[0], at_once)
        before = laboratory.postgresql_cpu()
        times = await _ask(database, halves[1], at_once)
        after = laboratory.postgresql_cpu()
        login = population.place.installation.addresses.tenant_login
        backends = [Backend(process.pid) for process in await laboratory.backends(population.place, login)]
        memory = [size for backend in backends if (size := backend.own_bytes()) is not None]
        values = {"ms": statistics.median(times)}
        if before is not None and after is not None:
            values["cpu_us"] = (after - before) / len(times) * 1e6
        if memory:
            values["connection_bytes"] = statistics.fmean(memory)
        return values


async def _ask(database: Database, asked: Sequence[tuple[Resident, Written]], at_once: int) -> Sequence[float]:
    """Milliseconds of each of the transactions, several at once."""
    waiting = deque(asked)
    times: list[float] = []

    async def work() -> None:
        while waiting:
            resident, written = waiting.popleft()
            times.extend(await timed(database, resident, written, 1))

    async with asyncio.TaskGroup() as group:
        for _ in range(at_once):
            group.create_task(work())
    return times


async def _opened(place: Place, kind: type[Database], connections: int) -> Database:
    """Connections for tenant traffic, of a kind, as the product opens them."""
    where, settings = place.installation.addresses, place.installation.settings

    async def key() -> BindingKey:
        async with await place.installation.control(1) as control, control.unbound() as work:
            return await secrets.binding_key(work)

    return await kind.open(
        where.tenant,
        place.strategies,
        key,
        size=connections,
        wait=settings.pool_wait,
        statement_timeout=settings.statement_timeout,
    )
