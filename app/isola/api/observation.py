"""What a request did, for those who measure requests: filled in on the way, and handed over when it has ended."""

from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Protocol

from starlette.types import ASGIApp, Receive, Scope, Send

from isola.identity.authentication import Principal
from isola.query.documents import Operation

_KEY = "isola.observation"
OK = "OK"
"""The code of a response without errors."""


@dataclass(slots=True, eq=False)
class Observation:
    """One HTTP request. Only what it came to is set.

    ``endpoint`` is ``graphql``, ``rest``, ``admin``, or ``other`` for all other paths. ``code`` is that of the first
    error in the response, and ``size`` the bytes of its body, before compression. ``streamed``: the response was a
    stream of events, so its duration is that of a subscription.
    """

    endpoint: str = "other"
    principal: Principal | None = None
    operation: Operation | None = None
    code: str = OK
    status: int = 0
    size: int = 0
    streamed: bool = False
    seconds: float = 0.0

    def answered(self, status: int, size: int, code: str | None) -> None:
        self.status, self.size, self.code = status, size, code or OK


class Observer(Protocol):
    """Gets each request when it has ended. It must be quick, and raise nothing."""

    def observe(self, observation: Observation) -> None: ...


def observation_of(scope: Scope) -> Observation:
    """The observation of the request with this scope."""
    observation: Observation | None = scope.get(_KEY)
    if observation is None:
        # Nobody observes.
        observation = scope[_KEY] = Observation()
    return observation


def observed(application: ASGIApp, observers: Sequence[Observer]) -> ASGIApp:
    """The application, each of whose HTTP requests is observed. Without observers it is the same application."""
    if not observers:
        return application

    async def observing(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await application(scope, receive, send)
            return
        observation = scope[_KEY] = Observation()
        began = perf_counter()
        try:
            await application(scope, receive, send)
        finally:
            observation.seconds = perf_counter() - began
            for each in observers:
                each.observe(observation)

    return observing
