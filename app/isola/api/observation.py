"""What a request did, for those who measure requests: filled in on the way, and handed over when it has ended."""

from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Protocol

from starlette.types import ASGIApp, Receive, Scope, Send

from isola.api.stages import Stages, begin
from isola.identity.authentication import Principal
from isola.query.documents import Operation

_KEY = "isola.observation"
OK = "OK"
"""The code of a response without errors."""


@dataclass(slots=True, eq=False)
class Observation:
    """One HTTP request. Only what it came to is set.

    ``endpoint`` is ``graphql``, ``rest``, ``admin``, or ``other`` for all other paths. ``code`` is that of the first
    error in the response, and ``size`` the bytes of its body, before compression. ``objects`` is the number of JSON
    objects in it, if ``counting``; a text that ends with ``{`` counts as well. ``streamed``: the response was a stream
    of events, so its duration is that of a subscription. ``stages`` are its timed parts, if traces are on.
    """

    endpoint: str = "other"
    principal: Principal | None = None
    operation: Operation | None = None
    code: str = OK
    status: int = 0
    size: int = 0
    streamed: bool = False
    seconds: float = 0.0
    counting: bool = False
    objects: int = 0
    stages: Stages | None = None

    def answered(self, status: int, body: bytes, code: str | None) -> None:
        self.status, self.size, self.code = status, len(body), code or OK
        if self.counting:
            # Of the keys of an object, the first follows its brace. A quote in a text follows a backslash.
            self.objects = body.count(b'{"')


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


def observed(
    application: ASGIApp, observers: Sequence[Observer], *, counting: bool = False, tracing: bool = False
) -> ASGIApp:
    """The application, each of whose HTTP requests is observed. Without observers it is the same application.

    ``counting``: the objects in responses are counted. ``tracing``: the parts of requests are timed.
    """
    if not observers:
        return application

    async def observing(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await application(scope, receive, send)
            return
        observation = scope[_KEY] = Observation(counting=counting)
        if tracing:
            observation.stages = begin(scope)
        began = perf_counter()
        try:
            await application(scope, receive, send)
        finally:
            observation.seconds = perf_counter() - began
            for each in observers:
                each.observe(observation)

    return observing
