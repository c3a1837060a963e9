"""The lab on the tables of an application, in a process that has it: ``python -m tests.lab.running.on_an_application``.

Takes an owner's address, a directory, and an application's name; prints what was found as JSON. With a further
argument, it fills the homes and measures nothing.
"""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

from sqlalchemy import select, text

from isola.installed import APPLICATIONS
from isola.lab import cluster, scenarios
from isola.lab.applied import Applied, applied
from isola.lab.laboratory import Laboratory
from isola.lab.population import Population
from isola.lab.scenario import Grid, Point, Profile, Value, strategies
from isola.subjects import search

ROWS = 12
GRID: Mapping[str, tuple[Value, ...]] = {"tenants": (2,), "rows": (ROWS,), "skew": ("zipf",), "connections": (2,)}
LIKE = {"read": "Resource", "write": "CreateResource", "policies": "Resources", "switching": "Resources"}


def points(about: Applied, name: str) -> list[Point]:
    """The points of a scenario, at its smallest."""
    values: dict[str, tuple[Value, ...]] = {**GRID, **({"operation": (LIKE[name],)} if name in LIKE else {})}
    profile = about.profile(Profile("smallest", {name: [Grid(1, values)]}, {name: 0.1}))
    return list(scenarios.load()[name].points(profile))


async def rows(about: Applied, population: Population) -> list[list[list[str]]]:
    """The rows of each resident in the application's tables, as read by tenant traffic."""
    found = []
    async with await population.place.tenants() as tenants:
        for resident in population.residents:
            for table in APPLICATIONS[about.name].tables:
                async with tenants.transaction(resident.tenant) as work:
                    seen = await work.rows(select(*table.columns).order_by(*table.primary_key.columns))
                found.append([[*map(str, row.values())] for row in seen])
    return found


async def found(laboratory: Laboratory, about: Applied) -> Mapping[str, Any]:
    measured: dict[str, Any] = {}
    kept: dict[str, Any] = {}
    for name in ("read", "memory", "policies", "switching", "write"):
        scenario = scenarios.load()[name]
        scenario.points(Profile("smallest", {name: [Grid(1, {})]}, {name: 0.1}))
        for point in points(about, name):
            for strategy in strategies():
                values = await scenario.measure(laboratory, point, strategy, 0)
                measured.setdefault(f"{name} {dict(point.dimensions).get('operation')}", {})[strategy] = dict(values)
    for strategy, population in (await populations(laboratory, about)).items():
        kept[strategy] = await rows(about, population)
    return {"measured": measured, "rows": kept, "tables": [each.name for each in APPLICATIONS[about.name].tables]}


async def populations(laboratory: Laboratory, about: Applied) -> Mapping[str, Population]:
    """The population of each strategy."""
    sizes = scenarios.load()["read"].needs(points(about, "read")[0]).populations
    return {size.strategy: await laboratory.populated(size) for size in sizes}


async def words(laboratory: Laboratory, about: Applied) -> Mapping[str, Any]:
    """By strategy, for each resident and searched table: the words that are kept, and those of the rows."""
    return {
        strategy: [each async for each in _words(about, population)]
        for strategy, population in (await populations(laboratory, about)).items()
    }


async def _words(about: Applied, population: Population) -> AsyncIterator[list[list[str]]]:
    async with await population.place.tenants() as tenants:
        for resident in population.residents:
            for table in APPLICATIONS[about.name].tables:
                kept = search.words_of(table)
                if kept is None:
                    continue
                async with tenants.transaction(resident.tenant) as work:
                    stored = await work.rows(select(kept.table.c[kept.key], kept.table.c.word))
                    made = await work.rows(text(search.of_rows(table, f"{table.name} r")))
                yield [sorted(" ".join(map(str, row.values())) for row in found) for found in (stored, made)]


async def main(address: str, directory: Path, name: str, *, filled: bool) -> None:
    about = applied(name, None, None)
    if about is None:
        raise SystemExit("expected an application")
    async with (
        cluster.entered(address, lasting=True) as ground,
        Laboratory(ground, directory=directory, seed=1, postgresql=None, operations=about.operations) as laboratory,
    ):
        json.dump(await (words if filled else found)(laboratory, about), sys.stdout)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[2]), sys.argv[3], filled=len(sys.argv) > 4))
