"""What an application's author sees of the suite."""

import os
import subprocess
import sys
from pathlib import Path

from isola.shipped import shipped

TEST = (shipped("template") / "package/tests/test_isolation.py.txt").read_text(encoding="utf-8")


def test_the_suite_prints_its_progress_from_a_worker_of_pytest_too(tmp_path: Path) -> None:
    # No tests at all, as the suite takes many minutes.
    test = tmp_path / "test_isolation.py"
    test.write_text(TEST.replace('"-n", "2"', '"--ignore-glob=*test_*"'), encoding="utf-8")
    finished = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-c", "/dev/null", "--rootdir", tmp_path, test, "-n", "1"],
        capture_output=True,
        text=True,
        env={**os.environ, "ISOLA_APPLICATIONS": ""},
        check=False,
    )
    printed = finished.stdout + finished.stderr
    assert finished.returncode == 1
    assert "no tests ran" in printed
    assert "direct: failed" in printed
