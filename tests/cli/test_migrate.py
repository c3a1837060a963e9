"""``isola migrate``, on an empty database and on an up-to-date one."""

import os
import subprocess
from dataclasses import replace
from pathlib import Path

from sqlalchemy import make_url

from isola.database import embedded
from isola.platform.migrations import head
from isola.testing.fixtures import Copy
from tests.cli.processes import Place, finished

RULES = "local all postgres trust\nlocal all all scram-sha-256\n"


def test_an_empty_place_is_behind_until_it_is_migrated(empty: Place) -> None:
    with embedded.running(empty.data_dir):
        printed, _, status = finished(empty.begin("migrate", "--check"))
        assert (status, printed) == (1, f"the platform's tables are at nothing, not {head('control')}\n")

        assert "1 home, 1 migrated" in empty.run("migrate")

        assert ", 0 behind" in empty.run("migrate", "--check")


def test_migrating_starts_the_embedded_database_where_none_runs(empty: Place) -> None:
    assert "1 home, 1 migrated to revision" in empty.run("migrate")
    assert empty.postgresql_is_gone()


async def test_a_database_of_ones_own_is_checked_by_its_address(empty: Place, copy: Copy) -> None:
    assert copy.where.owner

    assert ", 0 behind" in empty.run("migrate", "--check", ISOLA_DATABASE_URL=copy.where.owner)
    assert not empty.data_dir.exists()


def test_a_right_that_the_owner_lacks_is_reported_in_one_line(empty: Place) -> None:
    with embedded.running(empty.data_dir) as url:
        ran(url, "CREATE ROLE weak LOGIN; CREATE DATABASE shop OWNER weak")
        owner = make_url(url).set(username="weak", database="shop").render_as_string()

        assert "weak may not make roles" in empty.fail("migrate", ISOLA_DATABASE_URL=owner)
        assert "weak may not make roles" in empty.fail("migrate", "--check", ISOLA_DATABASE_URL=owner)


def test_a_database_that_is_not_in_utf8_is_refused(empty: Place) -> None:
    with embedded.running(empty.data_dir) as url:
        ran(url, "CREATE DATABASE latin TEMPLATE template0 ENCODING 'LATIN1' LOCALE_PROVIDER libc LOCALE 'C'")
        owner = make_url(url).set(database="latin").render_as_string(hide_password=False)

        for arguments in (["migrate"], ["migrate", "--check"]):
            failed = empty.fail(*arguments, ISOLA_DATABASE_URL=owner)
            assert "the encoding of the database is LATIN1: expected UTF8" in failed


def test_an_order_by_a_language_is_refused_where_postgresql_has_no_icu(empty: Place) -> None:
    path = os.pathsep.join(filter(None, (str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH"))))
    sorted_ = {"ISOLA_APPLICATIONS": "tests.subjects.languages:application", "PYTHONPATH": path}
    said = "the column sparrows.name is ordered by the rules of de, but this PostgreSQL has no collation de-x-icu"

    with embedded.running(empty.data_dir) as url:
        place = replace(empty, settings={"ISOLA_DATABASE_URL": url})
        assert said in place.fail("migrate", **sorted_)
        printed, _, _ = finished(place.begin("migrate", "--check"))
        assert "the platform's tables are at nothing" in printed
        place.run("migrate")
        for arguments in (["migrate"], ["migrate", "--check"], ["serve"]):
            assert said in place.fail(*arguments, **sorted_)
        # Without the application, all is as it was.
        assert ", 0 behind" in place.run("migrate", "--check")


def test_a_login_keeps_the_password_that_another_database_uses(empty: Place) -> None:
    with embedded.running(empty.data_dir) as url:
        ran(url, "CREATE ROLE ada LOGIN CREATEROLE PASSWORD 'one'; CREATE DATABASE shop OWNER ada")
        ran(url, "CREATE DATABASE beside OWNER ada")
        (empty.data_dir / "postgresql" / "pg_hba.conf").write_text(RULES)
        ran(url, "SELECT pg_reload_conf()")
        shop, beside, another = (
            make_url(url).set(username=user, password=password, database=name).render_as_string(hide_password=False)
            for user, password, name in (
                ("ada", "one", "shop"),
                ("ada", "one", "beside"),
                ("isola_tenant", "two", "beside"),
            )
        )
        empty.run("migrate", ISOLA_DATABASE_URL=shop)
        empty.run("tenant", "create", "acme", ISOLA_DATABASE_URL=shop)

        complaint = empty.fail("migrate", ISOLA_DATABASE_URL=beside, ISOLA_TENANT_URL=another)
        assert "the login isola_tenant has another password in use for the database shop" in complaint
        empty.run("migrate", ISOLA_DATABASE_URL=beside)
        empty.run("user", "assign", "ada", "owner", "--tenant", "acme", ISOLA_DATABASE_URL=shop)

        empty.run("migrate", "--new-passwords", ISOLA_DATABASE_URL=beside, ISOLA_TENANT_URL=another)
        refused = empty.begin("user", "assign", "bob", "owner", "--tenant", "acme", ISOLA_DATABASE_URL=shop)
        assert "refuses the password of the login" in finished(refused)[1]


def test_a_login_that_cannot_have_a_password_is_reported(empty: Place) -> None:
    with embedded.running(empty.data_dir) as url:
        (empty.data_dir / "postgresql" / "pg_hba.conf").write_text(RULES)
        ran(url, "SELECT pg_reload_conf()")

        complaint = empty.fail("migrate", ISOLA_DATABASE_URL=url)
        assert "the login isola_tenant has no password, and the database asks for one" in complaint


def ran(url: str, sql: str) -> None:
    where = make_url(url)
    arguments = ["-h", str(where.query["host"]), "-p", str(where.query["port"]), "-U", "postgres", "-d", "postgres"]
    each = [part for statement in sql.split("; ") for part in ("-c", statement)]
    subprocess.run([embedded.tool("psql"), *arguments, "-q", *each], check=True, capture_output=True)


def test_without_the_owners_address_nothing_is_migrated(empty: Place) -> None:
    logins = {"ISOLA_TENANT_URL": "postgresql://t@127.0.0.1/d", "ISOLA_CONTROL_URL": "postgresql://c@127.0.0.1/d"}

    assert "set ISOLA_DATABASE_URL" in empty.fail("migrate", **logins)
