"""Imports rows of any subject from JSON Lines: each line is an object with the fields of a client's create input."""

import codecs
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from io import BufferedReader
from pathlib import Path
from typing import Any
from uuid import UUID

from sqlalchemy import func, select

from isola import exact_json
from isola.database.transactions import Database, Placed, Transaction
from isola.errors import BadUserInput, Conflict, Forbidden, NotFound, OperatorError
from isola.subjects import users
from isola.subjects.actor import Actor
from isola.subjects.parsing import parse
from isola.subjects.subject import Subject
from isola.subjects.values import complete

BATCH = 1000
# A batch is one message to the database, and is held in memory.
BATCH_BYTES = 16 * 1024 * 1024
MAX_LINE_BYTES = 16 * 1024 * 1024


@dataclass(slots=True)
class Outcome:
    """How many rows were loaded, the last line that was processed, and the bad lines with their reasons."""

    loaded: int = 0
    last_line: int = 0
    bad: list[tuple[int, str]] = field(default_factory=list)


Values = dict[str, Any]
Numbered = tuple[int, Values]
"""A line's number, and its values."""

Progress = Callable[[int, Outcome], None]
"""Called after each batch with the number of bytes read, and the outcome so far."""


async def load(
    database: Database,
    tenant: Placed,
    subject: type[Subject],
    file: Path,
    *,
    owner: str,
    strict: bool,
    from_line: int,
    progress: Progress,
) -> Outcome:
    """Load rows of a subject into a tenant, in one transaction a batch.

    They belong to the user with the token subject ``owner``, if rows of the subject have owners.

    A bad line, also one that the database refuses, is skipped and reported. With ``strict`` nothing is loaded if any
    line is bad; the file is read twice then. Raises OperatorError when it cannot be read.
    """
    try:
        with file.open("rb") as lines:
            if strict:
                if not lines.seekable():
                    raise OperatorError(f"{file}: expected a regular file, since --strict reads it twice")
                bad = [
                    (number, read) for number, _, read in _entries(subject, lines, from_line) if isinstance(read, str)
                ]
                if bad:
                    return Outcome(bad=bad)
                lines.seek(0)
            return await _load(database, tenant, subject, lines, owner, from_line, progress)
    except OSError as error:
        raise OperatorError(f"{file}: {error.strerror}") from error


async def _load(
    database: Database,
    tenant: Placed,
    subject: type[Subject],
    lines: BufferedReader,
    owner: str,
    from_line: int,
    progress: Progress,
) -> Outcome:
    outcome = Outcome(last_line=from_line - 1)
    async with database.transaction(tenant) as work:
        actor = Actor(await users.ensure(work, subject=owner, name=None, email=None), frozenset())
    batch: list[Numbered] = []
    number = from_line - 1
    position = flushed = 0

    async def flush() -> None:
        async with database.transaction(tenant) as work:
            # A batch can come long after the first: the tenant may have been suspended or deleted since.
            await work.scalar(select(func.isola.bound_tenant()))
            refused = await _store(work, actor, subject, batch)
        outcome.loaded += len(batch) - len(refused)
        outcome.bad = sorted(outcome.bad + refused)
        outcome.last_line = number
        batch.clear()
        progress(position, outcome)

    for number, position, read in _entries(subject, lines, from_line):
        if isinstance(read, str):
            outcome.bad.append((number, read))
        else:
            batch.append((number, read))
        if len(batch) == BATCH or position - flushed >= BATCH_BYTES:
            await flush()
            flushed = position
    await flush()
    return outcome


async def _store(
    work: Transaction, actor: Actor, subject: type[Subject], entries: Sequence[Numbered]
) -> list[tuple[int, str]]:
    """Store entries in order. Those that a rule or the database refuses are skipped: their numbers, with reasons."""
    try:
        async with work.savepoint():
            await subject.create_all(work, actor, [values for _, values in entries])
    except (BadUserInput, Conflict, Forbidden, NotFound) as refusal:
        if len(entries) == 1:
            named = refusal.field is None or refusal.message.startswith(refusal.field)
            return [(entries[0][0], refusal.message if named else f"{refusal.field}: {refusal.message}")]
        middle = len(entries) // 2
        return [
            *await _store(work, actor, subject, entries[:middle]),
            *await _store(work, actor, subject, entries[middle:]),
        ]
    return []


def _entries(subject: type[Subject], lines: BufferedReader, from_line: int) -> Iterator[tuple[int, int, Values | str]]:
    """Each line's number, its end position, and its values or the error in it. Blank lines are skipped."""
    number = position = 0
    # Includes the line break.
    while line := lines.readline(MAX_LINE_BYTES + 1):
        number += 1
        position += len(line)
        too_long = rest = len(line) > MAX_LINE_BYTES and not line.endswith(b"\n")
        while rest:
            skipped = lines.readline(MAX_LINE_BYTES)
            position += len(skipped)
            rest = skipped != b"" and not skipped.endswith(b"\n")
        if number == 1:
            line = line.removeprefix(codecs.BOM_UTF8)
        if number < from_line or not (too_long or line.strip()):
            continue
        if too_long:
            yield number, position, f"expected at most {MAX_LINE_BYTES} bytes"
            continue
        try:
            yield number, position, _values(subject, line)
        except BadUserInput as error:
            yield number, position, error.message


def _values(subject: type[Subject], line: bytes) -> Values:
    try:
        entry = exact_json.loads(line.rstrip().decode())
    except UnicodeDecodeError:
        raise BadUserInput("expected UTF-8") from None
    except json.JSONDecodeError as error:
        raise BadUserInput(f"expected JSON: {error.msg} at column {error.colno}") from None
    except ValueError:
        raise BadUserInput("expected JSON, which has neither NaN nor Infinity nor endless exponents") from None
    except RecursionError:
        raise BadUserInput("expected JSON that is less deeply nested") from None
    values = parse(subject.declaration, entry)
    # Validate all lines before anything is stored. The actor is not known yet.
    complete(subject.declaration, values, Actor(UUID(int=0), frozenset()))
    return values
