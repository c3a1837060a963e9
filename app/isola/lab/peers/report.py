"""Summary of the measurements: medians over the rounds, ratios, and whether each bar is met."""

import os
import platform
import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import psutil
from rich.console import Console
from rich.table import Table

from isola.lab.peers.measure import Sample
from isola.lab.peers.operations import HERE, OPERATIONS
from isola.lab.peers.processes import HANDWRITTEN, IN_SCHEMAS, ISOLA, NODE, PEERS, POSTGRAPHILE, STRAWBERRY

PACKAGES = ("strawberry-graphql", "graphql-core", "starlette", "uvicorn", "uvloop", "asyncpg", "sqlalchemy", "pyjwt")
READS = tuple(operation.name for operation in OPERATIONS if not operation.writes)
Rounds = Mapping[str, Mapping[str, list[Sample]]]
"""By operation and peer: a sample for each round."""


@dataclass(frozen=True, slots=True)
class Bar:
    """A target: at least ``figure`` if ``least``, otherwise at most."""

    what: str
    figure: float
    reached: float
    least: bool

    @property
    def met(self) -> bool:
        return self.reached >= self.figure if self.least else self.reached <= self.figure


@dataclass(frozen=True, slots=True)
class Comparison:
    """The target ratio between two peers: a figure of ``Sample``, and the bar for each operation."""

    what: str
    of: str
    ours: str
    theirs: str
    bars: Mapping[str, float]
    least: bool = False
    paced: bool = False
    """Whether it is asked at equal load."""


EACH = tuple(operation.name for operation in OPERATIONS)
ASKED = (
    Comparison(
        "requests/s over PostGraphile's",
        "rate",
        ISOLA.name,
        POSTGRAPHILE.name,
        {"Resource": 2.5, "Resources": 2.5, "ResourcesWithSpans": 1.8, "CreateResource": 1.5},
        least=True,
    ),
    Comparison("server CPU over PostGraphile's", "server", ISOLA.name, POSTGRAPHILE.name, dict.fromkeys(READS, 1 / 3)),
    Comparison(
        "requests/s over Strawberry's",
        "rate",
        ISOLA.name,
        STRAWBERRY.name,
        {"Resources": 25, "ResourcesWithSpans": 25},
        least=True,
    ),
    Comparison("server CPU over the limit's", "server", ISOLA.name, HANDWRITTEN.name, dict.fromkeys(EACH, 1.5)),
    Comparison(
        "CPU of both sides over the limit's",
        "cpu",
        ISOLA.name,
        HANDWRITTEN.name,
        {"Resource": 1.3, "Resources": 1.2, "ResourcesWithSpans": 1.15, "SearchResources": 1.25},
    ),
    Comparison(
        "CPU of both sides, schema over rls",
        "cpu",
        IN_SCHEMAS.name,
        ISOLA.name,
        {
            "Resource": 1.15,
            "Resources": 1.1,
            "ResourcesWithSpans": 1.1,
            "SearchResources": 1.1,
            "CreateResource": 1.15,
        },
    ),
    Comparison(
        "p99 over PostGraphile's, equal load", "p99", ISOLA.name, POSTGRAPHILE.name, dict.fromkeys(EACH, 1), paced=True
    ),
)


def bars(rounds: Rounds, equal_load: Rounds) -> Iterator[Bar]:
    """Every bar whose peers were measured, with the result: the median of the rounds' ratios."""
    for asked in ASKED:
        for operation, figure in asked.bars.items():
            samples = (equal_load if asked.paced else rounds).get(operation, {})
            pairs = zip(samples.get(asked.ours, ()), samples.get(asked.theirs, ()), strict=False)
            ratios = [getattr(ours, asked.of) / getattr(theirs, asked.of) for ours, theirs in pairs]
            if ratios:
                yield Bar(f"{operation}: {asked.what}", figure, float(median(ratios)), asked.least)


def show(console: Console, rounds: Rounds, equal_load: Rounds) -> None:
    """Print the tables."""
    for operation in [each for each in OPERATIONS if each.name in rounds]:
        table = Table(title=f"{operation.name}: {operation.title}", title_justify="left", box=None, pad_edge=False)
        table.add_column("")
        for column in (
            "requests/s",
            "± ",
            "median ms",
            "p99 ms",
            "server µs",
            "PostgreSQL µs",
            "generator µs",
            "elsewhere",
        ):
            table.add_column(column, justify="right")
        table.add_column("Isola is", justify="right")
        table.add_column("p99 ms, equal load", justify="right")
        ours = rounds[operation.name].get(ISOLA.name, [])
        for peer in PEERS:
            if samples := rounds[operation.name].get(peer.name):
                at = _medians(samples)
                faster = median(a.rate / b.rate for a, b in zip(ours, samples, strict=True)) if ours else 1.0
                paced = equal_load[operation.name].get(peer.name)
                table.add_row(
                    peer.title,
                    f"{at.rate:,.0f}",
                    f"{_spread(samples, lambda each: each.rate):.0%}",
                    f"{at.median:.2f}",
                    f"{at.p99:.2f}",
                    f"{at.server:,.0f}",
                    f"{at.postgresql:,.0f}",
                    f"{at.generator:,.0f}",
                    f"{at.elsewhere:.0%}",
                    "" if peer is ISOLA else f"{faster:.2f} x",
                    f"{_medians(paced).p99:.2f}" if paced else "",
                )
        console.print(table, "")
    table = Table("bar", "asked", "reached", "met", title="Bars", title_justify="left", box=None, pad_edge=False)
    for bar in bars(rounds, equal_load):
        sign = "≥" if bar.least else "≤"
        table.add_row(bar.what, f"{sign} {bar.figure:.2f}", f"{bar.reached:.2f}", "yes" if bar.met else "[red]no")
    console.print(table)


def as_json(rounds: Rounds, equal_load: Rounds, settings: Mapping[str, Any]) -> dict[str, Any]:
    """All results, including each round's samples."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": _machine(),
        "versions": _versions(),
        "settings": settings,
        "bars": [
            {"what": bar.what, "figure": bar.figure, "least": bar.least, "reached": bar.reached, "met": bar.met}
            for bar in bars(rounds, equal_load)
        ],
        "closed_loop": _plain(rounds),
        "equal_load": _plain(equal_load),
    }


def _plain(rounds: Rounds) -> dict[str, Any]:
    return {
        operation: {
            peer: {"medians": _dict(_medians(samples)), "rounds": [_dict(each) for each in samples]}
            for peer, samples in peers.items()
            if samples
        }
        for operation, peers in rounds.items()
    }


def _dict(of: Sample) -> dict[str, float]:
    return {field.name: float(f"{getattr(of, field.name):.5g}") for field in fields(Sample)}


def _medians(samples: list[Sample]) -> Sample:
    return Sample(**{field.name: median(getattr(each, field.name) for each in samples) for field in fields(Sample)})


def _spread(samples: list[Sample], of: Callable[[Sample], float]) -> float:
    """Half of the range between the lowest and the highest, as a fraction of the median."""
    values = [of(each) for each in samples]
    return (max(values) - min(values)) / 2 / median(values)


def _machine() -> dict[str, Any]:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    model = next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.processor())
    return {
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "processor": model,
        "cores": os.cpu_count(),
        "memory_bytes": psutil.virtual_memory().total,
    }


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}}
    if NODE.exists():
        found["node"] = _output_of([NODE, "--version"])
        script = "console.log(JSON.parse(fs.readFileSync('node_modules/postgraphile/package.json')).version)"
        found["postgraphile"] = _output_of([NODE, "-e", script])
    return found


def _output_of(command: list[str | Path]) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True, cwd=HERE).stdout.strip()
