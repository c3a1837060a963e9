"""``isola advise`` on the command line, and its reasons."""

import json
from pathlib import Path
from typing import Any

import pytest

from isola.commands.advise import counted
from isola.database.transactions import Database
from isola.doctor.vocabulary import HOMES, TENANT_COLUMN
from isola.errors import OperatorError
from isola.lab.report.advisor import Needs, advise, interpolated
from isola.lab.report.results import Results, read
from isola.testing.fixtures import Copy
from tests.cli.processes import Place, finished
from tests.lab.recorded import record

# A table that thirty customers share, and two schemas of one each. Without a directory of tenants.
OTHER = """
ALTER SCHEMA control RENAME TO elsewhere;
CREATE SCHEMA shop;
CREATE TABLE shop.orders (org_id int, item text);
INSERT INTO shop.orders SELECT n % 30, 'item' FROM generate_series(1, 3000) AS n;
CREATE SCHEMA customer_a; CREATE TABLE customer_a.orders (item text); CREATE TABLE customer_a.notes (item text);
CREATE SCHEMA customer_b; CREATE TABLE customer_b.orders (item text); CREATE TABLE customer_b.notes (item text);
ANALYZE shop.orders
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return record(tmp_path / "results.jsonl")


@pytest.fixture
def results(file: Path) -> Results:
    return read(file)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_the_cheaper_strategy_is_recommended_on_both_sides_of_the_crossover(results: Results) -> None:
    assert advise(results, Needs(10)).strategy == "schema"
    assert advise(results, Needs(1000)).strategy == "rls"


def test_where_all_serve_far_more_than_is_wanted_other_respects_decide(results: Results) -> None:
    advice = advise(results, Needs(10, qps=50))
    assert advice.strategy == "rls"
    assert "all serve 2 times the requests that are wanted, or more" in advice.reasons
    assert any(reason.startswith("against it: Reads a second: schema is ahead") for reason in advice.reasons)


def test_a_strategy_that_cannot_meet_a_need_is_out(results: Results) -> None:
    advice = advise(results, Needs(10, qps=1600))
    assert advice.strategy == "schema"
    assert any(reason.startswith("rls is out: it serves") for reason in advice.reasons)
    crowded = advise(results, Needs(1000, qps=10, connections=64, memory_bytes=4e9))
    assert crowded.strategy == "rls"
    assert any("64 connections that have met all tenants hold 3.0" in reason for reason in crowded.reasons)


def test_where_all_fail_none_is_recommended(results: Results) -> None:
    advice = advise(results, Needs(100, qps=1e6))
    assert advice.strategy is None
    assert "no strategy that was measured meets these needs" in advice.reasons


def test_even_strategies_are_called_even(results: Results) -> None:
    reads = [each for each in results.measurements if each.scenario == "read"]
    advice = advise(Results(results.run, reads), Needs(100))
    assert advice.strategy is None
    assert advice.weighed
    assert all(one.ahead is None for one in advice.weighed)


def test_extrapolation_is_reported_with_its_extent(results: Results) -> None:
    assert advise(results, Needs(500, rows=50)).extrapolated == [
        "500 tenants is 5 times outside of what was measured: making: make"
    ]
    told = advise(results, Needs(20_000, rows=500, tables=40)).extrapolated
    assert any(line.startswith("20,000 tenants is 20 times outside of what was measured: Reads") for line in told)
    assert any(line.startswith("500 rows is 10 times outside of what was measured: Reads a second") for line in told)
    assert "the number of tables plays no part: nothing was measured by it" in told


def test_needs_that_no_figure_answers_are_named(results: Results) -> None:
    def scenarios(needs: Needs) -> list[str]:
        return [line.rpartition(": the scenario ")[2] for line in advise(results, needs).unmeasured]

    assert scenarios(Needs(10, qps=50, connections=8, memory_bytes=4e9)) == ["`provisioning`"]
    reads = [each for each in results.measurements if each.scenario == "read"]
    memory = [each for each in results.measurements if each.scenario == "memory"]
    results = Results(results.run, reads)
    assert scenarios(Needs(10)) == ["`provisioning`"]
    assert scenarios(Needs(10, connections=8)) == ["`memory`", "`provisioning`"]
    results = Results(results.run, memory)
    assert scenarios(Needs(10, qps=5)) == ["`read`", "`provisioning`"]


def test_figures_between_sizes_lie_on_the_line_and_those_beyond_go_on_with_it() -> None:
    known = {10.0: 100.0, 1000.0: 1.0}
    assert interpolated(known, 10) == pytest.approx(100)
    assert interpolated(known, 100) == pytest.approx(10)
    assert interpolated(known, 10_000) == pytest.approx(0.1)
    assert interpolated({10.0: 7.0}, 99) == 7
    assert interpolated({10.0: 0.0, 1000.0: 5.0}, 900) == 5


def test_one_strategy_leaves_nothing_to_choose(results: Results) -> None:
    alone = [each for each in results.measurements if each.subject != "schema"]
    with pytest.raises(OperatorError, match="two strategies"):
        advise(Results(results.run, alone), Needs(10))


def test_the_command_tells_and_the_json_has_the_same(place: Place, file: Path) -> None:
    wanted = ("advise", "--tenants", "800", "--rows-per-tenant", "20000", "--tables", "40", "--qps", "1200")
    printed = place.run(*wanted, "--results", str(file))
    data: dict[str, Any] = json.loads(place.run(*wanted, "--results", str(file), "--json"))
    assert printed.startswith("Recommended: rls, with reservations: see what was extrapolated and not measured\n")
    assert data["strategy"] == "rls"
    for reason in data["reasons"]:
        assert f"- {reason}" in printed
    assert data["unmeasured"]
    for line in (*data["extrapolated"], *data["unmeasured"]):
        assert f"- {line}" in printed
    assert {figure["about"] for figure in data["figures"]} >= {"Reads a second", "Memory of a connection"}
    assert data["needs"]["qps"] == 1200
    assert data["counted"] is None


def test_results_of_an_application_are_accepted_and_named(place: Place, tmp_path: Path) -> None:
    of_zoo = record(tmp_path / "zoo.jsonl", run={"application": {"name": "zoo"}})
    told = place.run("advise", "--tenants", "500", "--results", str(of_zoo))
    assert "zoo.jsonl of the application zoo, measured on" in told


def test_without_results_or_tenants_the_error_names_what_is_missing(place: Place, file: Path) -> None:
    missing = place.directory / "none.jsonl"
    _, said, status = finished(place.begin("advise", "--tenants", "5", "--results", str(missing)))
    assert status == 2
    assert "does not exist" in said
    _, said, status = finished(place.begin("advise", "--results", str(file)))
    assert status == 2
    assert "expected --tenants, or --database-url" in said
    _, said, status = finished(place.begin("advise", "--results", str(file), "--database-url", "mysql://o:hidden@h/d"))
    assert status == 2
    assert "hidden" not in said


async def test_an_installation_is_counted_by_its_directory(owner: Database, control: Database) -> None:
    found = await counted(owner, TENANT_COLUMN, HOMES)
    async with control.unbound() as work:
        assert found.tenants == await work.value("SELECT count(*) FROM control.tenants")
        assert found.connections == int(await work.value("SELECT current_setting('max_connections')"))
    async with owner.unbound() as work:
        assert found.tables == await work.value("SELECT count(*) FROM pg_tables WHERE schemaname = 'rls'")
        assert found.relations == await work.value("SELECT count(*) FROM pg_class")


async def test_any_other_database_is_counted_by_columns_and_schemas(owner: Database) -> None:
    async with owner.unbound() as work:
        await work.script(OTHER)
    found = await counted(owner, "org_id", "^customer_")
    assert (found.tenants, found.tables) == (32, 2)
    assert found.rows == round(3000 / 32)
    nobody = await counted(owner, "nothing", "^nothing")
    assert (nobody.tenants, nobody.rows, nobody.tables) == (0, 0, 0)


async def test_counted_values_replace_missing_options(place: Place, file: Path, copy: Copy) -> None:
    assert copy.where.owner
    wanted = ("advise", "--results", str(file), "--database-url", copy.where.owner, "--json")
    data = json.loads(place.run(*wanted))
    assert data["needs"]["tenants"] == data["counted"]["tenants"]
    assert data["needs"]["tables"] == data["counted"]["tables"]
    assert json.loads(place.run(*wanted, "--tenants", "70", "--tables", "9"))["needs"]["tenants"] == 70
