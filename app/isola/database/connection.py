"""Connections that need three round trips per transaction inside a tenant, and whose sessions the server can end.

The first begins the transaction and reads its id. The second proves the tenant, enters it and runs the first
statement. The third commits, cleans up and checks the result. In each, several statements are pipelined, and only the
last answer is awaited. The proof is for this one transaction and is sent as a parameter, so it is in no statement's
text. See docs/decisions/0008.

asyncpg cannot send statements without waiting for each. The messages before the last are written here, in PostgreSQL's
protocol; asyncpg skips the answers that it did not expect, or raises the error among them.
"""

import asyncio
import re
import socket
import struct
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from secrets import token_hex
from typing import Any, TypeAlias
from uuid import UUID

import asyncpg

from isola.database.claims import CLAIM, Claim
from isola.database.failures import LOST, NOT_PROVED
from isola.database.statements import Statements

# Reads which transaction this is. A pooler may hand out a session in whatever state another client left it.
_REPORT = "SELECT isola.this_transaction()"
_UNLOCK = "pg_catalog.pg_advisory_unlock_all()"
# A parameter needs no parsing. *Measured*: a transaction that reads one object costs PostgreSQL a tenth less than with
# a SET ROLE statement.
_ROLE = "pg_catalog.set_config('role', $1, true)"
# For logins that enter no tenants. Takes no snapshot, so the isolation level can still be changed.
_NO_REPORT = "SHOW role"

# The beginning of a transaction: read-write, and read-only.
_BEGIN = (("BEGIN",), ("BEGIN READ ONLY",))
_WHATEVER_WAS_LEFT = ("SET ROLE NONE", "RESET ALL", "CLOSE ALL", "UNLISTEN *", "DEALLOCATE ALL")
_BEGIN_BEHIND_POOLER = (
    ("BEGIN ISOLATION LEVEL READ COMMITTED, READ WRITE", *_WHATEVER_WAS_LEFT, "SET LOCAL TimeZone TO 'UTC'"),
    ("BEGIN ISOLATION LEVEL READ COMMITTED, READ ONLY", *_WHATEVER_WAS_LEFT, "SET LOCAL TimeZone TO 'UTC'"),
)

# The statements that enter a tenant. They return no row.
_SETTINGS = ("search_path", "isola.home", "isola.tenant")
_SET = " || ".join(
    f"set_config('{name}', ${number}, true)" for number, name in enumerate(("isola.proof", *_SETTINGS), 1)
)
_ENTRY = (
    # A writing transaction has several statements: refuse the first if the proof is invalid. No tenant has this id, and
    # CASE keeps the order.
    f"SELECT 1 WHERE CASE WHEN length({_SET}) > 0 THEN isola.current_tenant_id() = '{UUID(int=0)}' END",
    f"SELECT 1 WHERE length({_SET}) = 0",
    f"SELECT 1 WHERE CASE WHEN length({_SET}) > 0 THEN {CLAIM} END",
)
_CLAIMED = 2
_SETTING = re.compile(r"SET LOCAL ([\w.]+) TO (?:'([^']*)'|(\w+))")
_SET_ROLE = re.compile(r"SET LOCAL ROLE (\w+)")

# RESET ALL does not reset the role, so the role is checked. A transaction can also leave locks, cursors and
# subscriptions behind.
_CLEAN = ("CLOSE ALL", "UNLISTEN *", "RESET ALL")
_PROVEN_CLEAN = "SELECT current_setting('role') = 'none', pg_advisory_unlock_all()"
# In an aborted transaction COMMIT rolls back without an error; the check before it raises one.
_COMMIT = (("SET CONSTRAINTS ALL IMMEDIATE", "COMMIT", *_CLEAN), ("COMMIT", *_CLEAN))
_ROLLBACK = ("ROLLBACK", *_CLEAN)

# The server terminates a session that idles in a transaction for longer than this, in milliseconds. Every role may set
# that; the function that terminates sessions would need a right to terminate other tenants' sessions, too.
_ENDING = "ROLLBACK; SET statement_timeout TO 0; BEGIN; SET LOCAL idle_in_transaction_session_timeout TO 1"
_ENDING_ATTEMPTS, _ENDING_WAIT = 3, 1.0

Again: TypeAlias = Callable[[], Awaitable[str | None]]
"""Restarts a transaction, and returns its proof; None if no other proof is available."""


@dataclass(frozen=True, slots=True)
class Binding:
    """A strategy's binding statements, in the form that is sent.

    The role comes first, so that a home that cannot be entered is detected before any statement of the tenant runs.
    Then settings, and statements for everything else.
    """

    role: str | None
    settings: bytes
    statements: bytes
    home: str
    """The search path: with another one, the same text refers to other tables."""

    @classmethod
    def of(cls, statements: str) -> "Binding":
        """Parse statements that are joined by semicolons."""
        settings, role, others = dict.fromkeys(_SETTINGS, ""), None, b""
        for each in statements.split(";"):
            statement = each.strip()
            setting = _SETTING.fullmatch(statement)
            if setting and setting[1] in settings:
                settings[setting[1]] = setting[2] or setting[3] or ""
            elif named := _SET_ROLE.fullmatch(statement):
                role = named[1].lower()  # PostgreSQL folds unquoted names to lower case
            else:
                others += _unnamed(statement)
        return cls(role, b"".join(map(_value, settings.values())), others, settings["search_path"])


class Connection(asyncpg.Connection):  # type: ignore[misc]  # asyncpg has no annotations
    """A connection that begins, enters and ends transactions. Call ``prepare_transactions`` first."""

    _entry: tuple[Binding, str, Again, bool, Claim | None] | None = None

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self.kept = self._stmt_cache = Statements(self._maybe_gc_stmt)

    def _get_unique_id(self, prefix: str) -> str:
        """An unguessable name for a prepared statement.

        Prepared statements outlive a transaction. Injected SQL could otherwise replace a statement that the next tenant
        runs by one with the same name. It cannot look the names up, either: see ``FOR_NO_TENANT`` in
        app/isola/platform/logins.py.
        """
        return f"{prefix}_{token_hex(16)}"

    def _maybe_gc_stmt(self, statement: Any) -> None:
        """Close a statement that is no longer used. asyncpg would search by text, which other homes may share."""
        if statement.refs == 0 and statement.name and not self.kept.keeps(statement):
            statement.mark_closed()
            self._stmts_to_close.add(statement)

    async def _cleanup_stmts(self) -> None:
        """Close statements together with the next message: asyncpg would wait for each answer."""
        closed = [*self._stmts_to_close]
        self._stmts_to_close.clear()
        self._transport.write(b"".join(_message(b"C", b"S", each.name.encode(), b"\0") for each in closed))

    def set_socket_options(self, options: Iterable[tuple[int, int, int]]) -> None:
        """Set options of the socket, if it is a TCP socket."""
        end = self._transport.get_extra_info("socket")
        if end is not None and end.family in {socket.AF_INET, socket.AF_INET6}:
            for option in options:
                end.setsockopt(*option)

    async def prepare_transactions(self, limits: Sequence[str], *, enters: bool, keep: bool, pooled: bool) -> None:
        """Prepare the statements that begin and end transactions. ``limits`` are run at the beginning of each.

        ``enters``: some transactions are inside tenants. With ``keep`` the statements stay prepared; otherwise they are
        sent in full each time. ``pooled``: there is a pooler in between.
        """
        self._keep = keep
        begin = _BEGIN_BEHIND_POOLER if pooled else _BEGIN
        self._begin = tuple(self._batch([*statements, *limits]) for statements in begin)
        self._commit = tuple(self._batch(statements) for statements in _COMMIT)
        self._roll_back = self._batch(_ROLLBACK)
        if enters:
            self._entries = tuple(self._batch([entry]) for entry in _ENTRY)
        name = None if keep else ""
        report = f"{_REPORT}, {_UNLOCK}" if pooled else _REPORT
        self._report = await self.prepare(report if enters else _NO_REPORT, name=name)
        if enters:
            self._report_in_role = await self.prepare(f"{report}, {_ROLE}", name=name)
        self._proven = await self.prepare(_PROVEN_CLEAN, name=name)
        # asyncpg prepares in an implicit transaction, which only the next message ends.
        await super().execute("SELECT 1")

    def _batch(self, statements: Sequence[str]) -> "_Batch":
        if not self._keep:
            return _Batch([_parse(b"", statement) for statement in statements], [b""] * len(statements), keep=False)
        names = [self._get_unique_id(statement.partition(" ")[0]).encode() for statement in statements]
        # After an interruption, some are prepared already.
        parsed = [
            _message(b"C", b"S", name, b"\0") + _parse(name, each) for name, each in zip(names, statements, strict=True)
        ]
        return _Batch(parsed, names, keep=True)

    async def begin(self, binding: Binding | None, *, read_only: bool, timeout: float) -> str:  # noqa: ASYNC109  asyncpg's
        """Begin a transaction, in the role of a binding; its id, for a proof."""
        self._entry = None
        if binding is None or binding.role is None:
            return str(await self._query(self._begin[read_only], self._report, (), timeout))
        return str(await self._query(self._begin[read_only], self._report_in_role, (binding.role,), timeout))

    def enter(self, binding: Binding, proof: str, again: Again, *, read_only: bool, claim: Claim | None = None) -> None:
        """Enter a tenant, together with the next statement.

        If the proof is refused, the statement has not been run, and ``again`` is called for another proof. Neither has
        it if ``claim`` raises an error.
        """
        self._entry = binding, proof, again, read_only, claim

    async def commit(self, *, read_only: bool) -> bool:
        """Commit and clean up; whether the session is proven clean. Raises what PostgreSQL raises at commit."""
        return await self._end(self._commit[read_only])

    async def roll_back(self) -> bool:
        """Roll back and clean up; whether the session is proven clean."""
        return await self._end(self._roll_back)

    async def _end(self, batch: "_Batch") -> bool:
        self._entry = None
        clean = await self._query(batch, self._proven, (), None)
        return bool(clean) and not self.is_in_transaction()

    async def _query(self, batch: "_Batch", statement: Any, values: tuple[str, ...], timeout: float | None) -> Any:  # noqa: ASYNC109  asyncpg's
        """The first value that a statement returns, sent after others."""
        self._check_open()
        state = statement._state  # noqa: SLF001  asyncpg's own way costs as much again
        if not self._keep:
            state.mark_unprepared()
        self._transport.write(batch.messages())
        rows, _, _ = await self._protocol.bind_execute(state, values, "", 1, True, timeout)  # noqa: FBT003  as above
        batch.done()
        return rows[0][0]

    async def _execute(self, query: str, args: Any, limit: int, timeout: float | None, **more: Any) -> Any:  # noqa: ASYNC109  asyncpg's
        """All of asyncpg's methods that run one statement end here."""
        if self._entry is None:
            return await super()._execute(query, args, limit, timeout, **more)
        (binding, proof, again, read_only, claim), self._entry = self._entry, None
        entry = self._entries[read_only if claim is None else _CLAIMED]
        try:
            self._send(entry, binding, proof, claim)
            result = await super()._execute(query, args, limit, timeout, **more)
        except asyncpg.PostgresError as error:
            other = await again() if error.sqlstate == NOT_PROVED else None
            if other is None:
                raise
            self._send(entry, binding, other, claim)
            result = await super()._execute(query, args, limit, timeout, **more)
        entry.done()
        return result

    def _send(self, entry: "_Batch", binding: Binding, proof: str, claim: Claim | None) -> None:
        self._check_open()
        claimed = () if claim is None else claim.claimed
        values = _value(proof) + binding.settings + b"".join(map(_value, claimed))
        self._transport.write(entry.messages(1 + len(_SETTINGS) + len(claimed), values) + binding.statements)

    async def execute(self, query: str, *args: object, timeout: float | None = None) -> str:  # noqa: ASYNC109  asyncpg's
        if not args:
            await self._enter_alone()  # a multi-statement message cannot be preceded by others
        status: str = await super().execute(query, *args, timeout=timeout)
        return status

    async def _enter_alone(self) -> None:
        if self._entry is not None:
            await self._execute("SELECT 1 WHERE false", (), 0, None)

    async def _get_statement(self, *args: Any, **more: Any) -> Any:
        await self._enter_alone()  # for statements that do not use _execute: cursors, executemany
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

    async def end_session(self) -> None:
        """Terminate the session at the server, even if a pooler would reuse it."""
        self._entry = None
        for _ in range(_ENDING_ATTEMPTS):
            try:
                await super().execute(_ENDING, timeout=_ENDING_WAIT)
                async with asyncio.timeout(_ENDING_WAIT):
                    while not self.is_closed():  # noqa: ASYNC110  asyncpg does not report a server's close
                        await asyncio.sleep(0.005)
            except (*LOST, TimeoutError):
                pass
            except asyncpg.PostgresError:
                continue  # interrupted by some timeout that was left behind
            return


class _Batch:
    """Statements that are sent together, and stay prepared after their first run, if allowed."""

    __slots__ = ("_fixed", "_keep", "_names", "_parsed")

    def __init__(self, parsed: Sequence[bytes], names: Sequence[bytes], *, keep: bool) -> None:
        self._parsed = parsed
        self._names = names
        self._keep = keep
        self._fixed = self._joined(0, b"")

    def messages(self, count: int = 0, values: bytes = b"") -> bytes:
        """The messages to send, with ``count`` parameters for each statement."""
        return self._joined(count, values) if count else self._fixed

    def done(self) -> None:
        """Note that all of them have been run."""
        if self._keep:
            self._keep = False
            self._parsed = [b""] * len(self._names)
            self._fixed = self._joined(0, b"")

    def _joined(self, count: int, values: bytes) -> bytes:
        return b"".join(
            [
                parse + _bind(name, count, values) + _EXECUTE
                for parse, name in zip(self._parsed, self._names, strict=True)
            ]
        )


def _message(kind: bytes, *parts: bytes) -> bytes:
    content = b"".join(parts)
    return kind + struct.pack("!i", len(content) + 4) + content


def _value(text: str) -> bytes:
    encoded = text.encode()
    return struct.pack("!i", len(encoded)) + encoded


def _parse(name: bytes, statement: str) -> bytes:
    return _message(b"P", name, b"\0", statement.encode(), b"\0\0\0")


def _bind(name: bytes, count: int, values: bytes = b"") -> bytes:
    """Bind a statement's parameters, given as texts."""
    return _message(b"B", b"\0", name, b"\0\0\0", struct.pack("!h", count), values, b"\0\0")


_EXECUTE = _message(b"E", b"\0\0\0\0\0")


def _unnamed(statement: str) -> bytes:
    return _parse(b"", statement) + _bind(b"", 0) + _EXECUTE
