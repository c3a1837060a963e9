"""Strategies are found by name, and each name belongs to one strategy."""

from importlib.metadata import EntryPoint, EntryPoints

import pytest

from isola_strategies import registry


def offer(monkeypatch: pytest.MonkeyPatch, **offered: str) -> None:
    """Make these the entry points of the installed packages. A trailing underscore of a name is removed."""
    points = EntryPoints(EntryPoint(name.rstrip("_"), value, registry.GROUP) for name, value in offered.items())
    monkeypatch.setattr(registry, "entry_points", lambda *, group: points.select(group=group))


def test_finds_the_strategies_of_this_package() -> None:
    found = registry.load("somebody")
    assert {"rls", "schema"} <= found.keys()
    assert all(strategy.name == name for name, strategy in found.items())


def test_two_strategies_of_one_name_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    offer(monkeypatch, rls="isola_strategies.rls:RowLevelSecurity", rls_="isola_strategies.schema:SchemaPerTenant")
    with pytest.raises(ValueError, match=r"two strategies are called 'rls'; the second is isola_strategies\.schema:"):
        registry.load("somebody")


def test_a_strategy_offered_under_another_name_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    offer(monkeypatch, moon="isola_strategies.rls:RowLevelSecurity")
    with pytest.raises(ValueError, match="offered as 'moon' but calls itself 'rls'"):
        registry.load("somebody")


def test_loaded_strategies_are_read_only() -> None:
    with pytest.raises(TypeError, match="does not support item assignment"):
        registry.load("somebody")["moon"] = registry.load("somebody")["rls"]  # type: ignore[index]  # that is the test
