"""Missing prerequisites of a run are reported before anything is created."""

import re

import pytest

from isola.errors import OperatorError
from isola.lab import command, profiles, refusal
from isola.lab.command import Asked
from isola.lab.population import OWN_TABLES, Size
from isola.lab.refusal import Room
from isola.lab.scenario import Needs

PLENTY = Room(1 << 50, 1000, 1 << 50)
MANY = Needs(connections=64, memory_bytes=4 << 30, populations=(Size("schema", 5000, 50),))


def test_a_run_that_fits_is_not_refused() -> None:
    refusal.refuse([MANY], PLENTY)


def test_unknown_room_is_not_refused() -> None:
    refusal.refuse([MANY], Room(None, 1000, None))


@pytest.mark.parametrize(
    ("room", "message"),
    [
        (Room(1 << 30, 1000, 1 << 50), r"1,024 MiB of disk are free; this run needs [\d,]{5,} MiB"),
        (Room(1 << 50, 1000, 1 << 30), "1,024 MiB of memory are free; this run needs 4,096 MiB"),
        (Room(1 << 50, 30, 1 << 50), "30 connections are left of max_connections; this run needs 72"),
    ],
)
def test_a_run_that_does_not_fit_is_refused_with_both_figures(room: Room, message: str) -> None:
    with pytest.raises(OperatorError, match=f"^{message}$"):
        refusal.refuse([MANY], room)


def test_a_population_that_points_share_is_counted_once() -> None:
    needed = refusal.disk_bytes(MANY.populations[0]) * refusal.WRITTEN
    refusal.refuse([MANY, MANY, MANY], Room(round(needed) + 1, 1000, 1 << 50))


@pytest.mark.parametrize(
    ("size", "message"),
    [
        (Size("schema", 10, 10, tables=2), f"2 tables: expected at least {OWN_TABLES}"),
        (Size("papyrus", 10, 10), "strategy 'papyrus': expected one of"),
    ],
)
def test_a_population_that_cannot_be_is_refused(size: Size, message: str) -> None:
    with pytest.raises(OperatorError, match=re.escape(message)):
        refusal.refuse([Needs(populations=(size,))], PLENTY)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (Asked("slow"), "profile 'slow': expected one of quick, standard, full"),
        (Asked("quick", scenarios=["reed"]), "scenario 'reed': expected one of the profile quick, "),
        (Asked("quick", strategies=["papyrus"]), "strategy 'papyrus': expected one of"),
        (Asked("quick", application="papyrus"), "application 'papyrus': expected one of isola"),
        (Asked("quick", scenarios=["cold"], dimensions={"connections": [4]}), "no scenario that is to be run has conn"),
    ],
)
def test_names_that_there_are_not_are_refused(asked: Asked, message: str) -> None:
    with pytest.raises(OperatorError, match=f"^{re.escape(message)}"):
        command.planned(asked)


@pytest.mark.parametrize("name", ["quick", "standard", "full"])
def test_every_profile_can_be_planned(name: str) -> None:
    steps = command.planned(Asked(name))
    assert {step.scenario.name for step in steps} == set(profiles.load(name).parts)
    assert all(step.expected_seconds > 0 for step in steps)
    refusal.refuse((step.needs for step in steps), PLENTY)


def test_given_dimensions_override_the_profile() -> None:
    steps = command.planned(Asked("quick", scenarios=["read"], strategies=["rls"], dimensions={"tenants": [7]}))
    assert {step.point.number("tenants") for step in steps} == {7}
    assert {step.subject for step in steps} == {"rls", "none", "postgraphile"}
    assert {size.strategy for step in steps for size in step.needs.populations} == {"rls", "none"}
