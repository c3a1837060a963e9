"""Runs: finished measurements are kept and not repeated, and rounds alternate."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from isola.errors import OperatorError
from isola.lab import runner
from isola.lab.laboratory import Laboratory
from isola.lab.machine import Elsewhere
from isola.lab.record import Record
from isola.lab.scenario import Grid, Needs, Point, Profile

RUN = {"id": "0", "profile": "quick", "seed": 1, "versions": {"commit": "a"}}
PROFILE = Profile("quick", {"toy": [Grid(3, {"tenants": (1, 2)})]}, {"toy": 0.1})


class Toy:
    """Only counts how often it is measured."""

    name = "toy"
    question = "Does it run?"
    notes = ()

    def __init__(self, fails: Exception | None = None, interrupted_after: int | None = None) -> None:
        self.fails = fails
        self.left = interrupted_after
        self.asked: list[tuple[int, str, int]] = []

    def points(self, profile: Profile) -> Iterable[Point]:
        return profile.points(self.name)

    def subjects(self, point: Point) -> Sequence[str]:  # noqa: ARG002  the same everywhere
        return ["rls", "schema", "none"]

    def needs(self, point: Point) -> Needs:  # noqa: ARG002  the same everywhere
        return Needs()

    def expected_seconds(self, point: Point) -> float:  # noqa: ARG002  the same everywhere
        return 1.0

    async def measure(self, laboratory: Laboratory, point: Point, subject: str, round: int) -> Mapping[str, float]:  # noqa: ARG002, A002  the interface's own names
        if self.left == len(self.asked):
            raise KeyboardInterrupt
        self.asked.append((point.number("tenants"), subject, round))
        if self.fails and subject == "schema":
            raise self.fails
        return {"p50_ms": 1.5}


async def run(toy: Toy, laboratory: Laboratory, file: Path, run: Mapping[str, Any] = RUN) -> int:
    record = Record(file, run)
    try:
        steps = runner.plan({"toy": toy}, PROFILE)
        return await runner.run(laboratory, steps, record, Elsewhere(None), lambda _: None, lambda _: None)
    finally:
        record.close()


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def test_every_subject_has_every_position_in_a_round() -> None:
    subjects = ["rls", "schema", "none"]
    orders = [runner.in_turn(subjects, number) for number in range(6)]
    for place in range(3):
        assert Counter(order[place] for order in orders) == Counter(dict.fromkeys(subjects, 2))


async def test_a_run_begins_with_itself_and_has_every_measurement(laboratory: Laboratory, tmp_path: Path) -> None:
    file = tmp_path / "run.jsonl"
    assert await run(Toy(), laboratory, file) == 0
    first, *measured = lines(file)
    assert first == {"run": RUN}
    assert len(measured) == 2 * 3 * 3
    assert measured[0].keys() == {
        "scenario", "subject", "point", "round", "at", "seconds", "values", "busy_elsewhere"
    }  # fmt: skip
    assert measured[0]["point"] == {"tenants": 1}
    assert measured[0]["values"] == {"p50_ms": 1.5}


async def test_an_interruption_loses_nothing_and_a_rerun_continues(laboratory: Laboratory, tmp_path: Path) -> None:
    file = tmp_path / "run.jsonl"
    first, second, third = Toy(interrupted_after=7), Toy(), Toy()
    with pytest.raises(KeyboardInterrupt):
        await run(first, laboratory, file)
    finished = lines(file)
    assert len(finished) == 1 + 7
    await run(second, laboratory, file)
    assert lines(file)[: len(finished)] == finished
    assert not set(first.asked) & set(second.asked)
    assert len(first.asked) + len(second.asked) == 2 * 3 * 3
    await run(third, laboratory, file)
    assert third.asked == []


async def test_a_line_that_was_cut_off_is_measured_again(laboratory: Laboratory, tmp_path: Path) -> None:
    file = tmp_path / "run.jsonl"
    await run(Toy(), laboratory, file)
    whole = file.read_bytes()
    file.write_bytes(whole[:-20])
    again = Toy()
    await run(again, laboratory, file)
    assert again.asked == [(2, "schema", 2)] or len(again.asked) == 1
    assert [line | {"at": ""} for line in lines(file)[1:-1]] == [
        json.loads(line) | {"at": ""} for line in whole.splitlines()[1:-1]
    ]


async def test_failed_measurements_are_recorded_with_the_reason_and_retried(
    laboratory: Laboratory, tmp_path: Path
) -> None:
    file = tmp_path / "run.jsonl"
    assert await run(Toy(OperatorError("no room")), laboratory, file) == 6
    failed = [line for line in lines(file)[1:] if "failed" in line]
    assert {(line["subject"], line["failed"]) for line in failed} == {("schema", "no room")}
    assert all("values" not in line for line in failed)
    again = Toy()
    assert await run(again, laboratory, file) == 0
    assert {subject for _, subject, _ in again.asked} == {"schema"}


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"seed": 2}, r"another seed \(1, not 2\)"),
        ({"profile": "full"}, r"another profile \(quick, not full\)"),
        ({"application": {"name": "zoo"}}, r"another application \(None, not {'name': 'zoo'}\)"),
        ({"versions": {"commit": "b"}}, r"another versions commit \(a, not b\)"),
    ],
)
async def test_measurements_of_different_things_do_not_go_into_one_file(
    laboratory: Laboratory, tmp_path: Path, other: Mapping[str, Any], message: str
) -> None:
    file = tmp_path / "run.jsonl"
    await run(Toy(), laboratory, file)
    before = file.read_bytes()
    with pytest.raises(OperatorError, match=message):
        await run(Toy(), laboratory, file, {**RUN, **other})
    assert file.read_bytes() == before


async def test_a_file_with_other_content_is_not_changed(laboratory: Laboratory, tmp_path: Path) -> None:
    file = tmp_path / "letter.txt"
    file.write_text("Dear Sir,\n")
    with pytest.raises(OperatorError, match="expected a file of results"):
        await run(Toy(), laboratory, file)
    assert file.read_text() == "Dear Sir,\n"
