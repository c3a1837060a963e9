"""Makes spans of requests that have ended, as OpenTelemetry's conventions for HTTP, GraphQL and databases name them.

A span has no header, value, token or address of a person. Of what a client chooses, it has the name of an operation.
"""

from time import perf_counter, time_ns

from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from isola.api.observation import OK, Observation
from isola.api.rest import METHODS
from isola.api.stages import CRASHED, Stage, Stages
from isola.errors import Unavailable
from isola.telemetry.records import described

_PROPAGATOR = TraceContextTextMapPropagator()
_OTHER = "other"
# Codes that are the fault of the server, also in a response with the status 200.
_FAULTS = {CRASHED, Unavailable.code}
_FAULTY = 500
# "db.system" is the name of before the conventions were stable.
_DATABASE = {"db.system.name": "postgresql", "db.system": "postgresql"}


class Traces:
    """Observes requests, and hands spans of them to a tracer. Pages and probes have none."""

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer

    def observe(self, observation: Observation) -> None:
        stages = observation.stages
        if stages is None or observation.endpoint == _OTHER:
            return
        stages.closed = True
        ended, clock = perf_counter(), time_ns()

        def at(moment: float) -> int:
            """A time of ``perf_counter`` in nanoseconds since 1970."""
            return clock - round((ended - moment) * 1e9)

        method, route = _method(stages), _route(stages)
        root = self._tracer.start_span(
            f"{method} {route}",
            _caller(stages),
            SpanKind.SERVER,
            {"http.request.method": method, "http.route": route, **_about(observation)},
            start_time=at(ended - observation.seconds),
        )
        if root.is_recording():
            if observation.code != OK:
                _fail(root, observation.code, faulty=observation.status >= _FAULTY or observation.code in _FAULTS)
            spans: dict[Stage | None, Span] = {None: root}
            for each in stages.all:
                spans[each] = span = self._tracer.start_span(
                    each.name,
                    set_span_in_context(spans[each.parent], Context()),
                    SpanKind.CLIENT if each.database else SpanKind.INTERNAL,
                    _DATABASE if each.database else None,
                    start_time=at(each.began),
                )
                if each.code is not None:
                    _fail(span, each.code, faulty=each.code in _FAULTS)
                span.end(at(ended if each.ended is None else each.ended))
        root.end(clock)


def _about(observation: Observation) -> dict[str, str | int]:
    """The attributes of a request that are known when it has ended."""
    # Streams have no other status: what they refuse is answered without a stream.
    about: dict[str, str | int] = {"http.response.status_code": observation.status or 200}
    if observation.principal is not None:
        about["isola.tenant"] = str(observation.principal.tenant.id)
    if (operation := observation.operation) is not None:
        kind, name, _ = described(operation)
        about["graphql.operation.type"] = kind
        # The hash of a document without a name: see isola.telemetry.records.
        about["isola.document" if ":" in name else "graphql.operation.name"] = name
    return about


def _fail(span: Span, code: str, *, faulty: bool) -> None:
    span.set_attribute("error.type", code)
    if faulty:
        span.set_status(Status(StatusCode.ERROR, code))


def _caller(stages: Stages) -> Context:
    """The span that ``traceparent`` names, if any. ``tracestate`` is ignored: its values are not ours to send on."""
    given = [value.decode("latin-1") for name, value in stages.scope["headers"] if name == b"traceparent"]
    return _PROPAGATOR.extract({"traceparent": given[0]} if len(given) == 1 else {}, Context())


def _method(stages: Stages) -> str:
    method: str = stages.scope["method"]
    return method if method in {*METHODS, "HEAD", "OPTIONS"} else "_OTHER"


def _route(stages: Stages) -> str:
    """The path that was declared, without the values in it."""
    route = stages.scope.get("route")
    if route is not None:
        return str(route.path)
    return "/t/{tenant}/graphql" if stages.scope["path"].startswith("/t/") else "/graphql"
