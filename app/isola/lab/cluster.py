"""The lab's databases and roles on a PostgreSQL server, and their removal at the end of a run.

Each run has a database ``isola_lab_<run>`` that holds only its ledger: the roles that the run creates, and the state
of the server before. Its places are ``isola_lab_<run>_<number>``. The run stays connected to its ledger, so a ledger
without connections belongs to a run that died; the next run removes everything of that run.
"""

import re
import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress

import asyncpg
from pydantic import SecretStr
from sqlalchemy import make_url
from sqlalchemy.engine import URL

from isola.errors import OperatorError
from isola.lab.place import Place
from isola.platform import logins, migrations
from isola.server.installation import Installation
from isola.settings import Settings
from isola_strategies import registry

PREFIX = "isola_lab_"
LEDGER = re.compile(rf"{PREFIX}[0-9a-f]{{8}}")
# The roles that objects in a database depend on.
BROUGHT = """
SELECT DISTINCT rolname FROM pg_shdepend d JOIN pg_roles r ON r.oid = d.refobjid
WHERE d.refclassid = 'pg_authid'::regclass AND d.dbid = (SELECT oid FROM pg_database WHERE datname = $1)
"""

POOL = 64
"""The most connections that tenant traffic of a place opens in this process; each is opened when it is first needed."""


class Cluster:
    """The lab's part of a server for the duration of a run. Created by ``entered``."""

    def __init__(self, address: str, run: str, maintenance: asyncpg.Connection, ledger: asyncpg.Connection) -> None:
        self.address = address
        self.run = run
        self.maintenance = maintenance
        self._ledger = ledger
        self._places = 0

    async def make(self) -> Place:
        """Create a database with the product in it. ``drop`` or the end of the run drops it."""
        self._places += 1
        name = f"{PREFIX}{self.run}_{self._places}"
        await self.maintenance.execute(f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'UTF8'")
        place = Place(name, self._installation(name))
        async with await place.owner(2) as owner:
            await migrations.migrate(owner, place.strategies, place.installation.addresses, workers=2)
        return place

    async def copy(self, place: Place) -> Place:
        """Create a database as a copy of a place, with its logins. Nobody may be connected to the place."""
        self._places += 1
        name = f"{PREFIX}{self.run}_{self._places}"
        await self.maintenance.execute(f"CREATE DATABASE {name} TEMPLATE {place.name}")
        return place.elsewhere(name)

    async def drop(self, place: Place) -> None:
        """Drop a place, and the roles that were created for it."""
        await _drop_place(self.maintenance, self._ledger, place.name)
        await _drop_roles(self.maintenance, self._ledger)

    def _installation(self, name: str) -> Installation:
        owner = make_url(self.address).set(database=name)
        # Logins for this place only: SET ROLE searches all memberships of a login.
        tenant, control = (_login(owner, f"{name}_{login}") for login in ("tenant", "control"))
        settings = Settings.model_construct(
            database_url=_secret(owner),
            tenant_url=_secret(tenant),
            control_url=_secret(control),
            pool_size=POOL,
            pool_wait=60.0,
            statement_timeout=600.0,
        )
        where = logins.addresses(settings)
        return Installation(settings, where, registry.load(where.tenant_login))


@asynccontextmanager
async def entered(address: str, *, lasting: bool) -> AsyncIterator[Cluster]:
    """The lab's part of the server at an owner's address. First removes leftovers of runs that died.

    At the end it removes everything, unless the server itself is temporary (not ``lasting``). Raises OperatorError
    when the server cannot be reached or the owner may not create databases and roles.
    """
    async with _connected(address) as maintenance:
        version = maintenance.get_server_version()
        if version.major < 15:  # noqa: PLR2004  the oldest supported version
            raise OperatorError(f"this is PostgreSQL {version.major}: expected 15 or later")
        allowed = await maintenance.fetchval(
            "SELECT rolsuper OR (rolcreatedb AND rolcreaterole) FROM pg_roles WHERE rolname = current_user"
        )
        if not allowed:
            raise OperatorError("the lab makes databases and roles of its own: expected a login that may do both")
        run = secrets.token_hex(4)
        await maintenance.execute("SELECT pg_advisory_lock(hashtext('isola.lab'))")
        try:
            await remove_left_behind(address, maintenance)
            roles = [row[0] for row in await maintenance.fetch("SELECT rolname FROM pg_roles")]
            memberships = await _memberships(maintenance)
            await maintenance.execute(f"CREATE DATABASE {PREFIX}{run} TEMPLATE template0 ENCODING 'UTF8'")
            ledger = await asyncpg.connect(_of(address, f"{PREFIX}{run}"))
        finally:
            await maintenance.execute("SELECT pg_advisory_unlock(hashtext('isola.lab'))")
        try:
            async with ledger.transaction():
                await ledger.execute("CREATE TABLE brought (role text PRIMARY KEY)")
                await ledger.execute("CREATE TABLE before (roles text[], memberships text[])")
                await ledger.execute("INSERT INTO before VALUES ($1, $2)", roles, memberships)
            yield Cluster(address, run, maintenance, ledger)
        finally:
            if lasting:
                await _remove(maintenance, ledger, run)
            else:
                await ledger.close()


async def holds_data(address: str) -> str | None:
    """A description of the data in the database at an address; None if it has no tables."""
    async with _connected(address) as connection:
        tables, size, name = await connection.fetchrow(
            """
            SELECT count(*), pg_size_pretty(coalesce(sum(pg_total_relation_size(c.oid)), 0)), current_database()
            FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
            WHERE c.relkind IN ('r', 'p', 'm') AND n.nspname <> 'information_schema' AND n.nspname NOT LIKE 'pg\\_%'
            """
        )
    return f"{name} holds {tables} tables, {size}" if tables else None


async def remove_left_behind(address: str, maintenance: asyncpg.Connection) -> Sequence[str]:
    """Remove all databases and roles of runs that died. Returns the ids of these runs."""
    names = [row[0] for row in await maintenance.fetch("SELECT datname FROM pg_database ORDER BY datname")]
    alive = {row[0] for row in await maintenance.fetch("SELECT DISTINCT datname FROM pg_stat_activity")}
    dead = [name for name in names if LEDGER.fullmatch(name) and name not in alive]
    for name in dead:
        ledger = await asyncpg.connect(_of(address, name))
        await _remove(maintenance, ledger, name.removeprefix(PREFIX))
    return [name.removeprefix(PREFIX) for name in dead]


async def _remove(maintenance: asyncpg.Connection, ledger: asyncpg.Connection, run: str) -> None:
    """Remove a run. Can be repeated after an interruption: the ledger lists every role and is dropped last."""
    try:
        if await ledger.fetchval("SELECT to_regclass('before') IS NOT NULL"):
            places = await maintenance.fetch(
                "SELECT datname FROM pg_database WHERE datname LIKE $1", f"{PREFIX}{run}\\_%"
            )
            for (name,) in places:
                await _drop_place(maintenance, ledger, name)
            await _drop_roles(maintenance, ledger)
            before = await ledger.fetchval("SELECT memberships FROM before")
            for role in set(await _memberships(maintenance)) - set(before):
                await maintenance.execute(f"REVOKE {logins.quote(role)} FROM CURRENT_USER")
    finally:
        await ledger.close()
    await _drop_database(maintenance, f"{PREFIX}{run}")


async def _drop_place(maintenance: asyncpg.Connection, ledger: asyncpg.Connection, name: str) -> None:
    """Drop a place. Its roles are recorded in the ledger first, so that a later attempt finds them."""
    known = await ledger.fetchval("SELECT roles FROM before")
    brought = {row[0] for row in await maintenance.fetch(BROUGHT, name)} - set(known)
    roles = [f"{name}_tenant", f"{name}_control", *brought]
    await ledger.execute("INSERT INTO brought SELECT unnest($1::text[]) ON CONFLICT DO NOTHING", roles)
    await _drop_database(maintenance, name)


async def _drop_roles(maintenance: asyncpg.Connection, ledger: asyncpg.Connection) -> None:
    """Drop the roles of the run, except those that a place or another database still uses."""
    dropped = []
    for (role,) in await ledger.fetch("SELECT role FROM brought"):
        with suppress(asyncpg.DependentObjectsStillExistError):
            await maintenance.execute(f"DROP ROLE IF EXISTS {logins.quote(role)}")
            dropped.append(role)
    await ledger.execute("DELETE FROM brought WHERE role = ANY($1)", dropped)


async def _drop_database(maintenance: asyncpg.Connection, name: str) -> None:
    try:
        await maintenance.execute(f"DROP DATABASE {name} WITH (FORCE)")
    except asyncpg.InsufficientPrivilegeError:
        # Only a superuser can terminate other roles' sessions. Without FORCE, the drop waits 5 s for them to end.
        await maintenance.execute(f"DROP DATABASE {name}")


async def _memberships(maintenance: asyncpg.Connection) -> Sequence[str]:
    """The product's roles that the owner is a member of: it grants itself membership in some."""
    rows = await maintenance.fetch(
        "SELECT rolname FROM pg_auth_members m JOIN pg_roles r ON r.oid = m.roleid"
        " WHERE m.member = current_user::regrole AND rolname LIKE 'isola\\_%'"
    )
    return [row[0] for row in rows]


@asynccontextmanager
async def _connected(address: str) -> AsyncIterator[asyncpg.Connection]:
    try:
        connection = await asyncpg.connect(address)
    except (OSError, asyncpg.PostgresError, TimeoutError) as error:
        raise OperatorError(f"the database cannot be reached: {error}") from error
    try:
        yield connection
    finally:
        await connection.close()


def _login(owner: URL, name: str) -> URL:
    return owner.set(username=name, password=None if owner.password is None else secrets.token_hex(16))


def _secret(url: URL) -> SecretStr:
    return SecretStr(url.render_as_string(hide_password=False))


def _of(address: str, database: str) -> str:
    return make_url(address).set(database=database).render_as_string(hide_password=False)
