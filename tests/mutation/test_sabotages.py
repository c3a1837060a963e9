"""The list of sabotages, without trying them: that takes ``make mutation``."""

from collections import Counter

import pytest

from tests.mutation.__main__ import RUN, turns
from tests.mutation.report import markdown, summary
from tests.mutation.sabotage import OutdatedError, Patch, part
from tests.mutation.sabotages import BY_NAME, SABOTAGES
from tests.mutation.trial import ROOT, Outcome, Verdict

PATCHES = [sabotage for sabotage in SABOTAGES if isinstance(sabotage, Patch)]


def test_there_are_many_and_each_has_a_name_of_its_own() -> None:
    assert len(SABOTAGES) >= 40
    assert len(BY_NAME) == len(SABOTAGES)
    of = Counter(sabotage.strategy for sabotage in SABOTAGES)
    assert min(of["rls"], of["schema"], of["both"]) >= 15


@pytest.mark.parametrize("patch", PATCHES, ids=lambda patch: patch.name)
def test_each_fits_the_program_as_it_is(patch: Patch) -> None:
    patch.check(ROOT)


def test_the_tests_that_should_notice_are_there() -> None:
    expected = {test.partition("::")[0] for sabotage in SABOTAGES for test in sabotage.expect}
    assert [test for test in sorted(expected) if not (ROOT / test).exists()] == []


def test_one_that_does_not_fit_is_an_error() -> None:
    patch = PATCHES[0]
    for source in ("", patch.old * 2):
        with pytest.raises(OutdatedError):
            patch.applied(source)


@pytest.mark.parametrize("of", [1, 5, 10, 1000])
@pytest.mark.parametrize("first", [0, 7])
def test_consecutive_parts_hold_all_of_them_once(of: int, first: int) -> None:
    taken = Counter(sabotage.name for number in range(first, first + of) for sabotage in part(SABOTAGES, [number], of))
    assert taken == Counter(BY_NAME.keys())


@pytest.mark.parametrize("commits_a_run", range(7))
def test_ten_runs_try_all_of_them_however_many_commits_lie_between_two(commits_a_run: int) -> None:
    runs = [turns(32 + commits_a_run * run, 1_795_000_000 + run * RUN, 7) for run in range(10)]

    assert {number for turn in runs for number in turn} == set(range(7))
    assert all(len(set(turn)) == 2 for turn in runs)


def test_the_report_names_who_survived() -> None:
    killed = Outcome("first", "rls", "a | b", Verdict.KILLED, "tests/x.py::test", expected=True, seconds=1.0)
    survived = Outcome("second", "both", "c", Verdict.SURVIVED, "", expected=False, seconds=2.0)
    assert summary([killed, survived]) == "1 killed, 1 survived, 0 broken\nsurvived: second (c)"
    assert "| `first` | rls | a \\| b | killed | `tests/x.py::test` |" in markdown([killed, survived])
