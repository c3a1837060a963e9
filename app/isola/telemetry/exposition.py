"""The metrics of a server process, as an application that Prometheus scrapes: ``/metrics``."""

from collections.abc import Iterable
from importlib.metadata import version

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import InfoMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse, Response
from starlette.types import Receive, Scope, Send

from isola.telemetry.requests import Requests

PATH = "/metrics"


class Metrics:
    """All metrics of this process. ``requests`` observes its requests; other collectors are added once."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self.requests = Requests()
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)
        GCCollector(registry=self._registry)
        self.add(self.requests, _About())

    def add(self, *collectors: Collector) -> None:
        for each in collectors:
            self._registry.register(each)

    def families(self) -> Iterable[Metric]:
        """All metrics, with what they are now. To be called on the event loop, so that no counter changes meanwhile."""
        return self._registry.collect()

    def names(self) -> frozenset[str]:
        """The names of all samples that a scrape can have."""
        return frozenset(sample.name for metric in self.families() for sample in metric.samples)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer GET of ``/metrics`` in the text format of Prometheus or OpenMetrics, as the client prefers."""
        if scope["type"] != "http":
            await send({"type": "websocket.close"})
        else:
            await self._answer(scope)(scope, receive, send)

    def _answer(self, scope: Scope) -> Response:
        if scope["path"] != PATH:
            return PlainTextResponse(f"expected {PATH}\n", 404)
        if scope["method"] not in {"GET", "HEAD"}:
            return PlainTextResponse("expected GET\n", 405, {"allow": "GET, HEAD"})
        encode, media = choose_encoder(Headers(scope=scope).get("accept", ""))
        # On the event loop, so that no counter changes meanwhile.
        return Response(encode(self._registry), headers={"content-type": media})


class _About:
    def collect(self) -> list[Metric]:
        return [InfoMetricFamily("isola", "The server's program", value={"version": version("isola")})]
