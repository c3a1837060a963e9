"""Loading rows is atomic, whatever fails midway."""

import signal
import time
from collections.abc import Iterator

import pytest

from isola.testing.fixtures import STRATEGIES
from isola.testing.patience import PATIENCE
from tests.adopting.conftest import ISOLA, MANY, NONE_INSTALLED, Home
from tests.cli.processes import finished


@pytest.fixture(params=STRATEGIES)
def tenant(request: pytest.FixtureRequest, home: Home) -> Iterator[str]:
    """A tenant without rows."""
    slug = f"empty-{request.param}"
    home.tenant(slug, request.param)
    yield slug
    home.place.run("tenant", "drop", slug, "--yes")
    home.run_in(ISOLA, f"UPDATE control.tenants SET slug = slug || '-' || left(id::text, 8) WHERE slug = '{slug}'")


def load(home: Home, database: str, tenant: str) -> tuple[str, ...]:
    return ("adopt", home.address(database), "--load", "--tenant", tenant)


def killed(home: Home, tenant: str) -> int:
    """Kill a load in the middle of the large table; return how many rows it has staged."""
    process = home.place.begin(*load(home, "large", tenant))
    deadline = time.monotonic() + PATIENCE
    while not (staged := _staged(home)):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    return staged


def _staged(home: Home) -> int:
    for (schema,) in home.stages():
        if home.ask(ISOLA, f"SELECT to_regclass('{schema}.numbers')::text") != [(None,)]:
            return int(home.ask(ISOLA, f"SELECT count(*) FROM {schema}.numbers")[0][0])
    return 0


def test_a_load_that_was_killed_goes_on_and_what_it_had_staged_is_compared_too(home: Home, tenant: str) -> None:
    staged = killed(home, tenant)
    assert 0 < staged < MANY
    assert home.rows_of(tenant, "numbers") == 0
    [(schema,)] = home.stages()
    home.run_in(ISOLA, f"UPDATE {schema}.numbers SET name = 'another' WHERE doubled = 2")

    said = home.place.fail(*load(home, "large", tenant))

    assert "numbers: " in said
    assert "nothing was copied" in said
    assert (home.rows_of(tenant, "numbers"), home.stages()) == (0, [])
    assert killed(home, tenant) > 0
    assert f"numbers: {MANY} rows" in home.place.run(*load(home, "large", tenant))
    assert (home.rows_of(tenant, "numbers"), home.stages()) == (MANY, [])


def test_a_source_that_changes_meanwhile_is_noticed(home: Home, tenant: str) -> None:
    process = home.place.begin(*load(home, "large", tenant))
    while not _staged(home):
        time.sleep(0.01)
    home.run_in("large", "UPDATE numbers SET name = 'changed' WHERE id = 7")
    try:
        _, said, status = finished(process)
        assert status == 1
        assert "numbers has changed in the source" in said
        assert (home.rows_of(tenant, "numbers"), home.stages()) == (0, [])
    finally:
        home.run_in("large", "UPDATE numbers SET name = 'number 7' WHERE id = 7")


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ("big = 9007199254740992", "big"),
        ("amount = 0.00000000001", "amount"),
        ("amount = 'NaN'", "amount"),
        ("items = ARRAY['a', NULL]", "items"),
        ("items = ARRAY[ARRAY['a']]", "items"),
        ("price = 'NaN'", "price"),
        ("at = 'infinity'", "at"),
        ("days = '{2020-01-01,infinity}'", "days"),
        ("moments = '{-infinity}'", "moments"),
        ("floats = '{1,NaN}'", "floats"),
        ("bigs = '{9007199254740992}'", "bigs"),
        ("flags = '{t,NULL}'", "flags"),
        ("fees = '{1.25,NaN}'", "fees"),
        ("ids = '{{00000000-0000-0000-0000-000000000001}}'", "ids"),
        ("words = repeat('x', 1000001)", "words"),
        ("other = 5", "other_id"),
    ],
)
def test_a_row_that_breaks_a_rule_is_named_and_nothing_is_copied(home: Home, values: str, named: str) -> None:
    slug = "strict"
    if not home.ask(ISOLA, f"SELECT FROM control.tenants WHERE slug = '{slug}'"):
        home.tenant(slug, "rls")
    # This disables foreign keys: the source may have been changed that way, too.
    home.run_in("strict", f"SET session_replication_role TO replica; UPDATE rules SET {values} WHERE id = 4")
    try:
        said = home.place.fail(*load(home, "strict", slug))
        assert "rules, row id 4: " in said
        assert named in said
        assert "nothing was copied" in said
        assert (home.rows_of(slug, "rules"), home.stages()) == (0, [])
    finally:
        home.run_in("strict", "DELETE FROM rules; INSERT INTO rules (id) VALUES (3), (4)")


def test_the_source_is_left_as_it_was(home: Home) -> None:
    home.tenant("reader", "rls")
    before = home.content("chinook")
    home.place.run(*load(home, "chinook", "reader"))
    assert home.content("chinook") == before


def test_what_was_loaded_is_in_the_log_of_the_platform(home: Home) -> None:
    home.tenant("noted", "schema")
    home.place.run(*load(home, "chinook", "noted"))
    question = "SELECT new ->> 'application', new ->> 'rows' FROM control.audit_entries WHERE object = 'tenant:noted'"
    assert home.ask(ISOLA, f"{question} AND action = 'tenant:adopt'") == [("chinook", "15607")]


def test_a_tenant_with_rows_is_not_loaded_again(home: Home) -> None:
    home.tenant("twice", "rls")
    home.place.run(*load(home, "chinook", "twice"))
    assert "the tenant has rows in albums already: expected none" in home.place.fail(*load(home, "chinook", "twice"))


def test_what_cannot_be_adopted_is_said_in_one_line(home: Home) -> None:
    place, source = home.place, home.address("chinook")
    assert "no schema 'nowhere'" in place.fail("adopt", source, "--schema", "nowhere", **NONE_INSTALLED)
    assert "has no tables" in place.fail("adopt", home.address("template1"), "--application", "other")
    assert "is there already" in place.fail("adopt", source, **NONE_INSTALLED, PYTHONPATH="")
    assert "Python module 'chinook'" in place.fail("adopt", source, **NONE_INSTALLED)
    assert "installed already" in place.fail("adopt", source)
    assert "Python module 'json'" in place.fail("adopt", source, "--application", "json")
    assert "cannot be called 'A B'" in place.fail("adopt", source, "--application", "A B")
    assert "cannot be reached" in place.fail("adopt", "postgresql://x:secret@127.0.0.1:1/none")
    assert "no such tenant" in place.fail("adopt", source, "--load", "--tenant", "nobody")
    assert "'other' is not installed" in place.fail(*load(home, "chinook", "x"), "--application", "other")
    assert {each.name for each in place.directory.iterdir() if each.name.startswith(".")} <= {".isola"}


def test_a_source_that_is_not_what_was_adopted_is_refused(home: Home) -> None:
    home.tenant("other", "rls")
    home.run_in("nasty", "ALTER TABLE base ADD COLUMN more int")
    try:
        assert "keys of base are not those that were adopted" in home.place.fail(*load(home, "nasty", "other"))
    finally:
        home.run_in("nasty", "ALTER TABLE base DROP COLUMN more")
    home.run_in("nasty", "CREATE TABLE later (id int)")
    try:
        assert "a table later that was not adopted" in home.place.fail(*load(home, "nasty", "other"))
    finally:
        home.run_in("nasty", "DROP TABLE later")
    assert home.rows_of("other", "bases") == 0
