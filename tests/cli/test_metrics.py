"""Metrics are served at a port of their own, as long as the server runs; a collector gets them and traces."""

import socket
import sys

import httpx
import pytest

from isola.commands.common import exporter
from isola.errors import OperatorError
from isola.settings import Settings
from tests.cli.processes import Place
from tests.http.collector import collecting

METRICS = "Metrics on "


def test_a_server_has_its_metrics_at_a_port_of_their_own(furnished: Place) -> None:
    with furnished.server(ISOLA_METRICS_PORT="0") as server:
        [line] = [each for each in server.printed.splitlines() if each.startswith(METRICS)]
        url = line.removeprefix(METRICS)
        assert httpx.get(f"{server.url}/livez", trust_env=False).is_success
        text = httpx.get(url, trust_env=False).text
        assert url.endswith("/metrics")
        assert not url.startswith(server.url)
        assert 'isola_requests_total{code="OK",endpoint="other",operation="none"} 1.0' in text
        assert "process_cpu_seconds_total" in text
        assert server.stop() == 0
    assert "Traceback" not in server.log


def test_a_port_for_metrics_that_is_in_use_is_reported_before_anything_starts(empty: Place) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        complaint = empty.fail("demo", ISOLA_METRICS_PORT=port)

    assert f"ISOLA_METRICS_PORT {port}: Address already in use" in complaint
    assert not empty.data_dir.exists()


def test_a_server_that_ends_sends_what_a_collector_does_not_have_yet(furnished: Place) -> None:
    with collecting() as collector:
        with furnished.server(ISOLA_OTLP="true", OTEL_EXPORTER_OTLP_ENDPOINT=collector.url) as server:
            headers = {"authorization": f"Bearer {furnished.token('acme')}"}
            asked = {"query": "{ __typename }"}
            assert httpx.post(f"{server.url}/graphql", json=asked, headers=headers, trust_env=False).is_success
            assert server.stop() == 0
        assert "POST /graphql" in {span.name for span in collector.spans}
        assert collector.metrics["isola_requests"].sum.data_points
    assert "Traceback" not in server.log


def test_what_is_not_installed_is_reported_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    assert exporter(Settings()) is None
    monkeypatch.delitem(sys.modules, "isola.telemetry.otlp", raising=False)
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.metric_exporter", None)

    with pytest.raises(OperatorError, match=r"pip install isola\[otel\]"):
        exporter(Settings(otlp=True))
