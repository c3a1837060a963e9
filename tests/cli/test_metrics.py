"""Metrics are served at a port of their own, as long as the server runs."""

import socket

import httpx

from tests.cli.processes import Place

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
