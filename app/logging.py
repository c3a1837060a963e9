"""Logs go to standard error: one JSON object a line in production, lines for people otherwise.

Nothing of a request's content is logged: neither variables nor rows, neither tokens nor addresses of people.
"""

import logging
import sys

import asyncpg
import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from app.settings import Settings

# Local variables hold tokens, variables and rows.
_traces = structlog.processors.ExceptionRenderer(structlog.tracebacks.ExceptionDictTransformer(show_locals=False))


def configure(settings: Settings) -> None:
    """Set up logging for this process."""
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso"),
        _without_details,
    ]
    if settings.production:
        shape: list[Processor] = [_traces, structlog.processors.JSONRenderer()]
    else:
        shape = [
            structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback)
        ]
    structlog.configure(
        processors=[*shared, *shape],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING)


def _without_details(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Take from PostgreSQL's errors the details, which quote rows."""
    error = event.get("exc_info")
    if error is True:
        error = event["exc_info"] = sys.exception()
    seen: set[int] = set()
    while isinstance(error, BaseException) and id(error) not in seen:
        seen.add(id(error))
        if isinstance(error, asyncpg.PostgresError):
            error.detail = None
        if id(error.__cause__) in seen:
            # Raised from itself, an error would be followed without end by whoever writes its trace.
            error.__cause__ = None
        error = error.__cause__ or error.__context__
    return event
