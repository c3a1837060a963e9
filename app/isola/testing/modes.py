"""The connection mode of tenant traffic in the tests: ``TEST_MODE``, set by ``make isolation``."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum

from isola.testing import pgbouncer


class Mode(StrEnum):
    DIRECT = "direct"
    """Direct connections, with cached prepared statements."""
    UNCACHED = "uncached"
    """Direct connections, without cached statements."""
    PGBOUNCER = "pgbouncer"
    """Through PgBouncer in transaction mode. Before 1.21 it has no prepared statements, so none are cached."""


MODE = Mode(os.environ.get("TEST_MODE", Mode.DIRECT))
STATEMENT_CACHE = MODE is Mode.DIRECT


@contextmanager
def between(url: str) -> Iterator[str]:
    """The address for the database and login of ``url`` in this mode."""
    if MODE is Mode.PGBOUNCER:
        with pgbouncer.running(url) as address:
            yield address
    else:
        yield url
