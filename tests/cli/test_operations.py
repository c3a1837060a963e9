"""The commands of docs/operations.md, run verbatim."""

import os
import re
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from sqlalchemy import make_url

from isola.database import embedded
from isola.testing.fixtures import FAST, _memory
from tests.cli.processes import ISOLA, Place

PAGE = Path(__file__).parents[2] / "docs" / "operations.md"


def blocks() -> list[str]:
    return re.findall(r"^```sh\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def conninfo(url: str, **more: str) -> str:
    """A connection string of libpq for the server of an embedded PostgreSQL."""
    address = make_url(url)
    parts = {"host": address.query["host"], "port": address.query["port"], "user": address.username, **more}
    return " ".join(f"{name}={value}" for name, value in parts.items())


def owner_at(url: str, database: str) -> str:
    changed = make_url(url).set(username="shop_owner", password="owner-secret", database=database)
    return changed.render_as_string(hide_password=False)


@pytest.mark.timeout(300)
def test_the_commands_of_the_page_work_as_written(empty: Place) -> None:
    with (
        TemporaryDirectory(prefix="isola-test-", dir=_memory()) as elsewhere,
        embedded.running(empty.directory / "one", FAST) as one,
        embedded.running(Path(elsewhere) / "other", FAST) as other,
    ):
        programs = f"{ISOLA.parent}{os.pathsep}{embedded.tool('psql').parent}{os.pathsep}{os.environ['PATH']}"
        environment = empty.environment(
            {
                "PATH": programs,
                "SUPERUSER": conninfo(one),
                "BACKUP": conninfo(one, user="shop_backup", dbname="shop"),
                "ISOLA_DATABASE_URL": owner_at(one, "shop"),
                "RESTORED_URL": owner_at(one, "shop_restored"),
                "OTHER_SUPERUSER": conninfo(other),
                "OTHER_URL": owner_at(other, "shop"),
            }
        )
        printed = ""
        for block in blocks():
            ran = subprocess.run(
                ["bash", "-euo", "pipefail", "-c", block],
                cwd=empty.directory,
                env=environment,
                capture_output=True,
                text=True,
                check=False,
            )
            assert ran.returncode == 0, f"{block}\n{ran.stdout}\n{ran.stderr}"
            printed += ran.stdout
        # Both logs were restored completely, on either server.
        assert printed.count("\nOK\n") == 2
        for url, database in ((one, "shop"), (one, "shop_restored"), (other, "shop")):
            listed = empty.run("tenant", "list", ISOLA_DATABASE_URL=owner_at(url, database))
            assert {"acme", "globex"} <= set(listed.split())
