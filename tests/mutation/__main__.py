"""``python -m tests.mutation``: tries sabotages and reports which of them the suite did not detect."""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack, closing
from dataclasses import asdict
from pathlib import Path
from queue import SimpleQueue
from tempfile import TemporaryDirectory

from isola.testing.fixtures import memory, prepare
from tests.mutation.in_database import IN_DATABASE
from tests.mutation.report import markdown, summary
from tests.mutation.sabotage import Sabotage
from tests.mutation.sabotages import BY_NAME, SABOTAGES
from tests.mutation.trial import NOTICED, SUITE, Outcome, Verdict, confirmed, noticed, tried
from tests.mutation.workshop import Workshop, copied


def main() -> int:
    arguments = _arguments()
    chosen = tuple(BY_NAME[name] for name in arguments.names) or (IN_DATABASE if arguments.database else SABOTAGES)
    chosen = chosen[:: arguments.every]
    print(f"{len(chosen)} of {len(SABOTAGES)} sabotages", flush=True)
    begun = time.monotonic()
    workshops: SimpleQueue[Workshop] = SimpleQueue()
    outcomes: list[Outcome] = []

    def trial(sabotage: Sabotage) -> Outcome:
        workshop = workshops.get()
        try:
            return tried(sabotage, workshop, () if arguments.expected else SUITE)
        finally:
            workshops.put(workshop)

    with ExitStack() as held:
        prepared = Path(held.enter_context(TemporaryDirectory(prefix="isola-mutation-", dir=memory())))
        prepare(prepared)
        for _ in range(arguments.jobs):
            place = held.enter_context(copied())
            workshops.put(held.enter_context(closing(Workshop(place, prepared))))
        pool = held.enter_context(ThreadPoolExecutor(arguments.jobs))
        for done in as_completed([pool.submit(trial, sabotage) for sabotage in chosen]):
            outcome = done.result()
            outcomes.append(outcome)
            print(f"{outcome.verdict:9} {outcome.seconds:6.1f} s  {outcome.name}: {outcome.by}", flush=True)
        # Each test that failed has to pass in the same source without any sabotage.
        if not arguments.green:
            outcomes = confirmed(outcomes, place, "-n", str(arguments.jobs))
    _write(arguments, outcomes, time.monotonic() - begun)
    print(summary(outcomes))
    return 0 if all(outcome.verdict is Verdict.KILLED for outcome in outcomes) else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__)
    parser.add_argument("names", nargs="*", help="sabotages to run; by default all")
    parser.add_argument(
        "--database", action="store_true", help="run those of the database: of policies, rights and SQL"
    )
    parser.add_argument("--every", type=int, default=1, metavar="N", help="run each Nth only: the same ones each time")
    parser.add_argument("--green", action="store_true", help="assume that the suite passes without sabotage")
    parser.add_argument(
        "--expected", action="store_true", help="run only the tests that are expected to fail, not the whole suite"
    )
    parser.add_argument("--jobs", type=int, default=2, choices=(1, 2), help="sabotages to run at the same time")
    parser.add_argument("--remember", action="store_true", help="store which test detected which sabotage")
    parser.add_argument("--json", type=Path, help="write the outcomes to this file")
    parser.add_argument("--markdown", type=Path, help="write the report to this file")
    return parser.parse_args()


def _write(arguments: argparse.Namespace, outcomes: Sequence[Outcome], seconds: float) -> None:
    if arguments.json:
        report = {"seconds": round(seconds), "of": len(SABOTAGES), "outcomes": [asdict(each) for each in outcomes]}
        arguments.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    if arguments.remember:
        by = {each.name: each.by for each in outcomes if each.verdict is Verdict.KILLED}
        known = {name: test for name, test in {**noticed(), **by}.items() if name in BY_NAME}
        NOTICED.write_text(json.dumps(known, indent=1, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")
    if arguments.markdown:
        arguments.markdown.write_text(markdown(outcomes), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
