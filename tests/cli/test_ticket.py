"""``isola ticket``, and the commands of docs/sql.md, run verbatim."""

import pytest

from isola.database import embedded
from isola.testing.fixtures import FAST
from tests.cli import pages
from tests.cli.pages import conninfo, owner_at
from tests.cli.processes import Place

OWNER = "CREATE ROLE shop_owner LOGIN CREATEROLE PASSWORD 'owner-secret'"
LOG = "SELECT concat_ws(' ', actor, on_behalf_of, action) FROM rls.audit_entries ORDER BY id"


@pytest.mark.timeout(120)
def test_the_commands_of_the_page_work_as_written(empty: Place) -> None:
    with embedded.running(empty.directory / "one", FAST) as url:
        there = {
            "SUPERUSER": conninfo(url),
            "ADA": conninfo(url, user="ada", dbname="shop"),
            "ISOLA_DATABASE_URL": owner_at(url, "shop"),
        }
        database = f'psql "$SUPERUSER dbname=postgres" -c "{OWNER}" -c "CREATE DATABASE shop OWNER shop_owner"'
        pages.run(empty, f"{database}; isola migrate; isola tenant create acme --strategy rls", there)
        pages.run(empty, "isola user assign ada editor --tenant acme", there)
        printed = [pages.run(empty, block, there) for block in pages.blocks("sql.md")]
        assert "inspected" in printed[1]
        assert '{"rpm": 3000}' in printed[1]
        log = pages.run(empty, f'psql "$SUPERUSER dbname=shop" -At -c "{LOG}"', there).splitlines()
        [user] = {line.split()[0] for line in log if "resource:create" in line}
        assert [line for line in log if line.split()[-1].startswith(("ticket", "resource", "span"))] == [
            "operator ticket:create",
            f"{user} operator ticket:update",
            f"{user} operator resource:create",
            f"{user} operator span:create",
        ]


def test_a_ticket_for_nobody_is_refused(awake: Place) -> None:
    assert "has no user" in awake.fail("ticket", "--tenant", "acme", "--user", "nobody")
    assert "there is no such tenant" in awake.fail("ticket", "--tenant", "none", "--user", "ada")
    refused = awake.fail("ticket", "--tenant", "acme", "--user", "ada", "--organization", "None")
    assert "the tenant has no such organization" in refused
    assert "minutes: expected a number from 1 to 60" in awake.fail(
        "ticket", "--tenant", "acme", "--user", "ada", "--minutes", "61"
    )
