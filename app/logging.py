"""Logs go to standard error: one JSON object a line in production, lines for people otherwise.

Nothing of a request's content is logged: neither variables nor rows, neither tokens nor addresses of people. What
PostgreSQL's errors quote of rows is taken from them where they come up, in ``app/database.py``.
"""

import logging
import sys

import structlog
from structlog.typing import Processor

from app.settings import Settings

# Local variables hold tokens, variables and rows.
_traces = structlog.processors.ExceptionRenderer(structlog.tracebacks.ExceptionDictTransformer(show_locals=False))


def configure(settings: Settings) -> None:
    """Set up logging for this process."""
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso"),
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
