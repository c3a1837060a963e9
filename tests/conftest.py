"""Fixtures of all tests, and which of the tests ``make test`` runs.

With TEST_IN_TURN set, tests of what is the same under every strategy run under one of them each, chosen by their names:
all but those of isolation and of reads. Tests of sharing and of families run under two of the four pairs of placements.
Without it, all run under all: ``make test ALL=1``, and ``make isolation``. With the value ``others``, all tests run
under one strategy each, or two pairs: those that the former leaves out.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from zlib import crc32

import pytest

from isola.testing.fixtures import TRIED

pytest_plugins = ["isola.testing.fixtures"]

ROOT = Path(__file__).parents[1]
UNDER_ONE_STRATEGY = (
    "tests/control",
    "tests/database",
    "tests/doctor",
    "tests/faults",
    "tests/http",
    "tests/identity",
    "tests/subjects",
    "tests/workers",
)
UNDER_TWO_PAIRS = ("app/isola/testing/isolation/sharing", "app/isola/testing/isolation/families")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not os.environ.get("TEST_IN_TURN") or len(TRIED) == 1:
        return
    left_out = [item for item in items if not _is_its_turn(item)]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if _is_its_turn(item)]


def _is_its_turn(item: pytest.Item) -> bool:
    parameters = item.callspec.params if isinstance(item, pytest.Function) and hasattr(item, "callspec") else {}
    # All cases of a test have the same number.
    number = crc32(item.nodeid.partition("[")[0].encode())
    strategy, pair = parameters.get("strategy"), parameters.get("placements", parameters.get("placed_above"))
    others = os.environ["TEST_IN_TURN"] == "others"
    if strategy in TRIED and (others or _is_in(item, UNDER_ONE_STRATEGY)):
        return bool(TRIED[(number + others) % len(TRIED)] == strategy)
    if isinstance(pair, tuple) and set(pair) <= set(TRIED) and _is_in(item, UNDER_TWO_PAIRS):
        # The two that have one strategy on both sides, or the two others.
        return (number % 2 == others) == bool(pair[0] == pair[1])
    return True


def _is_in(item: pytest.Item, folders: Sequence[str]) -> bool:
    return any(item.path.is_relative_to(ROOT / folder) for folder in folders)
