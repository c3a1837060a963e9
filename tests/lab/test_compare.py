"""The output of ``isola bench compare`` for two runs."""

from pathlib import Path

import pytest

from isola.errors import OperatorError
from isola.lab.report import compare
from tests.lab.recorded import RUN, record


@pytest.mark.parametrize("seed", range(2, 12))
def test_two_runs_of_the_same_code_differ_by_nothing(tmp_path: Path, seed: int) -> None:
    said = compare(record(tmp_path / "a.jsonl", seed=1), record(tmp_path / "b.jsonl", seed=seed))
    assert "No significant difference" in said
    assert "Worse:" not in said
    assert "Better:" not in said


@pytest.mark.parametrize("seed", range(2, 12))
def test_a_planted_slow_down_of_a_fifth_is_found_where_it_is_and_nowhere_else(tmp_path: Path, seed: int) -> None:
    before = record(tmp_path / "a.jsonl", seed=1)
    after = record(tmp_path / "b.jsonl", seed=seed, slower={"schema": 1.2})
    lines = compare(before, after).splitlines()
    found = [line.strip() for line in lines if line.startswith("  ")]
    assert sorted(line.split(":")[0] for line in found) == ["read, schema, 99th percentile", "read, schema, throughput"]
    assert all("over 6 points" in line for line in found)
    assert lines.index("Worse:") < lines.index(f"  {found[0]}")
    assert "Better:" not in lines
    assert "Better:" in compare(after, before)


def test_a_baseline_that_changed_puts_the_machine_in_doubt(tmp_path: Path) -> None:
    before = record(tmp_path / "a.jsonl")
    slower = {"rls": 1.3, "schema": 1.3, "none": 1.3}
    assert "may be the machine" in compare(before, record(tmp_path / "b.jsonl", seed=2, slower=slower))
    assert "may be the machine" not in compare(before, record(tmp_path / "c.jsonl", seed=2, slower={"rls": 1.3}))


def test_a_busy_machine_is_named(tmp_path: Path) -> None:
    quiet, busy = record(tmp_path / "a.jsonl"), tmp_path / "b.jsonl"
    busy.write_text(quiet.read_text().replace('"busy_elsewhere": 0.02', '"busy_elsewhere": 0.4'))
    said = compare(quiet, busy)
    assert "b.jsonl: The machine was busy: other work took 40%" in said
    assert "a.jsonl: The machine" not in said


def test_points_of_only_one_run_are_named(tmp_path: Path) -> None:
    before, after = record(tmp_path / "a.jsonl"), tmp_path / "b.jsonl"
    kept = [line for line in before.read_text().splitlines() if '"django-tenants"' not in line]
    after.write_text("\n".join(kept) + "\n")
    for said in (compare(before, after), compare(after, before)):
        assert "Only in a.jsonl:\n  making, django-tenants: 1 point\n" in said
        assert "Only in b.jsonl" not in said


def test_another_machine_and_other_versions_are_reported(tmp_path: Path) -> None:
    before = record(tmp_path / "a.jsonl")
    after = record(
        tmp_path / "b.jsonl",
        seed=2,
        run={"machine": {**RUN["machine"], "cores": 64}, "versions": {**RUN["versions"], "postgresql": "19.0"}},
    )
    said = compare(before, after)
    assert "The machines differ (cores: 2 and 64)" in said
    assert "postgresql: 18.4 → 19.0" in said


def test_results_of_another_application_are_not_compared(tmp_path: Path) -> None:
    before = record(tmp_path / "a.jsonl")
    after = record(tmp_path / "b.jsonl", run={"application": {"name": "zoo"}})
    message = r"a\.jsonl is of the nouns that ship and .*b\.jsonl is of the application zoo: expected results of"
    with pytest.raises(OperatorError, match=message):
        compare(before, after)
    assert "No significant difference" in compare(after, after)


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    other = tmp_path / "other.jsonl"
    with pytest.raises(OperatorError, match="expected a file of results that can be read"):
        compare(other, other)
    other.write_text('{"scenario": 1}\n{"scenario": 2}\n')
    with pytest.raises(OperatorError, match="line 1: expected a measurement"):
        compare(other, other)
    other.write_text("")
    with pytest.raises(OperatorError, match="whose first line describes the run"):
        compare(other, other)


def test_a_truncated_last_line_is_ignored(tmp_path: Path) -> None:
    whole, cut = record(tmp_path / "a.jsonl"), tmp_path / "b.jsonl"
    cut.write_text(whole.read_text()[:-40])
    assert "No significant difference" in compare(whole, cut)
