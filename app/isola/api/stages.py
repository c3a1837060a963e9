"""The timed parts of requests, for traces. Nothing is timed unless ``begin`` was called for the request."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from time import perf_counter

from starlette.types import Scope

from isola.database.claims import Answered
from isola.errors import Refusal

MOST = 100
"""Parts of one request at most: a stream of events has no end of them. Further ones are not timed."""
CRASHED = "INTERNAL"


@dataclass(slots=True, eq=False)
class Stage:
    """A part of a request. Times are those of ``perf_counter``; ``code`` is that of the error that ended it."""

    name: str
    parent: "Stage | None" = None
    database: bool = False
    began: float = field(default_factory=perf_counter)
    ended: float | None = None
    code: str | None = None


@dataclass(slots=True, eq=False)
class Stages:
    """The parts of one request, in the order in which they began."""

    scope: Scope
    all: list[Stage] = field(default_factory=list)
    closed: bool = False
    """Whether the request has ended: what it left running is timed no more."""


_HERE: ContextVar[tuple[Stages, Stage | None] | None] = ContextVar("stage", default=None)


def begin(scope: Scope) -> Stages:
    """Time the parts of the request that the current task serves."""
    stages = Stages(scope)
    _HERE.set((stages, None))
    return stages


@contextmanager
def stage(name: str, *, database: bool = False) -> Iterator[None]:
    """A part of the current request, if there is one that is timed. ``database``: it is one transaction."""
    here = _HERE.get()
    if here is None or here[0].closed or len(here[0].all) >= MOST:
        yield
        return
    stages, parent = here
    current = Stage(name, parent, database)
    stages.all.append(current)
    _HERE.set((stages, current))
    try:
        yield
    except Answered:
        raise
    except Refusal as refusal:
        current.code = refusal.code
        raise
    except Exception:
        current.code = CRASHED
        raise
    finally:
        current.ended = perf_counter()
        # Not by a token: a transaction may begin and end in different contexts.
        _HERE.set(here)
