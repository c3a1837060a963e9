"""Scenarios with servers: real ones in separate processes, with minimal load."""

from collections.abc import Mapping

import pytest

from isola.errors import OperatorError
from isola.lab import asking, profiles, scenarios
from isola.lab.asking import Answers
from isola.lab.laboratory import Laboratory
from isola.lab.population import OWN_TABLES
from isola.lab.scenario import Grid, Profile, Value
from isola.testing.fixtures import STRATEGIES

SIZE: Mapping[str, tuple[Value, ...]] = {"tenants": (2,), "rows": (3,)}
LATENCIES = {"p50_ms", "p95_ms", "p99_ms"}


async def test_every_subject_answers_the_same_and_is_measured(laboratory: Laboratory) -> None:
    read = scenarios.load()["read"]
    values = {**SIZE, "operation": ("Resources",), "tables": (OWN_TABLES,), "skew": ("zipf",), "connections": (1,)}
    [point] = read.points(Profile("smallest", {"read": [Grid(1, values)]}, {"read": 0.1}))
    for subject in (*STRATEGIES, "none"):
        measured = await read.measure(laboratory, point, subject, 0)
        assert measured.keys() >= {"throughput_per_s", "server_cpu_ms", *LATENCIES}
        assert measured["throughput_per_s"] > 0
        assert 0 < measured["p50_ms"] <= measured["p95_ms"] <= measured["p99_ms"]


async def test_a_cold_tenant_is_distinguished_from_a_warm_one(laboratory: Laboratory) -> None:
    cold = scenarios.load()["cold"]
    values = {**SIZE, "operation": ("Resource",), "tenants": (22,)}
    [point] = cold.points(Profile("smallest", {"cold": [Grid(1, values)]}, {"cold": 0.1}))
    measured = await cold.measure(laboratory, point, "rls", 0)
    assert measured.keys() == {f"{heat}_{name}" for heat in ("cold", "warm") for name in LATENCIES}


@pytest.mark.parametrize(("owners", "partners"), [(1, 3), (101, 1)])
async def test_partners_read_the_shares_of_any_number_of_owners(
    laboratory: Laboratory, owners: int, partners: int
) -> None:
    partner = scenarios.load()["partner"]
    dimensions = {"owners": (owners,), "partners": (partners,), "tenants": (owners + partners,), "rows": (100,)}
    values: Mapping[str, tuple[Value, ...]] = {**dimensions, "connections": (2,)}
    [point] = partner.points(Profile("smallest", {"partner": [Grid(1, values)]}, {"partner": 0.1}))
    measured = await partner.measure(laboratory, point, "rls", 0)
    assert measured["throughput_per_s"] > 0


async def test_more_partners_and_owners_than_tenants_are_refused(laboratory: Laboratory) -> None:
    partner = scenarios.load()["partner"]
    values: Mapping[str, tuple[Value, ...]] = {**SIZE, "owners": (2,), "partners": (1,), "connections": (1,)}
    [point] = partner.points(Profile("smallest", {"partner": [Grid(1, values)]}, {"partner": 0.1}))
    with pytest.raises(OperatorError, match="2 owners and 1 partners: expected no more than there are tenants"):
        await partner.measure(laboratory, point, "rls", 0)


def test_a_subject_that_answers_otherwise_is_not_measured() -> None:
    answers = Answers()
    answers.compare("point", "rls", [{"id": "1"}])
    answers.compare("point", "schema", [{"id": "1"}])
    answers.compare("another point", "schema", [{"id": "2"}])
    with pytest.raises(OperatorError, match="none does not answer what rls does"):
        answers.compare("point", "none", [{"id": "2"}])


def test_latencies_are_those_that_few_exceed() -> None:
    found = asking.latencies([number / 1000 for number in range(1, 1001)])
    assert found == pytest.approx({"p50_ms": 500, "p95_ms": 950, "p99_ms": 990}, rel=0.002)


@pytest.mark.parametrize("name", ["quick", "standard", "full"])
def test_every_profile_has_points_for_every_scenario(name: str) -> None:
    assert profiles.load(name).parts.keys() == scenarios.load().keys()
