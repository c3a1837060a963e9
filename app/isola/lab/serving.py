"""Servers under test over a population: Isola, the hand-written function, and PostGraphile."""

import os
import secrets
import shutil
import subprocess
from collections.abc import AsyncIterator, Collection, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import asyncpg
from sqlalchemy import make_url

from isola.lab.operations import Operation
from isola.lab.peers import operations, processes, tokens
from isola.lab.peers.operations import Dialect
from isola.lab.peers.processes import Cores, Peer, Server
from isola.lab.place import Place
from isola.lab.population import SHARED, WITHOUT, Population, Resident, Size
from isola.platform import protection
from isola_strategies.base import Home

POSTGRAPHILE = "postgraphile"
BASELINES = (WITHOUT, POSTGRAPHILE)
"""Subjects of scenarios over HTTP that are no strategy."""


@dataclass(frozen=True, slots=True)
class Served:
    """A running server, with the data to send requests to it."""

    server: Server
    secret: str

    @property
    def dialect(self) -> Dialect:
        return self.server.peer.dialect

    role: str

    def request(self, operation: Operation, resident: Resident, variant: int, token: str | None = None) -> str:
        """A request of the resident's user, with the given ``token`` or a new one."""
        port = self.server.port
        return operation.request(self.dialect, resident, variant, token or self.token(resident), port)

    def token(self, resident: Resident) -> str:
        """A token of the resident's user, valid for the longest possible run."""
        return tokens.mint(self.secret, str(resident.tenant.id), str(resident.user), self.role)


def placement(subject: str) -> str:
    """The strategy of the population for a subject."""
    return SHARED if subject == POSTGRAPHILE else subject


def left_out(subject: str, *, embedded: bool) -> str | None:
    """The reason why a subject cannot take part; None if it can. Installs its packages if possible."""
    if subject != POSTGRAPHILE:
        return None
    if not embedded:
        return "its configuration connects to the embedded server only"
    if processes.NODE.exists():
        return None
    npm = shutil.which("npm")
    if npm is None:
        return "npm, which installs it, is not on the PATH"
    done = subprocess.run([npm, "ci", "--loglevel=error"], check=False, cwd=operations.HERE, capture_output=True)
    return None if done.returncode == 0 and processes.NODE.exists() else "npm could not install it"


class Servers:
    """The servers of a run. A started server keeps running, because the next measurement usually needs it again."""

    def __init__(self, directory: Path, cores: Cores) -> None:
        self._directory = directory
        self._cores = cores
        self._running: dict[tuple[Size, str], tuple[Served, int, ExitStack]] = {}
        self._admitted: set[str] = set()

    async def running(self, population: Population, subject: str, connections: int) -> Served:
        """A server with at most ``connections`` database connections. Raises OperatorError if it does not start."""
        key = (population.size, subject)
        served, before, held = self._running.get(key, (None, 0, ExitStack()))
        if served is None or before != connections:
            held.close()
            started = await self._starting(population, subject, connections)
            held = ExitStack()
            served = held.enter_context(started)
            self._running[key] = (served, connections, held)
        return served

    @asynccontextmanager
    async def fresh(self, population: Population, subject: str, connections: int) -> AsyncIterator[Served]:
        """A server that has served no request; it stops with the context. Raises OperatorError as above."""
        with await self._starting(population, subject, connections) as served:
            yield served

    def stop(self, keeping: Collection[Size] = ()) -> None:
        """Stop the running servers, except those over the populations ``keeping``."""
        for key in [key for key in self._running if key[0] not in keeping]:
            self._running.pop(key)[-1].close()

    async def _starting(self, population: Population, subject: str, connections: int) -> AbstractContextManager[Served]:
        peer = {WITHOUT: processes.HANDWRITTEN, POSTGRAPHILE: processes.POSTGRAPHILE}.get(subject, processes.ISOLA)
        place = population.place
        connection = await asyncpg.connect(place.address)
        try:
            if subject == POSTGRAPHILE and place.name not in self._admitted:
                await _admit_postgraphile(connection)
                self._admitted.add(place.name)
            if subject == WITHOUT:
                # The database creates its proofs, as for all peers.
                login = place.installation.addresses.tenant_login
                await connection.execute(f'GRANT EXECUTE ON FUNCTION isola.proof(uuid, uuid) TO "{login}"')
        finally:
            await connection.close()
        return self._started(peer, population, connections)

    @contextmanager
    def _started(self, peer: Peer, population: Population, connections: int) -> Iterator[Served]:
        secret, port = secrets.token_hex(32), processes.free_port()
        given = environment(population.place, self._directory, secret, port, connections)
        log = self._directory / f"{peer.name}.log"
        with processes.started(peer, given, port, log, self._cores, self._directory) as server:
            # Changing rows of other users requires the permission to manage all.
            yield Served(server, secret, "admin")


def environment(place: Place, directory: Path, secret: str, port: int, connections: int) -> Mapping[str, str]:
    """The complete environment of a server: that of this process, without settings of another Isola."""
    where = place.installation.addresses
    owner = make_url(place.address)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("ISOLA_", "PEER_"))}
    if named := os.environ.get("ISOLA_APPLICATIONS"):
        # Applications of a checkout are found from the current directory, but servers run in another one.
        found = os.pathsep.join(filter(None, [str(Path.cwd()), kept.get("PYTHONPATH")]))
        kept |= {"ISOLA_APPLICATIONS": named, "PYTHONPATH": found}
    return {
        **kept,
        "ISOLA_DATABASE_URL": place.address,
        "ISOLA_TENANT_URL": where.tenant,
        "ISOLA_CONTROL_URL": where.control,
        "ISOLA_DATA_DIR": str(directory),
        "ISOLA_PORT": str(port),
        "ISOLA_POOL_SIZE": str(connections),
        # A scenario may make all clients wait for few connections; that wait is then measured.
        "ISOLA_POOL_WAIT": "30",
        "ISOLA_TOKEN_KEY": secret,
        "NODE_ENV": "production",
        "GRAPHILE_ENV": "production",
        "PEER_DATABASE": place.name,
        "PEER_HOST": str(owner.query.get("host", owner.host)),
        "PEER_POOL": str(connections),
        "PEER_PORT": str(port),
        "PEER_SECRET": secret,
        "PEER_TENANT_URL": where.tenant,
    }


async def _admit_postgraphile(connection: asyncpg.Connection) -> None:
    """Grant PostGraphile's login its rights in one place. Roles are server-wide, so it may exist already."""
    script = (operations.HERE / "visitor.sql").read_text(encoding="utf-8")
    made, _, rights = script.partition(";")
    async with connection.transaction():
        if not await connection.fetchval("SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = 'peer_postgraphile')"):
            await connection.execute(made)
        await connection.execute(rights)
        # It has policies of its own: a server of isola would refuse this home otherwise.
        await connection.execute(protection.mark(Home("rls")))
