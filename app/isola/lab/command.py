"""A complete run: the plan, the check of available resources, and the measurements."""

import asyncio
import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from shutil import rmtree
from tempfile import TemporaryDirectory
from typing import Any

import psutil
import uvloop
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from isola.database import embedded
from isola.errors import OperatorError
from isola.lab import cluster, machine, profiles, refusal, runner, scenarios, serving
from isola.lab.applied import Applied, applied
from isola.lab.cluster import Cluster
from isola.lab.laboratory import Laboratory
from isola.lab.peers import data
from isola.lab.population import Size
from isola.lab.record import Record, now
from isola.lab.runner import Step
from isola.lab.scenario import Profile, strategies
from isola.subjects.applications import BUILT_IN

err = Console(stderr=True)


# As in app/isola/lab/peers. The servers of all subjects hold their connections at the same time.
POSTGRESQL = {**data.POSTGRESQL, "max_connections": "400"}


@dataclass(frozen=True)
class Asked:
    """Options of the command line. The profile supplies the values that are not given."""

    profile: str
    scenarios: Sequence[str] = ()
    strategies: Sequence[str] = ()
    dimensions: Mapping[str, Sequence[int]] = field(default_factory=dict)
    database_url: str | None = None
    output: Path | None = None
    force: bool = False
    seed: int = 1
    application: str = BUILT_IN
    subject: str | None = None
    operations: Path | None = None

    @cached_property
    def applied(self) -> Applied | None:
        """The application to measure; None for the built-in one. Raises OperatorError as ``applied``."""
        return applied(self.application, self.subject, self.operations)

    @cached_property
    def chosen(self) -> Profile:
        """What to measure. Raises OperatorError for unknown names."""
        profile = profiles.load(self.profile)
        return profiles.chosen(
            self.applied.profile(profile) if self.applied else profile, self.scenarios, self.dimensions
        )


def run(asked: Asked, directory: Path) -> tuple[Path, int]:
    """Run the measurements. Returns the file of the results, and how many measurements failed.

    ``directory`` is for the lab's own PostgreSQL, and for results if ``asked`` names no file. Measurements already in
    the file are skipped. Raises OperatorError, before anything is created, for a run that is not possible: unknown
    names, sizes that do not fit, a database that contains data.
    """
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    steps = planned(asked)
    with ExitStack() as held:
        if asked.database_url is None:
            address = held.enter_context(_own_server(directory / "postgresql"))
        else:
            address = asked.database_url
            found = asyncio.run(cluster.holds_data(address))
            if found is not None and not asked.force:
                raise OperatorError(
                    f"the database {found}. The lab would work in databases of its own beside it and load the same "
                    "server: --force if that is meant"
                )
        servers = Path(held.enter_context(TemporaryDirectory(prefix="isola-lab-")))
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as loop:
            return loop.run(_measured(asked, steps, address, directory, servers))


def planned(asked: Asked) -> Sequence[Step]:
    """All requested measurements. Raises OperatorError for unknown names."""
    unknown = set(asked.strategies) - set(strategies())
    if unknown:
        raise OperatorError(f"strategy {min(unknown)!r}: expected one of {', '.join(strategies())}")
    left_out = set(strategies()) - set(asked.strategies) if asked.strategies else set()
    return runner.plan(scenarios.load(), asked.chosen, left_out)


async def _measured(
    asked: Asked, steps: Sequence[Step], address: str, directory: Path, servers: Path
) -> tuple[Path, int]:
    embedded_here = asked.database_url is None
    left_out = {
        subject: reason
        for subject in dict.fromkeys(step.subject for step in steps)
        if (reason := serving.left_out(subject, embedded=embedded_here)) is not None
    }
    for subject, reason in left_out.items():
        err.print(f"{subject} is left out: {reason}", markup=False, highlight=False)
    steps = [step for step in steps if step.subject not in left_out]
    async with cluster.entered(address, lasting=not embedded_here) as ground:
        postgresql = await machine.postmaster(ground.maintenance)
        described = await _described(asked, ground, left_out)
        versions = described["versions"]
        output = asked.output or directory / f"{_file(asked)}-{versions.get('commit') or versions['isola']}.jsonl"
        record = Record(output, described)
        try:
            waiting = [step for step in steps if step.identity not in record.finished]
            own = directory if embedded_here else None
            there = await refusal.room(ground.maintenance, local=postgresql is not None, directory=own)
            refusal.refuse((step.needs for step in waiting), there)
            failed = await _run(asked, waiting, record, ground, postgresql, servers)
        finally:
            record.close()
    return output, failed


async def _run(
    asked: Asked,
    waiting: Sequence[Step],
    record: Record,
    ground: Cluster,
    postgresql: psutil.Process | None,
    servers: Path,
) -> int:
    making = {size: refusal.making_seconds(size) for step in waiting for size in step.needs.populations}
    total = sum(making.values()) + sum(step.expected_seconds for step in waiting)
    err.print(
        f"{len(waiting)} measurements and {len(making)} populations, about {timedelta(seconds=round(total))}; "
        f"{len(record.finished)} are in {record.path} already",
        highlight=False,
    )
    with _bar() as bar:
        task = bar.add_task("", total=total)

        def doing(what: str) -> None:
            bar.update(task, description=what)

        def made(size: Size) -> None:
            bar.update(task, advance=making.get(size, 0))

        def done(seconds: float) -> None:
            bar.update(task, advance=seconds)

        async with Laboratory(
            ground,
            directory=servers,
            seed=asked.seed,
            postgresql=postgresql,
            operations=asked.applied.operations if asked.applied else None,
            doing=doing,
            made=made,
        ) as laboratory:
            return await runner.run(laboratory, waiting, record, machine.Elsewhere(postgresql), doing, done)


async def _described(asked: Asked, ground: Cluster, left_out: Mapping[str, str]) -> dict[str, Any]:
    return {
        "id": ground.run,
        "started": now(),
        "profile": asked.profile,
        "versions": machine.versions(await ground.maintenance.fetchval("SHOW server_version")),
        "machine": machine.described(),
        "settings": await machine.settings(ground.maintenance),
        "seed": asked.seed,
        "left_out": {**left_out, **(asked.applied.left_out if asked.applied else {})},
        **({"application": asked.applied.described(asked.chosen, asked.seed)} if asked.applied else {}),
    }


def _file(asked: Asked) -> str:
    return asked.profile if asked.application == BUILT_IN else f"{asked.application}-{asked.profile}"


@contextmanager
def _own_server(where: Path) -> Iterator[str]:
    """The lab's own PostgreSQL. Starts empty, even after a run that died, and is removed at the end."""
    if embedded.address(where) is not None:
        raise OperatorError(f"another run of the lab is using {where}: expected to run alone on this machine")
    rmtree(where, ignore_errors=True)
    try:
        with embedded.running(where, POSTGRESQL) as address:
            yield address
    finally:
        rmtree(where, ignore_errors=True)


def _bar() -> Progress:
    return Progress(
        BarColumn(bar_width=20),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.description}", markup=False),
        console=err,
    )
