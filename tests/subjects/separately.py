"""Suites that run in a process with another application: applications are loaded when a process starts."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def run(application: str, *arguments: str) -> None:
    """Run pytest with the application, ``module:name``. Fails with its output if it fails, or has run nothing."""
    # The program under test may be another one than is installed.
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    environment = {**os.environ, "ISOLA_APPLICATIONS": application, "PYTHONPATH": path}
    for inherited in ("PYTEST_XDIST_WORKER", "PYTEST_CURRENT_TEST", "PYTEST_ADDOPTS"):
        environment.pop(inherited, None)
    command = [sys.executable, "-m", "pytest", "-q", "-x", *arguments]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-20_000:]
    assert " passed" in done.stdout
