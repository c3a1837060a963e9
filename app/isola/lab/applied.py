"""A run on the tables of an application: its operations, and a profile adapted to it."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from isola.errors import OperatorError
from isola.installed import APPLICATIONS
from isola.lab import documents
from isola.lab.declared import counted
from isola.lab.filling import others
from isola.lab.operations import Operation, most_connected, usual
from isola.lab.population import Size
from isola.lab.scenario import APPLICATION, Grid, Profile
from isola.subjects.applications import BUILT_IN
from isola.subjects.subject import Subject

OPERATION = "operation"
OF_NOUNS = frozenset({"affinity", "indexes", "partner", "provisioning", "removal", "restore", "statistics", "vacuum"})
"""Scenarios about the nouns that ship: they share, alter or add to resources."""
ASKED_ALL = {"read": False, "write": True}
"""Scenarios that ask for everything that reads, or that writes: the application's own operations, too."""


@dataclass(frozen=True, slots=True)
class Applied:
    """``operations`` are all, by name. ``likes`` maps operations in profiles to the similar operations of ``subject``.

    ``left_out`` lists those without an equivalent, with the reason.
    """

    name: str
    subject: type[Subject]
    operations: Mapping[str, Operation]
    likes: Mapping[str, str]
    left_out: Mapping[str, str]

    def profile(self, profile: Profile) -> Profile:
        """The profile with points of this application, without the scenarios that need the built-in tables."""
        parts = {
            name: [made for number, grid in enumerate(grids) if (made := self._grid(name, grid, first=number == 0))]
            for name, grids in profile.parts.items()
            if name not in OF_NOUNS
        }
        return replace(profile, parts={name: grids for name, grids in parts.items() if grids})

    def _grid(self, scenario: str, grid: Grid, *, first: bool) -> Grid | None:
        values = {APPLICATION: (self.name,), **grid.values}
        if OPERATION in values:
            chosen = [self.likes[str(like)] for like in values[OPERATION] if like in self.likes]
            if first and scenario in ASKED_ALL:
                chosen = [name for name, each in self.operations.items() if each.writes is ASKED_ALL[scenario]]
            if not chosen:
                return None
            values[OPERATION] = tuple(chosen)
        return Grid(grid.rounds, values)

    def described(self, profile: Profile, seed: int) -> Mapping[str, Any]:
        """For the results: the name, and a tenant's row count in each table for each requested number of rows."""
        asked = {int(rows) for grids in profile.parts.values() for grid in grids for rows in grid.values["rows"]}
        return {
            "name": self.name,
            "subject": self.subject.declaration.name,
            "rows": {str(rows): counted(_of(self.name, rows), others(rows), seed) for rows in sorted(asked)},
        }


def applied(name: str, subject: str | None, folder: Path | None) -> Applied | None:
    """What to run for an application; None for the built-in one. Reads its own operations from ``folder``.

    Raises OperatorError for an unknown application or subject, with the known names, and for invalid operations.
    """
    if name not in APPLICATIONS:
        raise OperatorError(f"application {name!r}: expected one of {', '.join(APPLICATIONS)}")
    if name == BUILT_IN:
        if subject is not None or folder is not None:
            raise OperatorError("a subject and a folder of operations are of an application: expected --application")
        return None
    application = APPLICATIONS[name]
    known = {each.declaration.name: each for each in application.subjects}
    if subject is not None and subject not in known:
        raise OperatorError(f"subject {subject!r}: expected one of {', '.join(known)}")
    chosen = known[subject] if subject is not None else most_connected(application.subjects)
    if folder is not None and not folder.is_dir():
        raise OperatorError(f"{folder}: expected a folder with operations")
    own = documents.read(folder or application.migrations.parent / "operations")
    found = usual(chosen)
    both = own.keys() & {each.name for each in found.operations.values()}
    if both:
        raise OperatorError(f"the operation {min(both)} follows from the declaration already: expected another name")
    return Applied(
        name,
        chosen,
        {**{each.name: each for each in found.operations.values()}, **own},
        {like: each.name for like, each in found.operations.items()},
        found.left_out,
    )


def _of(name: str, rows: int) -> Size:
    return Size(BUILT_IN, 1, rows, application=name)
