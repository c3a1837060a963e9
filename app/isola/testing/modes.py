"""How tenant traffic reaches the database while the tests run: ``TEST_MODE``, set by ``make isolation``."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum

from isola.testing import pgbouncer


class Mode(StrEnum):
    DIRECT = "direct"
    """Connections of its own, with prepared statements that stay."""
    UNCACHED = "uncached"
    """Connections of its own, no statement kept."""
    PGBOUNCER = "pgbouncer"
    """Through PgBouncer in transaction mode. Before 1.21 it knows no prepared statements, so none is kept."""


MODE = Mode(os.environ.get("TEST_MODE", Mode.DIRECT))
STATEMENT_CACHE = MODE is Mode.DIRECT


@contextmanager
def between(url: str) -> Iterator[str]:
    """The address at which the mode reaches the database and login of ``url``."""
    if MODE is Mode.PGBOUNCER:
        with pgbouncer.running(url) as address:
            yield address
    else:
        yield url
