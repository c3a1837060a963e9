"""The questions of the lab, one module each."""

import pkgutil
from collections.abc import Mapping
from importlib import import_module
from inspect import isclass
from typing import Any

from isola.lab.scenario import Scenario


def load() -> Mapping[str, Scenario]:
    """The scenario of each module here, by name. Raises ValueError if a module does not have exactly one."""
    found: dict[str, Scenario] = {}
    for module in pkgutil.iter_modules(__path__):
        loaded = import_module(f"{__name__}.{module.name}")
        made: list[type[Any]] = [
            each
            for each in vars(loaded).values()
            if isclass(each) and each.__module__ == loaded.__name__ and hasattr(each, "measure")
        ]
        if len(made) != 1:
            raise ValueError(f"{loaded.__name__}: expected one scenario, found {len(made)}")
        scenario: Scenario = made[0]()
        if scenario.name in found:
            raise ValueError(f"two scenarios are called {scenario.name!r}")
        found[scenario.name] = scenario
    return found
