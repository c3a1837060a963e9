"""Runs the planned measurements: interleaved rounds, every subject in every round, in changing order."""

import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import structlog

from isola.errors import IsolaError
from isola.lab.laboratory import Laboratory
from isola.lab.machine import Elsewhere
from isola.lab.record import Identity, Record
from isola.lab.scenario import Needs, Point, Profile, Scenario

log = structlog.get_logger()

Doing = Callable[[str], None]
Done = Callable[[float], None]


@dataclass(frozen=True, slots=True)
class Step:
    """One planned measurement."""

    scenario: Scenario
    point: Point
    subject: str
    round: int
    needs: Needs
    """Without the populations of subjects that are not measured."""

    @property
    def identity(self) -> Identity:
        return (self.scenario.name, self.subject, self.point, self.round)

    @property
    def expected_seconds(self) -> float:
        return self.scenario.expected_seconds(self.point)

    def __str__(self) -> str:
        at = " ".join(f"{name}={value}" for name, value in self.point.dimensions)
        return f"{self.scenario.name} {at}: {self.subject}"


def plan(scenarios: Mapping[str, Scenario], profile: Profile, left_out: Collection[str] = ()) -> Sequence[Step]:
    """All measurements of a profile in execution order, except subjects in ``left_out``.

    Rounds are the outer loop at each point, so that slow changes of the machine affect all subjects equally.
    """
    steps = []
    for name in profile.parts:
        for point in scenarios[name].points(profile):
            needs = _without(scenarios[name].needs(point), left_out)
            subjects = [subject for subject in scenarios[name].subjects(point) if subject not in left_out]
            steps += [
                Step(scenarios[name], point, subject, number, needs)
                for number in range(profile.rounds(name, point))
                for subject in in_turn(subjects, number)
            ]
    return steps


def _without(needs: Needs, left_out: Collection[str]) -> Needs:
    return replace(needs, populations=tuple(size for size in needs.populations if size.strategy not in left_out))


def in_turn(subjects: Sequence[str], number: int) -> Sequence[str]:
    """The subjects in the order of a round: each round starts with another, every second one is reversed."""
    if not subjects:
        return []
    start = (number // 2) % len(subjects)
    turned = [*subjects[start:], *subjects[:start]]
    return turned[::-1] if number % 2 else turned


async def run(
    laboratory: Laboratory, steps: Iterable[Step], record: Record, elsewhere: Elsewhere, doing: Doing, done: Done
) -> int:
    """Run the measurements that are not in the record yet. Returns how many failed.

    A failed measurement is recorded with the reason, and the others continue. ``done`` receives the expected
    seconds.
    """
    failed = 0
    for step in steps:
        if step.identity in record.finished:
            continue
        laboratory.rest(keeping=step.needs.populations)
        started, busy = time.monotonic(), elsewhere.begin()
        try:
            for size in step.needs.populations:
                await laboratory.populated(size)
            doing(str(step))
            started, busy = time.monotonic(), elsewhere.begin()
            values = await step.scenario.measure(laboratory, step.point, step.subject, step.round)
        except IsolaError as error:
            failed += 1
            record.fail(step.identity, time.monotonic() - started, busy(), error.message)
        except Exception as error:
            # A bug in one scenario, or a server that stopped, must not prevent the other measurements.
            failed += 1
            log.warning("a measurement failed", measurement=str(step), exc_info=error)
            record.fail(step.identity, time.monotonic() - started, busy(), f"{type(error).__name__}: {error}")
        else:
            record.add(step.identity, time.monotonic() - started, busy(), values)
        done(step.expected_seconds)
    return failed
