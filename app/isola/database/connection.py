"""Connections on which a transaction inside a tenant takes three round trips, and whose sessions the server can end.

The first begins the transaction and asks which one it is. The second makes it prove where it is, enter its tenant and
run its first statement. The third commits, cleans up and looks whether that was enough. In each, several statements go
out one behind the other, and only the last is waited for. The proof is for this one transaction and goes out as a
parameter, so it stands in no statement's text. See docs/decisions/0008.

asyncpg has no way to send statements without waiting for each. What goes before the last is written here, in the words
of PostgreSQL's protocol; asyncpg passes over the answers that it did not expect, or raises the error among them.
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

from isola.database.failures import LOST, NOT_PROVED
from isola.database.statements import Statements

# Which transaction this is. A pooler hands out sessions that nobody has looked at since somebody else used them.
_REPORT = "SELECT isola.this_transaction()"
_UNLOCK = "pg_catalog.pg_advisory_unlock_all()"
# As a parameter, the role need not be parsed. *Measured*: a transaction that reads one object takes PostgreSQL a tenth
# less than with a statement for it.
_ROLE = "pg_catalog.set_config('role', $1, true)"
# A login that enters no tenants need not know. This takes no snapshot: the transaction can still be isolated otherwise.
_NO_REPORT = "SHOW role"

# How a transaction begins: one that may write, and one that may not.
_BEGIN = (("BEGIN",), ("BEGIN READ ONLY",))
_WHATEVER_WAS_LEFT = ("SET ROLE NONE", "RESET ALL", "CLOSE ALL", "UNLISTEN *", "DEALLOCATE ALL")
_BEGIN_BEHIND_POOLER = (
    ("BEGIN ISOLATION LEVEL READ COMMITTED, READ WRITE", *_WHATEVER_WAS_LEFT, "SET LOCAL TimeZone TO 'UTC'"),
    ("BEGIN ISOLATION LEVEL READ COMMITTED, READ ONLY", *_WHATEVER_WAS_LEFT, "SET LOCAL TimeZone TO 'UTC'"),
)

# What enters a tenant. It returns no row.
_SETTINGS = ("search_path", "isola.home", "isola.tenant")
_SET = " || ".join(
    f"set_config('{name}', ${number}, true)" for number, name in enumerate(("isola.proof", *_SETTINGS), 1)
)
_ENTRY = (
    # Who writes runs several statements: the first of them is refused if they would not be proved. No tenant has this
    # id, and CASE keeps the order.
    f"SELECT 1 WHERE CASE WHEN length({_SET}) > 0 THEN isola.current_tenant_id() = '{UUID(int=0)}' END",
    f"SELECT 1 WHERE length({_SET}) = 0",
)
_SETTING = re.compile(r"SET LOCAL ([\w.]+) TO (?:'([^']*)'|(\w+))")
_SET_ROLE = re.compile(r"SET LOCAL ROLE (\w+)")

# RESET ALL does not reset the role, so that is asked for. An unlucky borrower could leave more than a setting behind:
# locks, cursors, subscriptions.
_CLEAN = ("CLOSE ALL", "UNLISTEN *", "RESET ALL")
_PROVEN_CLEAN = "SELECT current_setting('role') = 'none', pg_advisory_unlock_all()"
# In a broken transaction COMMIT rolls back and reports no error. What is checked before it is refused there.
_COMMIT = (("SET CONSTRAINTS ALL IMMEDIATE", "COMMIT", *_CLEAN), ("COMMIT", *_CLEAN))
_ROLLBACK = ("ROLLBACK", *_CLEAN)

# A session that waits inside a transaction for longer than this, in milliseconds, is ended by the server. A setting can
# do that which is everybody's own; the function that ends sessions would end those of other tenants, too.
_ENDING = "ROLLBACK; SET statement_timeout TO 0; BEGIN; SET LOCAL idle_in_transaction_session_timeout TO 1"
_ENDING_ATTEMPTS, _ENDING_WAIT = 3, 1.0

Again: TypeAlias = Callable[[], Awaitable[str | None]]
"""Begins a transaction anew, and returns its proof; None if there is nothing else to try."""


@dataclass(frozen=True, slots=True)
class Binding:
    """What a strategy says to bind a transaction, as it is sent.

    The role comes first: a home that cannot be entered is found out before anything of the tenant's is run. Then
    settings, and statements for what is none of them.
    """

    role: str | None
    settings: bytes
    statements: bytes
    home: str
    """The search path: where it is another, the same text means other tables."""

    @classmethod
    def of(cls, statements: str) -> "Binding":
        """The form of statements that are joined by semicolons."""
        settings, role, others = dict.fromkeys(_SETTINGS, ""), None, b""
        for each in statements.split(";"):
            statement = each.strip()
            setting = _SETTING.fullmatch(statement)
            if setting and setting[1] in settings:
                settings[setting[1]] = setting[2] or setting[3] or ""
            elif named := _SET_ROLE.fullmatch(statement):
                role = named[1].lower()  # as PostgreSQL reads a name without quotes
            else:
                others += _unnamed(statement)
        return cls(role, b"".join(map(_value, settings.values())), others, settings["search_path"])


class Connection(asyncpg.Connection):  # type: ignore[misc]  # asyncpg has no annotations
    """A connection that begins, enters and ends transactions. ``prepare_transactions`` comes first."""

    _entry: tuple[Binding, str, Again, bool] | None = None

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self.kept = self._stmt_cache = Statements(self._maybe_gc_stmt)

    def _get_unique_id(self, prefix: str) -> str:
        """A name for a prepared statement, which nobody can guess.

        Statements outlive a transaction. SQL that is smuggled into one could else put a statement of its own under the
        name of one that the next tenant runs; nor may it look the names up, see ``FOR_NO_TENANT`` in
        app/isola/platform/logins.py.
        """
        return f"{prefix}_{token_hex(16)}"

    def _maybe_gc_stmt(self, statement: Any) -> None:
        """Have a statement closed that nobody uses; asyncpg would look for its text, which other homes may keep."""
        if statement.refs == 0 and statement.name and not self.kept.keeps(statement):
            statement.mark_closed()
            self._stmts_to_close.add(statement)

    async def _cleanup_stmts(self) -> None:
        """Close statements with what is sent next: asyncpg would wait for the answer to each."""
        closed = [*self._stmts_to_close]
        self._stmts_to_close.clear()
        self._transport.write(b"".join(_message(b"C", b"S", each.name.encode(), b"\0") for each in closed))

    def set_socket_options(self, options: Iterable[tuple[int, int, int]]) -> None:
        """Set options of the socket, if it is one of TCP."""
        end = self._transport.get_extra_info("socket")
        if end is not None and end.family in {socket.AF_INET, socket.AF_INET6}:
            for option in options:
                end.setsockopt(*option)

    async def prepare_transactions(self, limits: Sequence[str], *, enters: bool, keep: bool, pooled: bool) -> None:
        """Prepare what transactions begin and end with. ``limits`` are statements that every transaction begins with.

        ``enters``: some are inside tenants. With ``keep`` it stays prepared, and otherwise it is sent in full each
        time. ``pooled``: a pooler stands between.
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
        # asyncpg prepares in a transaction that it leaves to the next message to end.
        await super().execute("SELECT 1")

    def _batch(self, statements: Sequence[str]) -> "_Batch":
        if not self._keep:
            return _Batch([_parse(b"", statement) for statement in statements], [b""] * len(statements), keep=False)
        names = [self._get_unique_id(statement.partition(" ")[0]).encode() for statement in statements]
        # If it was cut short, some are there already.
        parsed = [
            _message(b"C", b"S", name, b"\0") + _parse(name, each) for name, each in zip(names, statements, strict=True)
        ]
        return _Batch(parsed, names, keep=True)

    async def begin(self, binding: Binding | None, *, read_only: bool, timeout: float) -> str:  # noqa: ASYNC109  asyncpg's
        """Begin a transaction, in the role of a binding; which one it is, for a proof."""
        self._entry = None
        if binding is None or binding.role is None:
            return str(await self._ask(self._begin[read_only], self._report, (), timeout))
        return str(await self._ask(self._begin[read_only], self._report_in_role, (binding.role,), timeout))

    def enter(self, binding: Binding, proof: str, again: Again, *, read_only: bool) -> None:
        """Have the next statement preceded by what enters a tenant.

        If that is refused as not proved, the statement has not been run, and ``again`` is asked for another proof.
        """
        self._entry = binding, proof, again, read_only

    async def commit(self, *, read_only: bool) -> bool:
        """Commit and clean up; whether the session is proven clean. Raises what PostgreSQL refuses to commit for."""
        return await self._end(self._commit[read_only])

    async def roll_back(self) -> bool:
        """Roll back and clean up; whether the session is proven clean."""
        return await self._end(self._roll_back)

    async def _end(self, batch: "_Batch") -> bool:
        self._entry = None
        clean = await self._ask(batch, self._proven, (), None)
        return bool(clean) and not self.is_in_transaction()

    async def _ask(self, batch: "_Batch", statement: Any, values: tuple[str, ...], timeout: float | None) -> Any:  # noqa: ASYNC109  asyncpg's
        """The first value that a statement returns, sent behind others."""
        self._check_open()
        state = statement._state  # noqa: SLF001  asyncpg's own way costs as much again
        if not self._keep:
            state.mark_unprepared()
        self._transport.write(batch.messages())
        rows, _, _ = await self._protocol.bind_execute(state, values, "", 1, True, timeout)  # noqa: FBT003  as above
        batch.done()
        return rows[0][0]

    async def _execute(self, query: str, args: Any, limit: int, timeout: float | None, **more: Any) -> Any:  # noqa: ASYNC109  asyncpg's
        """What all of asyncpg's ways of running one statement lead to."""
        if self._entry is None:
            return await super()._execute(query, args, limit, timeout, **more)
        (binding, proof, again, read_only), self._entry = self._entry, None
        entry = self._entries[read_only]
        try:
            self._send(entry, binding, proof)
            found = await super()._execute(query, args, limit, timeout, **more)
        except asyncpg.PostgresError as error:
            other = await again() if error.sqlstate == NOT_PROVED else None
            if other is None:
                raise
            self._send(entry, binding, other)
            found = await super()._execute(query, args, limit, timeout, **more)
        entry.done()
        return found

    def _send(self, entry: "_Batch", binding: Binding, proof: str) -> None:
        self._check_open()
        values = _value(proof) + binding.settings
        self._transport.write(entry.messages(1 + len(_SETTINGS), values) + binding.statements)

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

    async def end_session(self) -> None:
        """End the session at the server, also where a pooler would keep it for others."""
        self._entry = None
        for _ in range(_ENDING_ATTEMPTS):
            try:
                await super().execute(_ENDING, timeout=_ENDING_WAIT)
                async with asyncio.timeout(_ENDING_WAIT):
                    while not self.is_closed():  # noqa: ASYNC110  asyncpg tells of no end that was not asked for
                        await asyncio.sleep(0.005)
            except (*LOST, TimeoutError):
                pass
            except asyncpg.PostgresError:
                continue  # some limit that was left behind cut it short
            return


class _Batch:
    """Statements that are sent together, and stay prepared once they were run, if they may."""

    __slots__ = ("_fixed", "_keep", "_names", "_parsed")

    def __init__(self, parsed: Sequence[bytes], names: Sequence[bytes], *, keep: bool) -> None:
        self._parsed = parsed
        self._names = names
        self._keep = keep
        self._fixed = self._joined(0, b"")

    def messages(self, count: int = 0, values: bytes = b"") -> bytes:
        """What is sent, with so many parameters for each."""
        return self._joined(count, values) if count else self._fixed

    def done(self) -> None:
        """All of them have been run."""
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
    given = text.encode()
    return struct.pack("!i", len(given)) + given


def _parse(name: bytes, statement: str) -> bytes:
    return _message(b"P", name, b"\0", statement.encode(), b"\0\0\0")


def _bind(name: bytes, count: int, values: bytes = b"") -> bytes:
    """Bind a statement's parameters, given as texts."""
    return _message(b"B", b"\0", name, b"\0\0\0", struct.pack("!h", count), values, b"\0\0")


_EXECUTE = _message(b"E", b"\0\0\0\0\0")


def _unnamed(statement: str) -> bytes:
    return _parse(b"", statement) + _bind(b"", 0) + _EXECUTE
