"""Checks of the list of sabotages without running them: ``make mutation`` does that."""

from collections import Counter

import asyncpg
import pytest

from isola.testing.fixtures import Copy
from tests.mutation import statements
from tests.mutation.report import markdown, summary
from tests.mutation.sabotage import OutdatedError, Patch, Sql
from tests.mutation.sabotages import BY_NAME, SABOTAGES
from tests.mutation.trial import Outcome, Verdict
from tests.mutation.workshop import ROOT

PATCHES = [sabotage for sabotage in SABOTAGES if isinstance(sabotage, Patch)]


def test_there_are_many_and_each_has_a_name_of_its_own() -> None:
    assert len(SABOTAGES) >= 40
    assert len(BY_NAME) == len(SABOTAGES)
    of = Counter(sabotage.strategy for sabotage in SABOTAGES)
    assert min(of["rls"], of["schema"], of["both"]) >= 15


@pytest.mark.parametrize("patch", PATCHES, ids=lambda patch: patch.name)
def test_each_fits_the_program_as_it_is(patch: Patch) -> None:
    patch.check(ROOT)


async def test_the_database_accepts_the_statements_of_each(copy: Copy) -> None:
    url = str(copy.where.owner)
    connection = await asyncpg.connect(url)
    rejected = []
    for sabotage in SABOTAGES:
        if isinstance(sabotage, Sql):
            undone = connection.transaction()
            await undone.start()
            try:
                await statements.run(sabotage, connection, url)
            except asyncpg.PostgresError as error:
                rejected.append(f"{sabotage.name}: {error}")
            await undone.rollback()
    await connection.close()

    assert rejected == []


def test_the_tests_that_should_notice_are_there() -> None:
    expected = {test.partition("::")[0] for sabotage in SABOTAGES for test in sabotage.expect}
    assert [test for test in sorted(expected) if not (ROOT / test).exists()] == []


def test_one_that_does_not_fit_is_an_error() -> None:
    patch = PATCHES[0]
    for source in ("", patch.old * 2):
        with pytest.raises(OutdatedError):
            patch.applied(source)


def test_the_report_names_who_survived() -> None:
    killed = Outcome("first", "rls", "a | b", Verdict.KILLED, "tests/x.py::test", expected=True, seconds=1.0)
    survived = Outcome("second", "both", "c", Verdict.SURVIVED, "", expected=False, seconds=2.0)
    assert summary([killed, survived]) == "1 killed, 1 survived, 0 broken\nsurvived: second (c)"
    assert "| `first` | rls | a \\| b | killed | `tests/x.py::test` |" in markdown([killed, survived])
