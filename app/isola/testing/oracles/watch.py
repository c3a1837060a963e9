"""Searches all visible output for data of other tenants."""

import logging
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import StringIO
from pathlib import Path

import structlog

from isola.server.logging import TRACES, Formatter
from isola.testing.oracles.canary import Canary


class LeakError(AssertionError):
    """Another tenant's data was visible."""


class Canaries:
    """The canaries of all tenants of a database, by slug, and the search for them.

    ``seen_by`` searches output to a tenant, ``seen_by_nobody`` output to no tenant (logs, metrics); both raise
    LeakError. The log, and what is written to watched directories, are searched at the end.
    """

    def __init__(self, canaries: Mapping[str, Canary]) -> None:
        self.of = canaries
        self._directories: list[Path] = []
        self._sizes: dict[Path, int] = {}
        self.searched = 0
        """The number of searched texts: a search of nothing proves nothing."""

    def seen_by(self, slug: str, *seen: object) -> None:
        for text in map(_text, seen):
            self._tell(slug, text, [c for name, c in self.of.items() if name != slug and c.traced_in(text)])

    def seen_by_nobody(self, where: str, *seen: object) -> None:
        for text in map(_text, seen):
            self._tell(where, text, [canary for canary in self.of.values() if canary.quoted_in(text)])

    def watch(self, directory: Path) -> None:
        """Let ``search_files`` search what is written to a directory from now on, PostgreSQL's own data excepted."""
        self._directories.append(directory)
        self._sizes |= {path: path.stat().st_size for path in _files(directory)}

    def search_files(self) -> None:
        for directory in self._directories:
            for path in _files(directory):
                self.seen_by_nobody(str(path), path.read_bytes()[self._sizes.get(path, 0) :].decode("latin-1"))

    def _tell(self, who: str, text: str, traced: list[Canary]) -> None:
        self.searched += 1
        if traced:
            whose = ", ".join(canary.tenant.slug for canary in traced)
            raise LeakError(f"{who} was shown something of {whose}: {text[:2000]}")


def _files(directory: Path) -> list[Path]:
    return [
        path
        for path in sorted(directory.rglob("*"))
        if path.is_file() and not any((above / "PG_VERSION").exists() for above in path.parents)
    ]


def _text(seen: object) -> str:
    if isinstance(seen, BaseException):
        return "".join(traceback.format_exception(seen))
    if isinstance(seen, bytes):
        return seen.decode("latin-1")
    return str(seen)


@contextmanager
def logged() -> Iterator[StringIO]:
    """Everything logged meanwhile, including traces, in the format of production."""
    written = StringIO()
    handler = logging.StreamHandler(written)
    handler.setFormatter(Formatter(logging.BASIC_FORMAT))
    before = structlog.get_config()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            TRACES,
            structlog.processors.JSONRenderer(),
        ],
        logger_factory=structlog.PrintLoggerFactory(written),
        cache_logger_on_first_use=False,
    )
    logging.getLogger().addHandler(handler)
    try:
        yield written
    finally:
        logging.getLogger().removeHandler(handler)
        structlog.configure(**before)
