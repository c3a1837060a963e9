"""``isola migrate``, from nothing and when there is nothing to do."""

from app import embedded
from app.control.migrations import head
from tests.cli.processes import Place, finished
from tests.conftest import Copy


def test_an_empty_place_is_behind_until_it_is_migrated(empty: Place) -> None:
    with embedded.running(empty.data_dir):
        printed, _, status = finished(empty.begin("migrate", "--check"))
        assert (status, printed) == (1, f"the platform's tables are at nothing, not {head('control')}\n")

        assert "homes" in empty.run("migrate")

        assert ", 0 behind" in empty.run("migrate", "--check")


def test_migrating_starts_the_embedded_database_where_none_runs(empty: Place) -> None:
    assert "1 homes, 1 brought to revision" in empty.run("migrate")
    assert empty.postgresql_is_gone()


async def test_a_database_of_ones_own_is_checked_by_its_address(empty: Place, copy: Copy) -> None:
    assert copy.where.owner

    assert ", 0 behind" in empty.run("migrate", "--check", ISOLA_DATABASE_URL=copy.where.owner)
    assert not empty.data_dir.exists()


def test_without_the_owners_address_nothing_is_migrated(empty: Place) -> None:
    logins = {"ISOLA_TENANT_URL": "postgresql://t@127.0.0.1/d", "ISOLA_CONTROL_URL": "postgresql://c@127.0.0.1/d"}

    assert "set ISOLA_DATABASE_URL" in empty.fail("migrate", **logins)
