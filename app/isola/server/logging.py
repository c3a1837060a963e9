"""Logs go to standard error: one JSON object per line in production, human-readable lines otherwise.

No content of requests is logged: no variables, rows, tokens or addresses of people. Error messages can quote values,
so a traceback contains only those that this program or PostgreSQL wrote without values.
"""

import logging
import sys
import traceback
from collections.abc import Iterator
from types import TracebackType
from typing import TypeAlias

import asyncpg
import structlog
from structlog.typing import Processor

from isola.errors import IsolaError
from isola.settings import Settings

ExcInfo: TypeAlias = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]

# The SQLSTATE classes whose messages name catalogue objects or the server's state, and no values: syntax and names,
# connections, resources, operator intervention, system and internal errors.
_CLASSES_WITHOUT_VALUES = {"08", "42", "53", "57", "58", "XX"}


def configure(settings: Settings) -> None:
    """Set up logging for this process."""
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso"),
        TRACES,
    ]
    shape: Processor = (
        structlog.processors.JSONRenderer()
        if settings.production
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    structlog.configure(
        processors=[*shared, shape],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Formatter(logging.BASIC_FORMAT))
    logging.basicConfig(handlers=[handler], level=logging.WARNING)


def trace(exc_info: ExcInfo) -> str:
    """The traceback of an error and its causes, without values."""
    error = exc_info[1]
    return "" if error is None else "\n".join(_lines(error, set())).rstrip()


TRACES: Processor = structlog.processors.ExceptionRenderer(trace)


def _lines(error: BaseException, seen: set[int]) -> Iterator[str]:
    seen.add(id(error))
    before = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if before is not None and id(before) not in seen:
        yield from _lines(before, seen)
        yield "It led to:"
    for each in error.exceptions if isinstance(error, BaseExceptionGroup) else ():
        if id(each) not in seen:
            yield from _lines(each, seen)
            yield "It is one of:"
    yield "".join(traceback.format_tb(error.__traceback__)).rstrip("\n")
    yield f"{type(error).__module__}.{type(error).__qualname__}: {_message(error)}"


def _message(error: BaseException) -> str:
    match error:
        case IsolaError():
            return error.message
        case asyncpg.PostgresError(sqlstate=str(sqlstate)):
            return f"{sqlstate} {error.args[0]}" if sqlstate[:2] in _CLASSES_WITHOUT_VALUES else sqlstate
    return "(its message may hold values)"


class Formatter(logging.Formatter):
    """For log records of libraries."""

    def formatException(self, ei: ExcInfo) -> str:  # noqa: N802  the base class's name
        return trace(ei)

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  as above
        if record.name == "asyncio":
            # The following lines are the task's repr, with its error and the error's message.
            record.message = record.message.partition("\n")[0]
        return super().formatMessage(record)
