"""Traces and metrics that a collector gets: complete, of the right tenant, and without anything that clients send."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import httpx
import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from structlog.testing import capture_logs

from isola.errors import OperatorError
from isola.platform import provisioning
from isola.settings import Settings
from isola.subjects.permissions import Role
from isola.telemetry.otlp import LAST, Exporter
from isola.testing.fixtures import Copy
from isola.testing.served import Api, serving
from isola_strategies.base import Strategy
from tests.http.collector import Collector, collecting, values

CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
UNSAMPLED = CALLER.removesuffix("1") + "0"


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    with collecting() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        yield collector


@asynccontextmanager
async def sending(copy: Copy, settings: Settings) -> AsyncIterator[Api]:
    """A server that sends its telemetry; what is left when the context ends."""
    exporter = Exporter()
    async with exporter.running() as traces, serving(copy, settings, exporter.metrics, traces) as api:
        yield api


def roots(collector: Collector) -> list[Span]:
    found = [each for each in collector.spans if each.kind == Span.SPAN_KIND_SERVER]
    return sorted(found, key=lambda span: span.start_time_unix_nano)


async def test_a_request_is_a_span_with_its_parts_and_its_tenant(
    copy: Copy, settings: Settings, collector: Collector, strategy: Strategy
) -> None:
    async with sending(copy, settings) as api:
        client = api.client(f"{strategy.name}-a")
        tenant = await provisioning.named(api.control, f"{strategy.name}-a")
        await client.create("first")
        await client.ask("{ resources { nodes { name } } }")
        await api.http.get("/livez")

    [create, read] = roots(collector)
    assert create.name == "POST /graphql"
    assert values(create.attributes) == {
        "http.request.method": "POST",
        "http.route": "/graphql",
        "http.response.status_code": "200",
        "isola.tenant": str(tenant.id),
        "graphql.operation.type": "mutation",
        "graphql.operation.name": "CreateResource",
    }
    assert values(read.attributes)["isola.document"].startswith("sha256:")
    parts = collector.below(create)
    assert parts.keys() == {"authentication", "document", "planning", "mutation"}
    [written] = collector.below(parts["mutation"][0])["transaction"]
    assert written.kind == Span.SPAN_KIND_CLIENT
    assert values(written.attributes) == {"db.system.name": "postgresql", "db.system": "postgresql"}
    for span in (*parts["mutation"], written):
        assert create.start_time_unix_nano <= span.start_time_unix_nano
        assert span.start_time_unix_nano < span.end_time_unix_nano <= create.end_time_unix_nano
    assert "transaction" in collector.below(read)
    assert {span.trace_id for span in collector.spans} == {create.trace_id, read.trace_id}
    assert collector.resource["service.name"] == "isola"


async def test_the_trace_of_a_caller_goes_on_as_it_was_sampled(
    copy: Copy, settings: Settings, collector: Collector, strategy: Strategy
) -> None:
    async with sending(copy, settings) as api:
        client = api.client(f"{strategy.name}-a")
        for given in (CALLER, UNSAMPLED, "nonsense", f"{CALLER},{CALLER}"):
            await client.send('{"query": "{ __typename }"}', traceparent=given, tracestate="vendor=Zwvxqj")

    [continued, *new] = roots(collector)
    _, trace, span, _ = CALLER.split("-")
    assert (continued.trace_id.hex(), continued.parent_span_id.hex()) == (trace, span)
    assert [each.parent_span_id for each in new] == [b"", b""]
    assert all(b"Zwvxqj" not in body for body in collector.bodies)


async def test_errors_have_their_code_and_nothing_that_clients_send_is_in_a_span(
    copy: Copy, settings: Settings, collector: Collector, strategy: Strategy
) -> None:
    async with sending(copy, settings) as api:
        client = api.client(f"{strategy.name}-a", "Zwvxqj-user", Role.VIEWER, email="zwvxqj@example.org")
        await client.ask("query ($n: String) { resources(filter: {name: {eq: $n}}) { totalCount } }", {"n": "Zwvxqj"})
        await client.run("CreateResource", input={"name": "Zwvxqj"})
        await client.ask('{ resources(filter: {name: {eq: "Zwvxqj"}}) { Zwvxqj } }')
        await client.saying("Bearer Zwvxqj").ask("{ __typename }")
        await client.request("PATCH", headers={"x-request-id": "Zwvxqj", "user-agent": "Zwvxqj"})

    spans = roots(collector)
    errors = [values(each.attributes).get("error.type") for each in spans]
    assert errors == [None, "FORBIDDEN", "BAD_USER_INPUT", "UNAUTHENTICATED", "BAD_USER_INPUT"]
    assert spans[-1].name == "PATCH /graphql"
    assert all(each.status.code == Status.STATUS_CODE_UNSET for each in spans)
    token = client.headers["authorization"].removeprefix("Bearer ")
    for body in collector.bodies:
        assert b"zwvxqj" not in body.lower()
        assert token.encode() not in body


async def test_metrics_are_those_that_prometheus_gets(
    copy: Copy, settings: Settings, collector: Collector, strategy: Strategy
) -> None:
    exporter = Exporter()
    assert exporter.metrics
    async with exporter.running() as traces, serving(copy, settings, exporter.metrics, traces) as api:
        client = api.client(f"{strategy.name}-a")
        await client.run("Viewer")
        await client.run("Viewer")
        families = {each.name: each for each in exporter.metrics.families()}

    requests = collector.metrics["isola_requests"].sum
    counted = {tuple(values(each.attributes).values()): each.as_double for each in requests.data_points}
    assert counted == {("graphql", "query", "OK"): 2.0}
    assert requests.is_monotonic
    [durations] = collector.metrics["isola_request_duration_seconds"].histogram.data_points
    assert (durations.count, sum(durations.bucket_counts)) == (2, 2)
    assert len(durations.bucket_counts) == len(durations.explicit_bounds) + 1
    total = next(each for each in families["isola_request_duration_seconds"].samples if each.name.endswith("_sum"))
    assert durations.sum == total.value
    assert "pool" in {
        each.key for point in collector.metrics["isola_pool_size"].gauge.data_points for each in point.attributes
    }
    assert families.keys() == collector.metrics.keys()


async def test_without_a_collector_clients_notice_nothing_and_the_end_does_not_wait(
    copy: Copy, settings: Settings, strategy: Strategy, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # it accepts connections and never answers
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "10")
        monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "8")
        monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "4")
        monkeypatch.setenv("OTEL_METRIC_EXPORT_INTERVAL", "10")
        exporter = Exporter()
        with capture_logs() as logs:
            async with exporter.running() as traces:
                async with serving(copy, settings, exporter.metrics, traces) as api:
                    client = api.client(f"{strategy.name}-a")
                    for _ in range(20):
                        assert "viewer" in (await client.run("Viewer")).data
                    await asyncio.sleep(2.5)
                began = time.monotonic()
            took = time.monotonic() - began
    lost = [each for each in logs if "collector" in each["event"]]
    assert [each["log_level"] for each in lost] == ["warning"]
    assert took < 2 * LAST + 1


async def test_each_kind_can_be_switched_off_and_unknown_choices_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "none")
    async with Exporter().running() as traces:
        assert traces is None
    monkeypatch.setenv("OTEL_METRICS_EXPORTER", "Zwvxqj")
    with pytest.raises(OperatorError, match="OTEL_METRICS_EXPORTER: expected otlp or none"):
        Exporter()
    monkeypatch.setenv("OTEL_METRICS_EXPORTER", "none")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
    with pytest.raises(OperatorError, match="OTEL_EXPORTER_OTLP_PROTOCOL: expected http/protobuf"):
        Exporter()


async def test_a_server_without_traces_has_no_part_that_times(
    copy: Copy, settings: Settings, strategy: Strategy, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise AssertionError("a request was timed")

    monkeypatch.setattr("isola.telemetry.traced.stage", fail)
    monkeypatch.setattr("isola.api.observation.begin", fail)
    async with serving(copy, settings) as api:
        assert (await api.client(f"{strategy.name}-a").run("Viewer")).data
        assert httpx.codes.is_success((await api.http.get("/readyz")).status_code)
