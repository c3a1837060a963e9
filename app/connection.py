"""Connections that enter tenants without a round trip of its own, and whose sessions end at the server if need be.

A transaction inside a tenant takes three round trips. The first begins it, binds it, and reports which transaction that
is: PostgreSQL sends every change of ``application_name`` to the client. The proof is for this transaction alone. It
goes out as a parameter, so it stands in no statement's text, and together with the first statement that is run. The
third commits, cleans up and looks whether that was enough. See docs/decisions/0008.
"""

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable, Iterable
from secrets import token_hex
from typing import Any, TypeAlias

import asyncpg
from asyncpg.connection import _StatementCache

from app.failures import LOST, NOT_PROVED

NAME = "isola"
"""The ``application_name`` of a session. While a transaction is inside a tenant, more stands behind it."""

# Which transaction this is: no other has both this process and this moment, as long as the clock is not set back.
# The database has the same in isola.this_transaction().
THIS_TRANSACTION = (
    f"pg_catalog.concat_ws(' ', '{NAME}', pg_catalog.pg_backend_pid(), "
    "EXTRACT(epoch FROM pg_catalog.transaction_timestamp()))"
)
# It returns no row, since nobody reads one.
REPORT = f"SELECT 1 WHERE pg_catalog.set_config('application_name', {THIS_TRANSACTION}, true) IS NULL; "

# How a transaction begins that may write, and one that may not.
OPENING: tuple[str, str] = ("BEGIN; ", "BEGIN READ ONLY; ")
# A pooler hands out sessions that nobody has looked at since somebody else used them.
_WHATEVER_WAS_LEFT = (
    "BEGIN ISOLATION LEVEL READ COMMITTED, READ {mode}; SET ROLE NONE; RESET ALL; SET LOCAL TimeZone TO 'UTC'; "
    "CLOSE ALL; UNLISTEN *; DEALLOCATE ALL; SELECT pg_catalog.pg_advisory_unlock_all(); "
)
OPENING_BEHIND_POOLER = (_WHATEVER_WAS_LEFT.format(mode="WRITE"), _WHATEVER_WAS_LEFT.format(mode="ONLY"))

# A session that waits inside a transaction for longer than this, in milliseconds, is ended by the server. A setting can
# do that which is everybody's own; the function that ends sessions would end those of other tenants, too.
_ENDING = "ROLLBACK; SET statement_timeout TO 0; BEGIN; SET LOCAL idle_in_transaction_session_timeout TO 1"
_ENDING_ATTEMPTS, _ENDING_WAIT = 3, 1.0

Again: TypeAlias = Callable[[], Awaitable[str | None]]
"""Begins a transaction anew, and returns what enters it; None if there is nothing else to try."""


# How long the texts of the statements may be together that a connection keeps prepared, in characters. *Measured*:
# PostgreSQL takes 100 to 200 bytes for each of them, for their plans.
STATEMENTS_SIZE = 256 * 1024
# A longer one is planned anew each time.
STATEMENT_SIZE = STATEMENTS_SIZE // 4


class _Statements(_StatementCache):  # type: ignore[misc]  # asyncpg has no annotations
    """Prepared statements, those that were used last: so many, and so long together."""

    __slots__ = ()

    def _maybe_cleanup(self) -> None:
        super()._maybe_cleanup()
        size = sum(len(statement) for statement, *_ in self._entries)
        while size > STATEMENTS_SIZE:
            (statement, *_), entry = self._entries.popitem(last=False)
            size -= len(statement)
            self._clear_entry_callback(entry)
            self._on_remove(entry._statement)  # noqa: SLF001  as asyncpg does it


class Connection(asyncpg.Connection):  # type: ignore[misc]  # asyncpg has no annotations
    """A connection that can be made to enter a tenant with whatever is run next."""

    opening = OPENING
    _statement: asyncpg.prepared_stmt.PreparedStatement | None = None
    _before = _after = b""
    _entry: tuple[str, Again] | None = None

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        # asyncpg's own counts statements, however long they are.
        self._stmt_cache.__class__ = _Statements

    def _get_unique_id(self, prefix: str) -> str:
        """A name for a prepared statement, which nobody can guess.

        Statements outlive a transaction. SQL that is smuggled into one could else put a statement of its own under the
        name of one that the next tenant runs; nor may it look the names up, see ``FOR_NO_TENANT`` in
        app/control/logins.py.
        """
        return f"{prefix}_{token_hex(16)}"

    def set_socket_options(self, options: Iterable[tuple[int, int, int]]) -> None:
        """Set options of the socket, if it is one of TCP."""
        end = self._transport.get_extra_info("socket")
        if end is not None and end.family in {socket.AF_INET, socket.AF_INET6}:
            for option in options:
                end.setsockopt(*option)

    async def prepare_entry(self, sql: str, *, keep: bool) -> None:
        """Say what enters a tenant: a statement with one parameter, a text, that returns no row.

        With ``keep`` it stays prepared. Otherwise it is sent along with each transaction.
        """
        name = b""
        if keep:
            self._statement = await self.prepare(sql)
            name = self._statement.get_name().encode()
        parse = b"" if keep else _message(b"P", b"\0", sql.encode(), b"\0", b"\0\0")
        # One value, and all of it as text.
        self._before, self._after = parse, b"\0" + name + b"\0" + b"\0\0" + b"\0\1"

    @property
    def reported(self) -> str | None:
        """The transaction that ``REPORT`` reported; None if it was not heard."""
        name: str = self.get_settings().application_name
        return name if name.startswith(f"{NAME} ") else None

    def enter(self, value: str, again: Again) -> None:
        """Have the next statement preceded by what enters a tenant, in the same message.

        If it is refused as not proved, the statement has not been run, and ``again`` is asked for another value.
        """
        self._entry = value, again

    async def command(self, sql: str, *, timeout: float | None = None) -> str:  # noqa: ASYNC109  asyncpg's
        """Run statements that are not the tenant's. An entry that was not made yet is not made any more."""
        self._entry = None
        status: str = await super().execute(sql, timeout=timeout)
        return status

    async def execute(self, query: str, *args: object, timeout: float | None = None) -> str:  # noqa: ASYNC109  asyncpg's
        if not args:
            await self._enter_alone()  # nothing can go before a message of several statements
        status: str = await super().execute(query, *args, timeout=timeout)
        return status

    async def _enter_alone(self) -> None:
        if self._entry is not None:
            await self._execute("SELECT 1 WHERE false", (), 0, None)

    async def _get_statement(self, *args: Any, **more: Any) -> Any:
        await self._enter_alone()  # of what is not run by _execute: cursors, many sets of values
        return await super()._get_statement(*args, **more)

    async def _copy_out(self, *args: Any) -> Any:
        await self._enter_alone()
        return await super()._copy_out(*args)

    async def _copy_in(self, *args: Any) -> Any:
        await self._enter_alone()
        return await super()._copy_in(*args)

    async def copy_records_to_table(self, *args: Any, **more: Any) -> Any:
        await self._enter_alone()
        return await super().copy_records_to_table(*args, **more)

    async def _execute(self, query: str, args: Any, limit: int, timeout: float | None, **more: Any) -> Any:  # noqa: ASYNC109  asyncpg's
        """What all of asyncpg's ways of running one statement lead to."""
        if self._entry is None:
            return await super()._execute(query, args, limit, timeout, **more)
        (value, again), self._entry = self._entry, None
        try:
            self._send(value)
            return await super()._execute(query, args, limit, timeout, **more)
        except asyncpg.PostgresError as error:
            other = await again() if error.sqlstate == NOT_PROVED else None
            if other is None:
                raise
        self._send(other)
        return await super()._execute(query, args, limit, timeout, **more)

    def _send(self, value: str) -> None:
        """Send what enters a tenant, without asking for an answer: it comes with that to the statement that follows.

        asyncpg has no way to send two statements at once. It passes over the answers that it did not expect, or raises
        the error among them.
        """
        given = value.encode()
        bind = _message(b"B", self._after, struct.pack("!i", len(given)), given, b"\0\0")
        self._transport.write(self._before + bind + _EXECUTE)

    async def end_session(self) -> None:
        """End the session at the server, also where a pooler would keep it for others."""
        for _ in range(_ENDING_ATTEMPTS):
            try:
                await self.command(_ENDING, timeout=_ENDING_WAIT)
                async with asyncio.timeout(_ENDING_WAIT):
                    while not self.is_closed():  # noqa: ASYNC110  asyncpg tells of no end that was not asked for
                        await asyncio.sleep(0.005)
            except (*LOST, TimeoutError):
                pass
            except asyncpg.PostgresError:
                continue  # some limit that was left behind cut it short
            return


def _message(kind: bytes, *parts: bytes) -> bytes:
    content = b"".join(parts)
    return kind + struct.pack("!i", len(content) + 4) + content


_EXECUTE = _message(b"E", b"\0", b"\0\0\0\0")
