"""Node.js programs, installed in their folders at their locked versions."""

import fcntl
import os
import shutil
import subprocess
from pathlib import Path
from typing import NoReturn

import pytest


def node(folder: Path) -> str:
    """The path of Node.js, after installing the packages of a folder's ``package-lock.json``.

    Skips the test where that cannot be done, but on CI it must be.
    """
    program, npm = shutil.which("node"), shutil.which("npm")
    if program is None or npm is None:
        _missing("Node.js and npm are not installed")
    lock, marker = folder / "package-lock.json", folder / "node_modules" / ".package-lock.json"
    # Tests that run in parallel install it once.
    with lock.open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        if not marker.exists() or marker.stat().st_mtime < lock.stat().st_mtime:
            command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=240)
            if done.returncode != 0:
                _missing(f"npm could not install what {folder.name} needs: {done.stderr.strip()}")
    return program


def _missing(reason: str) -> NoReturn:
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)
