"""The commands of docs/operations.md, run verbatim."""

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from isola.database import embedded
from isola.testing.fixtures import FAST, memory
from tests.cli import pages
from tests.cli.pages import conninfo, owner_at
from tests.cli.processes import Place


@pytest.mark.timeout(300)
def test_the_commands_of_the_page_work_as_written(empty: Place) -> None:
    with (
        TemporaryDirectory(prefix="isola-test-", dir=memory()) as elsewhere,
        embedded.running(empty.directory / "one", FAST) as one,
        embedded.running(Path(elsewhere) / "other", FAST) as other,
    ):
        variables = {
            "SUPERUSER": conninfo(one),
            "BACKUP": conninfo(one, user="shop_backup", dbname="shop"),
            "ISOLA_DATABASE_URL": owner_at(one, "shop"),
            "RESTORED_URL": owner_at(one, "shop_restored"),
            "OTHER_SUPERUSER": conninfo(other),
            "OTHER_URL": owner_at(other, "shop"),
        }
        printed = "".join(pages.run(empty, block, variables) for block in pages.blocks("operations.md"))
        # Both logs were restored completely, on either server.
        assert printed.count("\nOK\n") == 2
        for url, database in ((one, "shop"), (one, "shop_restored"), (other, "shop")):
            listed = empty.run("tenant", "list", ISOLA_DATABASE_URL=owner_at(url, database))
            assert {"acme", "globex"} <= set(listed.split())
