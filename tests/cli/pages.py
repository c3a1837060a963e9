"""The commands of pages in docs, run verbatim against embedded PostgreSQL servers."""

import os
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

from sqlalchemy import make_url

from isola.database import embedded
from tests.cli.processes import ISOLA, Place

DOCS = Path(__file__).parents[2] / "docs"


def conninfo(url: str, **more: str) -> str:
    """A connection string of libpq for the server of an embedded PostgreSQL."""
    address = make_url(url)
    parts = {"host": address.query["host"], "port": address.query["port"], "user": address.username, **more}
    return " ".join(f"{name}={value}" for name, value in parts.items())


def owner_at(url: str, database: str) -> str:
    changed = make_url(url).set(username="shop_owner", password="owner-secret", database=database)
    return changed.render_as_string(hide_password=False)


def blocks(page: str) -> list[str]:
    """The shell commands of a page, in order."""
    text = (DOCS / page).read_text(encoding="utf-8")
    return re.findall(r"^```sh\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def run(place: Place, block: str, variables: Mapping[str, str]) -> str:
    """Run commands; what they print. Fails the test if one of them fails."""
    programs = f"{ISOLA.parent}{os.pathsep}{embedded.tool('psql').parent}{os.pathsep}{os.environ['PATH']}"
    ran = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", block],
        cwd=place.directory,
        env=place.environment({"PATH": programs, **variables}),
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, f"{block}\n{ran.stdout}\n{ran.stderr}"
    return ran.stdout
