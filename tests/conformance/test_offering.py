"""A strategy that is not installed is available in the run that tests it, and only there."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from isola.errors import OperatorError
from isola.testing.conformance import offered
from isola_strategies import registry

ROOT = Path(__file__).parents[2]
EXAMPLE = "examples.cells.strategy:Cells"


def there(environment: dict[str, str]) -> list[str]:
    """The strategies that a new process finds."""
    command = [sys.executable, "-c", "from isola_strategies import registry; print(*sorted(registry.load('login')))"]
    return subprocess.run(
        command, cwd=ROOT, env={**os.environ, **environment}, check=True, capture_output=True, text=True
    ).stdout.split()


def test_it_is_found_beside_the_installed_ones_and_is_the_only_one_tried() -> None:
    installed = sorted(registry.load("login"))
    with offered(EXAMPLE) as environment:
        assert there(environment) == sorted([*installed, "cells"])
        assert environment["TEST_STRATEGY"] == "cells"
    assert there({}) == installed


def test_one_that_is_installed_can_be_tried_alone() -> None:
    with offered("isola_strategies.rls:RowLevelSecurity") as environment:
        assert there(environment) == sorted(registry.load("login"))
        assert environment["TEST_STRATEGY"] == "rls"


def test_one_that_has_the_name_of_another_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("examples.cells.strategy.Cells.name", "rls")
    with pytest.raises(OperatorError, match="is called 'rls' as well"), offered(EXAMPLE):
        pytest.fail("it was offered")
