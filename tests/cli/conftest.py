import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from isola.database import embedded
from isola.testing.fixtures import memory
from tests.cli.processes import Place


@contextmanager
def _place() -> Iterator[Place]:
    # Not in pytest's directory: each new run makes that inaccessible to the user that PostgreSQL runs as.
    with TemporaryDirectory(prefix="isola-test-", dir=memory()) as directory:
        place = Place(Path(directory))
        yield place
        place.await_postgresql_end()


@dataclass(frozen=True, slots=True)
class FirstDemo:
    """The result of the first ``isola demo`` in a directory, and the files that it left when it was stopped."""

    place: Place
    printed: str
    status: int


@pytest.fixture
def empty() -> Iterator[Place]:
    """A place without an installation."""
    with _place() as place:
        yield place


@pytest.fixture(scope="session")
def first_demo() -> Iterator[FirstDemo]:
    with _place() as place:
        with place.server("demo") as demo:
            status = demo.stop()
        yield FirstDemo(place, demo.printed, status)


@pytest.fixture
def furnished(first_demo: FirstDemo) -> Iterator[Place]:
    """A place with the demo's three tenants, as the first demo left it."""
    with _place() as place:
        # PostgreSQL's files are owned by the user that it runs as.
        subprocess.run(["cp", "-a", first_demo.place.data_dir, place.data_dir], check=True)
        yield place


@pytest.fixture
def awake(furnished: Place) -> Iterator[Place]:
    """The furnished place with a running PostgreSQL, so that commands do not each start and stop it."""
    with embedded.running(furnished.data_dir):
        yield furnished
