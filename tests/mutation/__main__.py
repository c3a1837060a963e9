"""``python -m tests.mutation``: tries sabotages and reports which of them the suite did not notice."""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict
from pathlib import Path
from queue import SimpleQueue

from tests.mutation.report import markdown, summary
from tests.mutation.sabotage import Sabotage, part
from tests.mutation.sabotages import BY_NAME, SABOTAGES
from tests.mutation.trial import ROOT, Outcome, Verdict, confirmed, tried, workshop

RUN = 480
"""About how many seconds a run of everything takes: of two that follow each other, each has a tick of its own."""


def main() -> int:
    arguments = _arguments()
    chosen, which = _chosen(arguments)
    print(f"{which}: {len(chosen)} of {len(SABOTAGES)} sabotages", flush=True)
    begun = time.monotonic()
    places: SimpleQueue[Path] = SimpleQueue()
    outcomes: list[Outcome] = []

    def trial(sabotage: Sabotage) -> Outcome:
        place = places.get()
        try:
            return tried(sabotage, place)
        finally:
            places.put(place)

    with workshop() as one, workshop() as other, ThreadPoolExecutor(arguments.jobs) as pool:
        for place in (one, other)[: arguments.jobs]:
            places.put(place)
        for done in as_completed([pool.submit(trial, sabotage) for sabotage in chosen]):
            outcome = done.result()
            outcomes.append(outcome)
            print(f"{outcome.verdict:9} {outcome.seconds:6.1f} s  {outcome.name}: {outcome.by}", flush=True)
        # Each test that turned red has to be green in the same source without any sabotage.
        if not arguments.green:
            outcomes = confirmed(outcomes, one, "-n", str(arguments.jobs))
    _write(arguments, outcomes, time.monotonic() - begun)
    print(summary(outcomes))
    return 0 if all(outcome.verdict is Verdict.KILLED for outcome in outcomes) else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__)
    parser.add_argument("names", nargs="*", help="sabotages to try; all of them if none is named")
    parser.add_argument("--part", metavar="OF", type=int, help="two of so many parts, chosen by commits and by clock")
    parser.add_argument("--turns", type=int, default=2, choices=(1, 2), help="1: only the one by commits")
    parser.add_argument("--green", action="store_true", help="the suite has just passed: no test is red by itself")
    parser.add_argument("--jobs", type=int, default=2, choices=(1, 2), help="how many are tried at once")
    parser.add_argument("--json", type=Path, help="write the outcomes to this file")
    parser.add_argument("--markdown", type=Path, help="write the report to this file")
    return parser.parse_args()


def _chosen(arguments: argparse.Namespace) -> tuple[tuple[Sabotage, ...], str]:
    """The sabotages to try, and what they are called together."""
    if arguments.names:
        return tuple(BY_NAME[name] for name in arguments.names), "as named"
    if arguments.part:
        of = arguments.part
        numbers = turns(_commits(), time.time(), of)[: arguments.turns]
        return part(SABOTAGES, numbers, of), f"parts {' and '.join(str(number) for number in numbers)} of {of}"
    return SABOTAGES, "whole"


def turns(commits: int, now: float, of: int) -> tuple[int, ...]:
    """The parts whose turn it is, from 0 on: one by the number of commits, another by the clock.

    A run on a clean clone knows nothing of the runs before it. With each landing the number of commits grows: by one,
    and the first number takes every part in ``of`` runs; by two or more, too, if ``of`` is a prime. Where one commit is
    run again and again, the second goes on. With seven parts, no part is left out of ten runs in either way; nothing
    that keeps no record can promise it for landings of ever different sizes, and there the second makes it likely.
    """
    first = commits % of
    others = [number for number in range(of) if number != first]
    return (first, others[int(now / RUN) % len(others)]) if others else (first,)


def _commits() -> int:
    counted = subprocess.run(
        ["git", "rev-list", "--count", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return int(counted.stdout) if counted.returncode == 0 else 0


def _write(arguments: argparse.Namespace, outcomes: Sequence[Outcome], seconds: float) -> None:
    if arguments.json:
        report = {"seconds": round(seconds), "of": len(SABOTAGES), "outcomes": [asdict(each) for each in outcomes]}
        arguments.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    if arguments.markdown:
        arguments.markdown.write_text(markdown(outcomes), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
