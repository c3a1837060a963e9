"""``make bench-check``: whether the lab detects an injected slow-down, without false positives.

The same small scenario is run three times through all stages of a run: twice unchanged, and once with one strategy
slowed by a fifth. The first two must not differ; the third must differ, for that strategy only.
"""

import asyncio
import statistics
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import typer
import uvloop
from rich.console import Console
from sqlalchemy import select

from isola.database import embedded
from isola.lab import cluster, machine, runner
from isola.lab.command import POSTGRESQL
from isola.lab.laboratory import Laboratory
from isola.lab.record import Record, now
from isola.lab.report import compare
from isola.lab.scenario import Grid, Needs, Point, Profile, strategies
from isola.subjects.resources import resources

SLOWER = 1.2
ROUNDS = 9
SECONDS = 0.7
TENANTS, ROWS = 20, 100
STATEMENT = select(resources.c.id, resources.c.name, resources.c.data).order_by(resources.c.name).limit(50)

err = Console(stderr=True)


class Planted:
    """A list of 50 in the database, one connection, tenants in turn. ``slowed`` takes a fifth longer for it."""

    name = "planted"
    question = "Is a planted slow-down found?"
    notes = ()

    def __init__(self, slowed: str | None) -> None:
        self._slowed = slowed

    def points(self, profile: Profile) -> Iterable[Point]:
        return profile.points(self.name)

    def subjects(self, point: Point) -> Sequence[str]:  # noqa: ARG002  the same everywhere
        return strategies()

    def needs(self, point: Point) -> Needs:  # noqa: ARG002  only this program calls it
        return Needs()

    def expected_seconds(self, point: Point) -> float:  # noqa: ARG002  the same everywhere
        return SECONDS

    async def measure(self, laboratory: Laboratory, point: Point, subject: str, round: int) -> Mapping[str, float]:  # noqa: ARG002  as every other
        population = await laboratory.population(strategy=subject, tenants=point.number("tenants"), rows=ROWS)
        times: list[float] = []
        async with await population.place.tenants() as tenants:
            ends = time.perf_counter() + SECONDS
            while (started := time.perf_counter()) < ends:
                tenant = population.tenants[len(times) % len(population.tenants)]
                async with tenants.transaction(tenant, read_only=True) as work:
                    await work.rows(STATEMENT)
                taken = time.perf_counter() - started
                if subject == self._slowed:
                    while time.perf_counter() - started < taken * SLOWER:
                        pass
                times.append(time.perf_counter() - started)
        return {"p50_ms": statistics.median(times) * 1e3, "throughput_per_s": len(times) / sum(times)}


async def _measured(laboratory: Laboratory, file: Path, slowed: str | None) -> Path:
    profile = Profile("check", {"planted": [Grid(ROUNDS, {"tenants": (TENANTS,)})]}, {"planted": SECONDS})
    record = Record(file, {"id": file.stem, "started": now(), "profile": "check", "versions": {}, "seed": 1})
    try:
        steps = runner.plan({"planted": Planted(slowed)}, profile)
        await runner.run(laboratory, steps, record, machine.Elsewhere(None), lambda _: None, lambda _: None)
    finally:
        record.close()
    return file


async def _check(address: str, directory: Path, slowed: str) -> bool:
    async with (
        cluster.entered(address, lasting=False) as ground,
        Laboratory(ground, directory=directory, seed=1, postgresql=None) as laboratory,
    ):
        warming = await _measured(laboratory, directory / "warming.jsonl", None)
        warming.unlink()
        first = await _measured(laboratory, directory / "first.jsonl", None)
        second = await _measured(laboratory, directory / "second.jsonl", None)
        planted = await _measured(laboratory, directory / "planted.jsonl", slowed)
    same, other = compare(first, second), compare(second, planted)
    print(f"Two runs of the same code:\n\n{same}\n\n{slowed} slowed by {SLOWER - 1:.0%}:\n\n{other}")
    found = {line.split(",")[1].strip() for line in other.splitlines() if line.startswith("  planted,")}
    return "No significant difference" in same and found == {slowed}


def main(slowed: str = "schema") -> None:
    """Inject a slow-down and check that it is detected. Exit status 1 if it is not, or for a false positive."""
    with TemporaryDirectory(prefix="isola-lab-") as directory:
        working = Path(directory)
        with (
            embedded.running(working / "postgresql", POSTGRESQL) as address,
            asyncio.Runner(loop_factory=uvloop.new_event_loop) as loop,
        ):
            passed = loop.run(_check(address, working, slowed))
    err.print("found, and nothing else" if passed else "NOT as it should be", style=None if passed else "red")
    sys.exit(not passed)


if __name__ == "__main__":
    typer.run(main)
