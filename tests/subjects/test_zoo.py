"""Every feature of declarations, tested on an application made for these tests.

Applications are loaded when a process starts, so the suite runs in a separate process.
"""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_all_that_declarations_give() -> None:
    environment = {**os.environ, "ISOLA_APPLICATIONS": "tests.subjects.zoo:application", "PYTHONPATH": str(ROOT)}
    for inherited in ("PYTEST_XDIST_WORKER", "PYTEST_CURRENT_TEST", "PYTEST_ADDOPTS"):
        environment.pop(inherited, None)
    visibility = "app/isola/testing/isolation/test_visibility.py"
    command = [sys.executable, "-m", "pytest", "-q", "tests/subjects/zoo/suite.py", visibility]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-20_000:]
    assert " passed" in done.stdout
