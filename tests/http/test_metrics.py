"""Metrics for Prometheus: what is counted, what is no label, and the dashboards and alerts that use them."""

import json
import re
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass

import httpx
import pytest
import yaml
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from isola.settings import Settings
from isola.shipped import shipped
from isola.telemetry.exposition import PATH, Metrics
from isola.testing.fixtures import Copy
from isola.testing.served import Api, serving
from isola_strategies.base import Strategy

NAME = re.compile(r"\b(?:isola|process|python)_[a-z_]+\b")
SELECTOR = re.compile(r"\b((?:isola|process|python)_[a-z_]+)\{([^}]*)\}")
LABEL = re.compile(r'([a-z_]+)(?:=~|!=|!~|=)"')
GROUPED = re.compile(r"\b(?:by|without) \(([^)]*)\)")
# Prometheus adds them.
OF_PROMETHEUS = {"instance", "job", "le"}


@dataclass(frozen=True, slots=True)
class Measured:
    api: Api
    metrics: Metrics

    async def scrape(self, path: str = PATH, **headers: str) -> httpx.Response:
        transport = httpx.ASGITransport(self.metrics)
        async with httpx.AsyncClient(transport=transport, base_url="http://metrics") as client:
            return await client.get(path, headers=headers)

    async def families(self) -> Mapping[str, Metric]:
        text = (await self.scrape()).text
        return {family.name: family for family in text_string_to_metric_families(text)}

    async def ended(self) -> dict[tuple[str, str, str], float]:
        """The number of requests by endpoint, operation and code."""
        return {
            (sample.labels["endpoint"], sample.labels["operation"], sample.labels["code"]): sample.value
            for sample in (await self.families())["isola_requests"].samples
            if sample.name == "isola_requests_total"
        }


@pytest.fixture
async def measured(copy: Copy, settings: Settings) -> AsyncIterator[Measured]:
    metrics = Metrics()
    async with serving(copy, settings, metrics) as api:
        yield Measured(api, metrics)


async def test_requests_are_counted_by_endpoint_operation_and_code(measured: Measured, strategy: Strategy) -> None:
    client = measured.api.client(f"{strategy.name}-a")
    await client.create("first")
    answers = [
        await client.run("Viewer"),
        await client.run("Viewer"),
        await client.run("UpdateResource", input={"id": "no id", "name": "x"}),
        await client.ask("{ nothing }"),
        await client.saying("Bearer nonsense").run("Viewer"),
    ]
    await measured.api.http.get("/livez")

    assert await measured.ended() == {
        ("graphql", "mutation", "OK"): 1,
        ("graphql", "mutation", answers[2].code): 1,
        ("graphql", "none", "BAD_USER_INPUT"): 1,
        ("graphql", "none", "UNAUTHENTICATED"): 1,
        ("graphql", "query", "OK"): 2,
        ("other", "none", "OK"): 1,
    }
    families = await measured.families()
    sizes = {sample.labels["operation"]: sample.value for sample in families["isola_response_bytes"].samples}
    assert sizes["query"] == sum(len(each.response.content) for each in answers[:2])
    buckets = [each for each in families["isola_request_duration_seconds"].samples if each.labels.get("le") == "+Inf"]
    assert sum(each.value for each in buckets) == 7


async def test_nothing_that_clients_send_is_a_label(measured: Measured, strategy: Strategy) -> None:
    client = measured.api.client(f"{strategy.name}-a", "somebody")
    document = "query Particular($unusual: ID!) { resource(id: $unusual) { name } }"
    await client.ask(document, {"unusual": "peculiar"}, operationName="Particular")
    await client.ask("{ strange }")
    await measured.api.http.get("/singular", headers={"x-tenant-id": "special", "user-agent": "remarkable"})

    text = (await measured.scrape()).text
    assert "isola_requests_total" in text
    for sent in ("Particular", "unusual", "peculiar", "strange", "singular", "special", "remarkable", "somebody"):
        assert sent not in text
    assert client.tenant not in text


async def test_only_metrics_are_served_there(measured: Measured) -> None:
    assert (await measured.scrape("/graphql")).status_code == 404
    assert (await measured.api.http.get(PATH)).status_code == 404
    preferred = await measured.scrape(accept="application/openmetrics-text; version=1.0.0")
    assert preferred.headers["content-type"].startswith("application/openmetrics-text")
    assert preferred.text.endswith("# EOF\n")


def expressions() -> Iterator[str]:
    """All expressions of the dashboard and the alerts."""
    folder = shipped("docs") / "grafana"
    for panel in json.loads((folder / "isola.json").read_text(encoding="utf-8"))["panels"]:
        yield from (target["expr"] for target in panel["targets"])
    for group in yaml.safe_load((folder / "alerts.yml").read_text(encoding="utf-8"))["groups"]:
        yield from (rule["expr"] for rule in group["rules"])


async def test_the_dashboard_and_the_alerts_use_metrics_and_labels_that_are_there(
    measured: Measured, strategy: Strategy
) -> None:
    await measured.api.client(f"{strategy.name}-a").run("Viewer")
    labels: dict[str, set[str]] = {}
    for family in (await measured.families()).values():
        for sample in family.samples:
            labels.setdefault(sample.name, set()).update(sample.labels)

    used = list(expressions())
    assert len(used) > 15
    for expression in used:
        names = set(NAME.findall(expression))
        assert names <= labels.keys(), expression
        known = OF_PROMETHEUS.union(*(labels[name] for name in names))
        grouped = {each.strip() for found in GROUPED.findall(expression) for each in found.split(",")}
        assert grouped <= known, expression
        for name, selector in SELECTOR.findall(expression):
            assert set(LABEL.findall(selector)) <= labels[name] | OF_PROMETHEUS, expression
