"""Profiles: data files that define what to measure."""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from isola.errors import OperatorError
from isola.lab.population import OWN_TABLES
from isola.lab.scenario import Grid, Profile, Value

FILE = Path(__file__).with_name("profiles.toml")
OWN = "own"
"""In the place of a number of tables: those that the product has."""


def load(name: str, file: Path = FILE) -> Profile:
    """A profile by name. Raises OperatorError with the known names for an unknown one."""
    found = tomllib.loads(file.read_text(encoding="utf-8"))
    if name not in found:
        raise OperatorError(f"profile {name!r}: expected one of {', '.join(found)}")
    common = {key: value for key, value in found[name].items() if not isinstance(value, dict)}
    said = {key: {**common, **value} for key, value in found[name].items() if isinstance(value, dict)}
    parts = {key: [_grid(grid, value["rounds"]) for grid in value["grids"]] for key, value in said.items()}
    return Profile(name, parts, {key: float(value["seconds"]) for key, value in said.items()})


def chosen(profile: Profile, scenarios: Sequence[str], dimensions: Mapping[str, Sequence[int]]) -> Profile:
    """The profile's parts for ``scenarios`` (all if empty), with these values of dimensions instead of its own.

    Raises OperatorError for a scenario that is not in the profile, and for a dimension that none of them has.
    """
    unknown = [name for name in scenarios if name not in profile.parts]
    if unknown:
        raise OperatorError(
            f"scenario {unknown[0]!r}: expected one of the profile {profile.name}, {', '.join(profile.parts)}"
        )
    parts = {name: grids for name, grids in profile.parts.items() if not scenarios or name in scenarios}
    for dimension, values in dimensions.items():
        if values and not any(dimension in grid.values for grids in parts.values() for grid in grids):
            raise OperatorError(f"no scenario that is to be run has {dimension}")
    wanted = {dimension: tuple(values) for dimension, values in dimensions.items() if values}
    return replace(profile, parts={name: [_given(grid, wanted) for grid in grids] for name, grids in parts.items()})


def _grid(said: Mapping[str, Any], rounds: int) -> Grid:
    values = {name: _values(name, each) for name, each in said.items() if name != "rounds"}
    return Grid(int(said.get("rounds", rounds)), values)


def _values(dimension: str, values: Sequence[Value]) -> tuple[Value, ...]:
    if dimension == "tables":
        return tuple(OWN_TABLES if value == OWN else value for value in values)
    return tuple(values)


def _given(grid: Grid, wanted: Mapping[str, tuple[int, ...]]) -> Grid:
    return replace(grid, values={name: wanted.get(name, values) for name, values in grid.values.items()})
