"""The lab on the tables of an application: generated rows in all homes, and its operations under every strategy.

The applications of a process are fixed at its start, so these tests start processes.
"""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from isola.testing.fixtures import STRATEGIES, Cluster

ROOT = Path(__file__).parents[3]
HUTS = """
from pathlib import Path
from isola.subjects import Application, Subject, column

class Hut(Subject, name="hut", prefix="hut"):
    name: str = column(max_length=20)
    checks = {"tall": "length(name) > 1000"}

application = Application(name="huts", subjects=(Hut,), migrations=Path(__file__).parent / "history")
"""
BOOKS = """
from pathlib import Path
from isola.subjects import Application, Subject, column

class Book(Subject, name="book", prefix="bok"):
    title: str = column(max_length=100, min_length=20)
    text: str | None = column(max_length=500)
    searched = ("title", "text")
    searched_as = "english"

application = Application(name="books", subjects=(Book,), migrations=Path(__file__).parent / "history")
"""


@pytest.fixture(scope="module")
def found(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Any]:
    package = ROOT / "examples" / "agents"
    environment = {
        **os.environ,
        "ISOLA_APPLICATIONS": "isola_agents:application",
        "PYTHONPATH": os.pathsep.join([str(package), str(ROOT)]),
    }
    done = subprocess.run(
        [sys.executable, "-m", "tests.lab.running.on_an_application", cluster.url,
         str(tmp_path_factory.mktemp("lab")), "agents"],
        check=False, env=environment, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    answer: Mapping[str, Any] = json.loads(done.stdout)
    return answer


def test_residents_have_equal_generated_rows_under_every_strategy(found: Mapping[str, Any]) -> None:
    first, *others = (found["rows"][strategy] for strategy in STRATEGIES)
    assert all(other == first for other in others)
    tables = found["tables"]
    # Of 12 rows each on average, by Zipf's law: 16 and 8.
    agents = [len(first[number]) for number in range(len(first)) if tables[number % len(tables)] == "agents"]
    assert agents == [16, 8]
    assert all(first)


def test_the_usual_operations_are_measured_under_every_strategy(found: Mapping[str, Any]) -> None:
    measured = found["measured"]
    for name in (
        "read Agent",
        "read Agents",
        "read AgentsWithPatterns",
        "read SearchAgents",
        "write CreateAgent",
        "write UpdateAgent",
    ):
        assert measured[name].keys() == set(STRATEGIES), name
        assert all(values["throughput_per_s"] > 0 for values in measured[name].values())


def test_operations_with_own_statements_are_measured(found: Mapping[str, Any]) -> None:
    measured = found["measured"]
    assert {values["statements_count"] > 0 for values in measured["memory None"].values()} == {True}
    for name in ("policies Agents", "switching Agents"):
        assert measured[name].keys() == set(STRATEGIES)


def test_generated_rows_of_searched_tables_have_their_words(cluster: Cluster, tmp_path: Path) -> None:
    done = on_own(cluster, tmp_path, "books", BOOKS, "filled")

    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout)
    assert found.keys() == set(STRATEGIES)
    for residents in found.values():
        for kept, made in residents:
            assert kept == made
            # Of at least eight rows.
            assert len({row.partition(" ")[0] for row in kept}) >= 8


def test_a_condition_that_generated_rows_break_is_named_with_its_table(cluster: Cluster, tmp_path: Path) -> None:
    done = on_own(cluster, tmp_path, "huts", HUTS)

    assert done.returncode != 0
    message = "huts: generated rows break the rule ck_huts_tall: expected the subject to have samples that keep it"
    assert message in done.stderr


def on_own(
    cluster: Cluster, folder: Path, name: str, application: str, *arguments: str
) -> subprocess.CompletedProcess[str]:
    """The lab on an application of one module, with a history of its own."""
    (folder / f"{name}.py").write_text(application)
    (folder / "history").mkdir()
    environment = {
        **os.environ,
        "ISOLA_APPLICATIONS": f"{name}:application",
        "PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)]),
    }
    revision = [str(Path(sys.executable).with_name("isola")), "revision", "--application", name, "-m", "First"]
    subprocess.run(revision, check=True, env=environment, capture_output=True)
    return subprocess.run(
        [sys.executable, "-m", "tests.lab.running.on_an_application", cluster.url, str(folder), name, *arguments],
        check=False, env=environment, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
