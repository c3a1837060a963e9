"""Sends traces and metrics of this process to a collector, by OTLP over HTTP.

Of OpenTelemetry's SDK it uses samplers, the bounded queue of spans, the format and the exporters, with their variables
``OTEL_…``. Threads of its own send: neither a request nor the end of the process waits for a collector.
"""

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from importlib.metadata import version
from threading import Thread
from time import time_ns
from uuid import uuid4

import structlog
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.metrics.export import MetricExportResult
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from isola.errors import OperatorError
from isola.telemetry.exposition import Metrics
from isola.telemetry.samples import converted
from isola.telemetry.spans import Traces

log = structlog.get_logger()

LAST = 2.0
"""Seconds that the end of a server waits for what is still to be sent."""
_INTERVAL = "OTEL_METRIC_EXPORT_INTERVAL"
_MILLISECONDS = "60000"
_PROTOCOL = "http/protobuf"
# Their lines would come with each batch; ``_Collector`` writes one.
_VERBOSE = ("opentelemetry.exporter", "opentelemetry.sdk._shared_internal")


class _Collector:
    """Whether the collector takes what is sent: one line in the log when that changes."""

    def __init__(self) -> None:
        self._failing = False

    def note(self, *, taken: bool) -> None:
        if taken == self._failing:
            self._failing = not taken
            if taken:
                log.info("the collector of telemetry takes data again")
            else:
                log.warning("the collector of telemetry does not take data, which are lost")


class _Spans(SpanExporter):
    def __init__(self, exporter: OTLPSpanExporter, collector: _Collector) -> None:
        self._exporter = exporter
        self._collector = collector

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = self._exporter.export(spans)
        self._collector.note(taken=result is SpanExportResult.SUCCESS)
        return result

    def shutdown(self) -> None:
        self._exporter.shutdown()  # type: ignore[no-untyped-call]  # it has no annotations


class Exporter:
    """What this process sends. Created before the server starts; sends as long as ``running`` is open.

    Raises OperatorError for variables ``OTEL_…`` that it cannot follow.
    """

    def __init__(self) -> None:
        if os.environ.get("OTEL_EXPORTER_OTLP_PROTOCOL", _PROTOCOL) != _PROTOCOL:
            raise OperatorError(f"OTEL_EXPORTER_OTLP_PROTOCOL: expected {_PROTOCOL}")
        disabled = os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true"
        self._sends_traces = _sends("OTEL_TRACES_EXPORTER") and not disabled
        self.metrics = Metrics() if _sends("OTEL_METRICS_EXPORTER") and not disabled else None
        """What gets the metrics that are sent; None if none are."""
        self._interval = _interval()
        self._began = time_ns()
        self._collector = _Collector()
        self._scope = InstrumentationScope("isola", version("isola"))
        defaults = Resource(
            {
                "service.name": "isola",
                "service.version": version("isola"),
                # Each process has counters of its own.
                "service.instance.id": str(uuid4()),
            }
        )
        self._resource = defaults.merge(OTELResourceDetector().detect())

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Traces | None]:
        """What observes requests; None if no traces are sent."""
        for name in _VERBOSE:
            logging.getLogger(name).setLevel(logging.CRITICAL + 1)
        async with self._sending_metrics(), self._sending_spans() as traces:
            yield traces

    @asynccontextmanager
    async def _sending_spans(self) -> AsyncIterator[Traces | None]:
        if not self._sends_traces:
            yield None
            return
        provider = TracerProvider(resource=self._resource, shutdown_on_exit=False)
        provider.add_span_processor(BatchSpanProcessor(_Spans(OTLPSpanExporter(), self._collector)))
        try:
            yield Traces(provider.get_tracer(self._scope.name, self._scope.version))
        finally:
            await asyncio.wait([_apart(provider.shutdown)], timeout=LAST)

    @asynccontextmanager
    async def _sending_metrics(self) -> AsyncIterator[None]:
        if self.metrics is None:
            yield
            return
        send = partial(self._send, OTLPMetricExporter(), self.metrics)
        task = asyncio.create_task(_repeat(send, self._interval))
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task, send()], timeout=LAST)

    def _send(self, exporter: OTLPMetricExporter, metrics: Metrics) -> asyncio.Future[None]:
        """Send what the metrics are now."""
        data = converted(metrics.families(), self._resource, self._scope, self._began, time_ns())

        def export() -> None:
            self._collector.note(taken=exporter.export(data) is MetricExportResult.SUCCESS)

        return _apart(export)


async def _repeat(send: Callable[[], asyncio.Future[None]], interval: float) -> None:
    while True:
        await asyncio.sleep(interval)
        await send()


def _apart(call: Callable[[], None]) -> asyncio.Future[None]:
    """Call in a thread that the end of the process does not wait for. The future is done when it has ended."""
    loop = asyncio.get_running_loop()
    ended = loop.create_future()

    def note() -> None:
        if not ended.done():
            ended.set_result(None)

    def run() -> None:
        try:
            call()
        except Exception:
            log.exception("telemetry cannot be sent")
        with suppress(RuntimeError):  # the loop is closed: nobody has waited
            loop.call_soon_threadsafe(note)

    Thread(target=run, name="isola-otlp", daemon=True).start()
    return ended


def _sends(name: str) -> bool:
    """Whether a signal is sent. Raises OperatorError."""
    chosen = os.environ.get(name, "otlp")
    if chosen not in {"otlp", "none"}:
        raise OperatorError(f"{name}: expected otlp or none")
    return chosen == "otlp"


def _interval() -> float:
    """Seconds between two exports of metrics. Raises OperatorError."""
    chosen = os.environ.get(_INTERVAL, _MILLISECONDS)
    if not chosen.isascii() or not chosen.isdigit() or int(chosen) == 0:
        raise OperatorError(f"{_INTERVAL}: expected a number of milliseconds from 1")
    return int(chosen) / 1000
