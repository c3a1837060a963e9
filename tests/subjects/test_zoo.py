"""Every feature of declarations, tested on an application made for these tests.

Applications are loaded when a process starts, so the suite runs in a separate process.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SUITE = "tests/subjects/zoo/suite.py"
UPSERTS = "tests/subjects/zoo/upserts.py"
ISOLATION = "app/isola/testing/isolation"
VISIBILITY = f"{ISOLATION}/test_visibility.py"
PARTS = {
    "declarations": (UPSERTS, SUITE),
    "visibility": (VISIBILITY, "-k", "not pair"),
    "pairs": (VISIBILITY, "-k", "pair"),
    "order": (f"{ISOLATION}/test_order_of_conditions.py", "-k", "does_not_reveal"),
}


@pytest.mark.parametrize("part", PARTS)
def test_all_that_declarations_give(part: str) -> None:
    # The program under test may be another one than is installed.
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    environment = {**os.environ, "ISOLA_APPLICATIONS": "tests.subjects.zoo:application", "PYTHONPATH": path}
    for inherited in ("PYTEST_XDIST_WORKER", "PYTEST_CURRENT_TEST", "PYTEST_ADDOPTS"):
        environment.pop(inherited, None)
    command = [sys.executable, "-m", "pytest", "-q", "-x", *PARTS[part]]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-20_000:]
    assert " passed" in done.stdout
