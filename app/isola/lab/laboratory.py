"""The environment of scenarios: the lab's databases, populations in them, and servers on these."""

from collections.abc import AsyncIterator, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Self

import psutil

from isola.lab import filling, machine
from isola.lab.cluster import Cluster
from isola.lab.operations import Operation, of_resources
from isola.lab.peers.processes import Cores
from isola.lab.place import Place
from isola.lab.population import OWN_TABLES, Population, Size
from isola.lab.serving import Served, Servers
from isola.subjects.applications import BUILT_IN


class Laboratory:
    """The resources for a scenario. An async context manager that stops all servers at its end.

    ``seed`` is for the rows and for random choices of scenarios. ``postgresql`` is PostgreSQL's postmaster process,
    None if it is on another machine. ``operations`` are those that points name.
    """

    def __init__(
        self,
        cluster: Cluster,
        *,
        directory: Path,
        seed: int,
        postgresql: psutil.Process | None,
        operations: Mapping[str, Operation] | None = None,
        doing: Callable[[str], None] = lambda _: None,
        made: Callable[[Size], None] = lambda _: None,
    ) -> None:
        self.seed = seed
        self.postgresql = postgresql
        self.operations = of_resources() if operations is None else operations
        self._cluster = cluster
        self._doing = doing
        self._made = made
        self._cores = Cores.split(pinned=True)
        self._servers = Servers(directory, self._cores)
        self._populations: dict[Size, Population] = {}
        self._copies: dict[Size, list[Population]] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._servers.stop()

    @asynccontextmanager
    async def place(self) -> AsyncIterator[Place]:
        """A new database with the product and no tenants; dropped at the end together with its roles."""
        place = await self._cluster.make()
        try:
            yield place
        finally:
            await self._cluster.drop(place)

    async def population(
        self,
        *,
        strategy: str,
        tenants: int,
        rows: int,
        skew: str = "even",
        tables: int = OWN_TABLES,
        application: str = BUILT_IN,
    ) -> Population:
        """Created on first use and kept for the run. Its rows must not be changed.

        Raises OperatorError for an unknown skew.
        """
        return await self.populated(Size(strategy, tenants, rows, skew, tables, application))

    async def populated(self, size: Size) -> Population:
        """As ``population``."""
        if size not in self._populations:
            about = f"{size.strategy} of {size.tenants:,} tenants"
            place = await self._cluster.make()
            self._populations[size] = await filling.fill(
                place, size, self.seed, lambda what: self._doing(f"{about}: {what}")
            )
            self._made(size)
        return self._populations[size]

    async def copies(self, size: Size, count: int) -> Sequence[Population]:
        """A population in ``count`` databases, created on first use and kept for the run. Nobody may be in it."""
        population = await self.populated(size)
        there = self._copies.setdefault(size, [])
        while len(there) < count:
            self._doing(f"copying database {len(there) + 1:,} of {count:,}")
            there.append(replace(population, place=await self._cluster.copy(population.place)))
        return there[:count]

    @asynccontextmanager
    async def copied(self, population: Population) -> AsyncIterator[Place]:
        """One more such database, which is dropped at the end."""
        place = await self._cluster.copy(population.place)
        try:
            yield place
        finally:
            await self._cluster.drop(place)

    async def server(self, population: Population, subject: str, *, connections: int) -> Served:
        """A server over a population, with at most ``connections`` connections. It runs until ``rest``.

        ``subject`` is a strategy, ``none`` or ``postgraphile``. Raises OperatorError when it does not start.
        """
        return await self._servers.running(population, subject, connections)

    @asynccontextmanager
    async def fresh_server(self, population: Population, subject: str, *, connections: int) -> AsyncIterator[Served]:
        """A server that has served no request; it stops with the context. Raises OperatorError as above."""
        async with self._servers.fresh(population, subject, connections) as served:
            yield served

    def rest(self, *, keeping: Collection[Size] = ()) -> None:
        """Stop the running servers, except those over the populations ``keeping``."""
        self._servers.stop(keeping)

    @contextmanager
    def pinned(self) -> Iterator[None]:
        """Reserve the first core for the server under test: PostgreSQL and this process use the others."""
        own = psutil.Process()
        moved = [own, *([self.postgresql, *self.postgresql.children()] if self.postgresql else [])]
        before = [_cores(process) for process in moved]
        for process in moved:
            _move(process, self._cores.others)
        try:
            yield
        finally:
            for process, cores in zip(moved, before, strict=True):
                _move(process, cores)

    async def backends(self, place: Place, login: str) -> Sequence[psutil.Process]:
        """PostgreSQL's backend processes of a login in one place; none if it runs on another machine."""
        if self.postgresql is None:
            return []
        rows = await self._cluster.maintenance.fetch(
            "SELECT pid FROM pg_stat_activity WHERE datname = $1 AND usename = $2", place.name, login
        )
        return [psutil.Process(row[0]) for row in rows]

    def postgresql_cpu(self) -> float | None:
        """Seconds of CPU used by all PostgreSQL processes; None if it runs on another machine."""
        if self.postgresql is None:
            return None
        return machine.cpu_seconds([self.postgresql, *self.postgresql.children()])


def _cores(process: psutil.Process) -> Iterable[int]:
    try:
        return process.cpu_affinity() or []
    except (psutil.Error, AttributeError):  # another operating system, or no permission
        return []


def _move(process: psutil.Process, cores: Iterable[int]) -> None:
    try:
        if chosen := list(cores):
            process.cpu_affinity(chosen)
    except (psutil.Error, AttributeError):
        return
