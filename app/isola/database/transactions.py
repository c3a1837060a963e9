"""The only module that opens connections, begins, binds and commits transactions, and gives connections back.

A request costs three round trips: begin and binding in one message, its statement, and commit and check in one
message. All that a binding sets is local to the transaction, so PgBouncer in transaction mode may stand between.
"""

import asyncio
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import lru_cache, partial
from types import MappingProxyType, TracebackType
from typing import Any, Protocol, Self, cast
from uuid import UUID

import asyncpg
import structlog
from sqlalchemy import ClauseElement, Delete, Update, text
from sqlalchemy.dialects.postgresql.asyncpg import dialect as asyncpg_dialect
from sqlalchemy.sql.compiler import SQLCompiler

from isola import exact_json
from isola.database import moments
from isola.database.address import connecting
from isola.database.binding import NOTHING, BindingKey, record
from isola.database.claims import Claim
from isola.database.connection import Binding, Connection
from isola.database.failures import LOST, REACHING, cause, translate
from isola.database.pool import Link, Pool, Usage
from isola.database.statements import STATEMENT_LENGTH
from isola.errors import BadUserInput, Conflict, Unavailable, Unconfirmed
from isola_strategies.base import Strategy

log = structlog.get_logger()

DIALECT = asyncpg_dialect()  # type: ignore[no-untyped-call]  # SQLAlchemy's dialects have no annotations here

# A connection that died while idle in the pool is replaced; nothing has been run on it yet.
ATTEMPTS = 3

# After these errors a connection has lost prepared statements that it should have.
UNUSABLE = {asyncpg.InvalidSQLStatementNameError.sqlstate}

# Minimum seconds between two reads of the key, however many transactions fail their proof.
KEY_INTERVAL = 1.0

_PREPARED_TRANSACTIONS = """
SELECT quote_ident(r.rolname), quote_literal(p.gid)
FROM pg_prepared_xacts p JOIN pg_roles r ON r.rolname = p.owner
WHERE p.database = current_database() AND pg_has_role(session_user, r.oid, 'MEMBER')
"""


class Placed(Protocol):
    """The attributes of a tenant that its transactions depend on."""

    @property
    def id(self) -> UUID: ...
    @property
    def strategy(self) -> str: ...


ReadKey = Callable[[], Awaitable[BindingKey]]


class Transaction:
    """An open transaction, as used by rules and the read compiler. See ``isola.subjects.work.Work``."""

    def __init__(self, connection: Connection, strategy: Strategy | None) -> None:
        self._connection = connection
        self._strategy = strategy

    @property
    def strategy(self) -> Strategy:
        if self._strategy is None:
            raise RuntimeError("this transaction is bound to no tenant")
        return self._strategy

    async def rows(
        self, statement: ClauseElement, values: Mapping[str, Any] | None = None
    ) -> Sequence[Mapping[str, Any]]:
        sql, arguments = self._written(statement, values)
        rows: list[asyncpg.Record] = await self._connection.fetch(sql, *arguments)
        return rows

    async def scalar(self, statement: ClauseElement, values: Mapping[str, Any] | None = None) -> Any:
        sql, arguments = self._written(statement, values)
        return await self._connection.fetchval(sql, *arguments)

    async def execute(self, statement: ClauseElement, values: Mapping[str, Any] | None = None) -> int:
        sql, arguments = self._written(statement, values)
        status: str = await self._connection.execute(sql, *arguments)
        count = status.rpartition(" ")[2]
        return int(count) if count.isdigit() else 0

    async def value(self, sql: str, *values: object) -> Any:
        """Run SQL text with ``$n`` parameters; the first column of the first row, or None."""
        return await self._connection.fetchval(sql, *values)

    async def texts(self, sql: str, *values: object) -> list[str]:
        """Run SQL text with ``$n`` parameters; the first column of every row."""
        return [row[0] for row in await self._connection.fetch(sql, *values)]

    async def pairs(self, sql: str, *values: object) -> dict[str, str]:
        """Run SQL text with ``$n`` parameters; the first column of every row with the second."""
        return {row[0]: row[1] for row in await self._connection.fetch(sql, *values)}

    async def script(self, sql: str) -> None:
        """Run statements without parameters, joined by semicolons, in one message."""
        await self._connection.execute(sql)

    async def copy_out(self, query: str, output: Callable[[bytes], Awaitable[None]]) -> None:
        """Pass the rows of a query to ``output``, in chunks, in COPY's text format: one line per row."""
        await self._connection.copy_from_query(query, output=output)

    async def copy_in(self, schema: str, table: str, columns: Sequence[str], rows: AsyncIterator[bytes]) -> int:
        """Store rows that ``copy_out`` has written; how many."""
        status: str = await self._connection.copy_to_table(table, schema_name=schema, columns=columns, source=rows)
        return int(status.rpartition(" ")[2])

    @asynccontextmanager
    async def savepoint(self) -> AsyncIterator[None]:
        """Roll back only what is done inside, if the database refuses it.

        Then raises what ``Database.transaction`` would raise; the transaction continues.
        """
        await self._connection.execute("SAVEPOINT attempt")
        try:
            yield
        except asyncpg.PostgresError as error:
            await self._connection.execute("ROLLBACK TO SAVEPOINT attempt; RELEASE SAVEPOINT attempt")
            _raise_translated(error, None, lost=False, read_only=False)
            raise
        await self._connection.execute("RELEASE SAVEPOINT attempt")

    def _written(self, statement: ClauseElement, values: Mapping[str, Any] | None) -> tuple[str, list[object]]:
        """The statement's text, and the arguments in the order of its parameters."""
        if values is None:
            compiled = _compiled(statement, self._strategy, ())
            parameters = compiled.params
        else:
            compiled = _compiled_once(statement, self._strategy, tuple(values))
            parameters = compiled.construct_params(values)
        return str(compiled), [parameters[name] for name in compiled.positiontup or ()]


def _compiled(statement: ClauseElement, strategy: Strategy | None, names: tuple[str, ...]) -> SQLCompiler:
    if strategy is not None and isinstance(statement, Update | Delete):
        predicate = strategy.predicate(str(statement.table))
        if predicate is not None:
            statement = statement.where(text(predicate))
    compiled = statement.compile(
        dialect=DIALECT, column_keys=list(names) or None, compile_kwargs={"render_postcompile": True}
    )
    return cast("SQLCompiler", compiled)


# Only for statements whose values are passed separately: the cache contains no values of tenants.
_compiled_once = lru_cache(maxsize=512)(_compiled)


class Database:
    """The connections of one login. Created by ``open``; as an async context manager, it closes them at the end."""

    def __init__(
        self,
        pool: Pool,
        strategies: Mapping[str, Strategy],
        read_key: ReadKey | None,
        *,
        wait: float,
    ) -> None:
        self._pool = pool
        self._strategies = strategies
        self._read_key = read_key
        self._key: BindingKey | None = None
        self._key_lock = asyncio.Lock()
        self._key_read_at = -math.inf
        self._wait = wait

    @classmethod
    async def open(
        cls,
        url: str,
        strategies: Mapping[str, Strategy] = MappingProxyType({}),
        read_key: ReadKey | None = None,
        *,
        size: int = 1,
        wait: float = 2.0,
        statement_timeout: float = 10.0,
        statement_cache: bool = True,
    ) -> Self:
        """Connections for ``url``, at most ``size``, each opened when it is first needed.

        ``strategies`` are those whose tenants it can enter. ``read_key`` returns the key that transactions prove their
        tenant with; it is called before the first transaction inside a tenant, and again when the database has a new
        key. Without it, nothing is proved and policies refuse. A login that enters no tenants needs neither.

        A transaction waits at most ``wait`` seconds for a connection. Raises nothing when the database is down: each
        transaction then raises Unavailable, until the database is back.

        With ``statement_cache`` connections keep prepared statements, unless one tenant could replace a statement
        that the next one runs.
        """
        # The server's own limit comes first; this one ends the wait for a server that has vanished.
        connected = partial(_connected, url, command_timeout=statement_timeout + wait, enters=bool(strategies))
        limits = (
            f"SET LOCAL statement_timeout TO {round(statement_timeout * 1000)}",
            # The client of a statement may have disconnected: then the server should stop working on it.
            "SET LOCAL client_connection_check_interval TO 1000",
        )
        keep = statement_cache

        async def connect() -> Link:
            nonlocal keep
            async with asyncio.timeout(wait):
                try:
                    connection = await connected(keep)
                except asyncpg.ProtocolViolationError:
                    # A pooler refuses unknown settings.
                    if not keep:
                        raise
                    keep = False
                    _warn_not_reused()
                    connection = await connected(keep)
                try:
                    if strategies and await _has_settings_of_its_own(connection):
                        log.error("the login of tenant traffic had settings of its own")
                        await _reset_login(connection)
                        connection.terminate()
                        connection = await connected(keep)
                    if keep and strategies and not await _hides_names(connection):
                        keep = False
                        _warn_not_reused()
                        connection.terminate()
                        connection = await connected(keep)
                    return await _prepared(connection, limits, enters=bool(strategies), keep=keep)
                except BaseException:
                    connection.terminate()
                    raise

        return cls(Pool(connect, size, wait), strategies, read_key, wait=wait)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._pool.close()

    @property
    def usage(self) -> Usage:
        return self._pool.usage

    def transaction(
        self,
        tenant: Placed,
        *,
        read_only: bool = False,
        about: Mapping[str, str] = NOTHING,
        claim: Claim | None = None,
        role: str | None = None,
    ) -> AbstractAsyncContextManager[Transaction]:
        """A transaction inside one tenant, committed at the end, rolled back by any exception.

        ``about`` contains further facts about the request that the transaction proves: see ``FIELDS`` in
        isola/database/binding.py. The log takes the actor from it.

        With a ``claim``, the first statement raises Answered if the request was answered before, and Conflict if its
        key is one of another request. Raises BadUserInput instead of committing a claim without an answer.

        With a ``role``, it is entered in that role instead of the tenant's, and names of tables have to be qualified.

        Raises Unavailable when no connection is free in time, when the database cannot be reached, and when the
        tenant's home does not exist; Conflict and BadUserInput for constraint violations.
        """
        strategy = self._strategies.get(tenant.strategy)
        if strategy is None:
            raise Unavailable("the strategy of this tenant is not installed here")
        stated = record(tenant.id, about)
        return _Running(self, strategy, tenant.id, stated, read_only=read_only, claim=claim, role=role)

    def unbound(self) -> AbstractAsyncContextManager[Transaction]:
        """A transaction outside of tenants, for the control plane and the owner. Otherwise like ``transaction``."""
        return _Running(self, None, None, "", read_only=False)

    async def reset_login(self) -> None:
        """Reset the settings that the login itself can change, for all future sessions.

        Raises Unavailable.
        """
        link = await self._borrowed(None)
        try:
            await _reset_login(link.connection)
        except asyncpg.PostgresError as error:
            raise Unavailable("the settings of the login cannot be reset") from error
        finally:
            self.release(link, None, clean=False)

    async def roll_back_prepared(self) -> None:
        """Roll back prepared transactions (``PREPARE TRANSACTION``) of this login or a role of its tenants.

        Behind a pooler only the login's own can be rolled back. Raises Unavailable.
        """
        link = await self._borrowed(None)
        try:
            for owner, transaction in await link.connection.fetch(_PREPARED_TRANSACTIONS):
                await link.connection.execute(f"SET ROLE {owner}")
                await link.connection.execute(f"ROLLBACK PREPARED {transaction}")
        except asyncpg.PostgresError as error:
            raise Unavailable("a prepared transaction cannot be rolled back") from error
        finally:
            self.release(link, None, clean=False)

    async def begun(
        self,
        strategy: Strategy | None,
        tenant: UUID | None,
        stated: str,
        *,
        read_only: bool,
        claim: Claim | None = None,
        role: str | None = None,
    ) -> Link:
        """A connection with an open transaction, to be given back. Raises Unavailable.

        With a strategy, the first statement on it enters the tenant; ``stated`` is the record that it proves.
        """
        key = self._key
        if tenant is not None and key is None and self._read_key is not None:
            key = await self._newer_key(None)
        binding = None if strategy is None or tenant is None else _binding(strategy, tenant, role)
        home = None if binding is None else binding.home
        for attempt in range(1, ATTEMPTS + 1):
            # If several died, all idle connections may be dead.
            link = await self._borrowed(tenant, home, fresh=attempt == ATTEMPTS)
            connection = link.connection
            begun = False
            try:
                link.kept.enter(home, is_lent=link.is_lent)
                transaction = await connection.begin(binding, read_only=read_only, timeout=self._wait)
                if binding is not None:
                    proof = key.proof(stated, transaction) if key is not None else stated
                    again = partial(self._again, connection, binding, stated, key, read_only=read_only)
                    connection.enter(binding, proof, again, read_only=read_only, claim=claim)
                begun = True
            except TimeoutError as error:
                # PgBouncer accepts connections at once; the wait is for its connection to the database.
                raise Unavailable(f"the database gave no connection within {self._wait:g} s") from error
            except (*LOST, asyncpg.QueryCanceledError, asyncpg.InvalidSQLStatementNameError):
                continue  # it died while idle in the pool, or an earlier user left it unusable
            except asyncpg.PostgresError as error:
                log.warning("a transaction could not begin", sqlstate=error.sqlstate)
                translated = translate(error, lost=False)
                if isinstance(translated, Unavailable):
                    raise translated from error
                raise Unavailable("the home of this tenant cannot be accessed") from error
            finally:
                if not begun:
                    self.release(link, tenant, clean=False)
            return link
        raise Unavailable("the database closes its connections")

    async def _again(
        self, connection: Connection, binding: Binding, stated: str, key: BindingKey | None, *, read_only: bool
    ) -> str | None:
        """Restart a transaction whose proof was refused, if the database has a new key."""
        if key is None:
            return None
        newer = await self._newer_key(key)
        if newer == key:
            return None
        await connection.roll_back()
        return newer.proof(stated, await connection.begin(binding, read_only=read_only, timeout=self._wait))

    async def _newer_key(self, key: BindingKey | None) -> BindingKey:
        """The current key of the database; concurrent callers with this ``key`` share one read. Raises Unavailable."""
        if (read_key := self._read_key) is None:
            raise RuntimeError("these connections were opened without a binding key")
        try:
            async with asyncio.timeout(self._wait), self._key_lock:
                if self._key is None or self._key is key:
                    await asyncio.sleep(self._key_read_at + KEY_INTERVAL - time.monotonic())
                    self._key = await read_key()
                    self._key_read_at = time.monotonic()
                    if key is not None and self._key != key:
                        log.info("the binding key has changed and was read again")
                return self._key
        except TimeoutError as error:
            raise Unavailable("the binding key cannot be read") from error

    def release(self, link: Link, tenant: UUID | None, *, clean: bool) -> None:
        """Return a connection to the pool if it is proven clean; discard it otherwise."""
        self._pool.release(link, tenant, clean=clean)

    async def _borrowed(self, tenant: UUID | None, home: str | None = None, *, fresh: bool = False) -> Link:
        try:
            return await self._pool.borrow(tenant, home, fresh=fresh)
        except (*LOST, asyncpg.PostgresError) as error:
            raise Unavailable(f"the database cannot be reached: {cause(error)}") from error


async def accepts(url: str) -> bool:
    """Whether the database accepts the login and password of an address. Raises Unavailable if it does not answer."""
    try:
        async with await Database.open(url) as database, database.unbound():
            return True
    except Unavailable as error:
        if isinstance(error.__cause__, asyncpg.InvalidAuthorizationSpecificationError | asyncpg.InterfaceError):
            return False
        raise


def _warn_not_reused() -> None:
    log.warning(
        "prepared statements are not reused",
        reason="a pooler or pg_prepared_statement() reveals their names: see docs/deployment.md",
    )


# Planner settings inside tenants: nested loops over index scans, in index order. Statements read pages, and join rows
# to what they reference by key. One plan serves tenants of all sizes; other plans are cheaper for small ones, and read
# all rows of a large one. Before PostgreSQL 18, disabled node types add a huge cost that would trigger JIT for every
# statement: hence ``jit``.
_PLANNING = dict.fromkeys(
    (
        "enable_seqscan",
        "enable_bitmapscan",
        "enable_hashjoin",
        "enable_mergejoin",
        "enable_material",
        "jit",
    ),
    "off",
)
# The path outside of tenants: the default contains the name of the current role, so the statements that begin and enter
# would be planned anew for each tenant with its own role.
_KEPT_SETTINGS = {"search_path": "pg_catalog", **_PLANNING}


async def _connected(url: str, keep: bool, *, command_timeout: float, enters: bool) -> Connection:  # noqa: FBT001  given in turn
    by = connecting(url)
    connection: Connection = await asyncpg.connect(
        by.address,
        timeout=by.timeout,
        connection_class=Connection,
        # Whether statements are cached; isola.database.statements decides how many.
        statement_cache_size=1 if keep else 0,
        max_cacheable_statement_size=STATEMENT_LENGTH,
        command_timeout=command_timeout,
        server_settings={
            "timezone": "UTC",
            "application_name": "isola",
            **(_KEPT_SETTINGS if keep and enters else {}),
        },
    )
    connection.set_socket_options(by.socket_options)
    return connection


async def _has_settings_of_its_own(connection: Connection) -> bool:
    """Whether the session started with settings that the login itself, and so SQL inside a tenant, can change."""
    # Without parameters, so that it is not prepared.
    status = await connection.execute(
        "SELECT 1 WHERE current_setting('role') <> 'none' OR EXISTS ("
        "SELECT FROM pg_db_role_setting, unnest(setconfig) given "
        "JOIN pg_settings ON name = split_part(given, '=', 1) AND context = 'user' "
        "WHERE setrole = (SELECT oid FROM pg_roles WHERE rolname = session_user) AND setdatabase IN "
        "(0, (SELECT oid FROM pg_database WHERE datname = current_database())))"
    )
    return bool(status == "SELECT 1")


async def _reset_login(connection: Connection) -> None:
    # A separate message: a transaction that has begun stays read-only.
    await connection.execute("SET default_transaction_read_only TO off; SET statement_timeout TO 0; SET ROLE NONE")
    await connection.execute(
        "ALTER ROLE SESSION_USER RESET ALL; DO $$ BEGIN EXECUTE "
        "format('ALTER ROLE SESSION_USER IN DATABASE %I RESET ALL', current_database()); END $$"
    )


async def _hides_names(connection: Connection) -> bool:
    """Whether the names of this connection's prepared statements are hidden from other users of it.

    A pooler in between assigns its own, sequential names, and reports the PID of its own process.
    """
    # Without parameters, so that it is not prepared itself.
    status = await connection.execute(
        f"SELECT 1 WHERE pg_backend_pid() = {connection.get_server_pid()} "
        "AND NOT has_function_privilege('public', 'pg_prepared_statement()', 'EXECUTE')"
    )
    return bool(status == "SELECT 1")


class _Running:
    """One transaction. A class, because a generator-based context manager is several times slower."""

    __slots__ = ("_claim", "_database", "_link", "_read_only", "_role", "_stated", "_strategy", "_tenant")

    def __init__(
        self,
        database: Database,
        strategy: Strategy | None,
        tenant: UUID | None,
        stated: str,
        *,
        read_only: bool,
        claim: Claim | None = None,
        role: str | None = None,
    ) -> None:
        self._database = database
        self._strategy = strategy
        self._tenant = tenant
        self._stated = stated
        self._read_only = read_only
        self._claim = claim
        self._role = role

    async def __aenter__(self) -> Transaction:
        self._link = await self._database.begun(
            self._strategy,
            self._tenant,
            self._stated,
            read_only=self._read_only,
            claim=self._claim,
            role=self._role,
        )
        return Transaction(self._link.connection, self._strategy)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None and self._claim is not None and not self._claim.kept:
                unanswered = BadUserInput("Idempotency-Key: the answer to this mutation cannot be kept")
                await self._end(unanswered)
                raise unanswered
            await self._end(error)
        except Conflict as conflict:
            if isinstance(conflict.__cause__, asyncpg.ForeignKeyViolationError | asyncpg.RestrictViolationError):
                await self._refuse_moved()
            raise

    async def _refuse_moved(self) -> None:
        """Raise Unavailable if the tenant has moved away meanwhile: then that is why a referenced row is missing."""
        if self._tenant is None:
            return
        again = _Running(self._database, self._strategy, self._tenant, self._stated, read_only=True)
        async with again as work:
            await work.value("SELECT isola.current_tenant_id()")

    async def _end(self, error: BaseException | None) -> None:
        connection = self._link.connection
        clean = False
        try:
            if error is None:
                try:
                    clean = await _committed(connection, read_only=self._read_only)
                except asyncpg.PostgresError as refusal:
                    clean = await _rolled_back(connection)
                    _raise_translated(refusal, self._tenant, lost=not clean, read_only=self._read_only)
                    raise
            elif isinstance(error, TimeoutError):
                # The statement may still run, and a rollback would wait for it. Closing the connection ends it.
                raise Unavailable("the statement took too long") from error
            elif isinstance(error, Exception):
                clean = await _rolled_back(connection)
                lost = not clean
                if isinstance(error, asyncpg.PostgresError) and error.sqlstate in UNUSABLE:
                    clean = False
                _raise_translated(error, self._tenant, lost=lost, read_only=self._read_only)
        finally:
            self._database.release(self._link, self._tenant, clean=clean)


async def _committed(connection: Connection, *, read_only: bool) -> bool:
    """Commit; whether the connection is proven clean. Raises what PostgreSQL raises at commit."""
    try:
        if not connection.is_in_transaction():
            await connection.end_session()
            raise RuntimeError("a statement ended its own transaction")
        clean = await connection.commit(read_only=read_only)
    except LOST as error:
        raise Unconfirmed("the connection was lost while committing: the change may have been made or not") from error
    if clean:
        return True
    log.error("a session has leftover state and is closed")
    await connection.end_session()
    return False


async def _rolled_back(connection: Connection) -> bool:
    """Roll back; whether the connection is proven clean."""
    try:
        if await connection.roll_back():
            return True
    except LOST:
        return False
    except asyncpg.PostgresError as error:
        log.warning("a session could not be reset", sqlstate=error.sqlstate)
    await connection.end_session()
    return False


def _raise_translated(error: Exception, tenant: UUID | None, *, lost: bool, read_only: bool) -> None:
    """Raise the client error for a database error, if there is one. Log attempts to reach other tenants."""
    if tenant is not None and isinstance(error, asyncpg.PostgresError) and error.sqlstate in REACHING:
        log.warning("a statement tried to reach outside its tenant", tenant=str(tenant), sqlstate=error.sqlstate)
    translated = translate(error, lost=lost, read_only=read_only)
    if translated is not error:
        raise translated from error


async def _prepared(connection: Connection, limits: Sequence[str], *, enters: bool, keep: bool) -> Link:
    pooled = await connection.fetchval("SELECT pg_backend_pid()") != connection.get_server_pid()
    if enters and not keep:
        limits = [*limits, *(f"SET LOCAL {name} TO {value}" for name, value in _PLANNING.items())]
    await connection.prepare_transactions(limits, enters=enters, keep=keep, pooled=pooled)
    await connection.set_type_codec("jsonb", schema="pg_catalog", encoder=exact_json.dumps, decoder=exact_json.loads)
    for name, (encoder, decoder) in moments.CODECS.items():
        await connection.set_type_codec(name, schema="pg_catalog", encoder=encoder, decoder=decoder, format="tuple")
    return Link(connection)


@lru_cache(maxsize=4096)
def _binding(strategy: Strategy, tenant: UUID, role: str | None) -> Binding:
    other = "" if role is None else f"; SET LOCAL ROLE {role}; SET LOCAL search_path TO pg_catalog"
    return Binding.of(strategy.bind(tenant) + other)
