"""What a run records of the product that it measures."""

import subprocess
from pathlib import Path

from isola.lab.machine import commit_of


def test_the_commit_is_that_of_the_product_and_not_of_a_checkout_around_its_environment(tmp_path: Path) -> None:
    def git(*arguments: str) -> None:
        who = "-c", "user.name=ada", "-c", "user.email=ada@example.org"
        subprocess.run(["git", "-C", str(tmp_path), *who, *arguments], check=True, capture_output=True)

    installed = tmp_path / "environment" / "machine.py"
    installed.parent.mkdir()
    installed.touch()
    assert commit_of(installed) == ""
    git("init")
    git("commit", "--allow-empty", "--message", "Somebody's project")
    assert commit_of(installed) == ""
    git("add", "--all")
    git("commit", "--message", "The product itself")
    assert commit_of(installed)
