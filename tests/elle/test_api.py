"""Transactions of concurrent clients over HTTP, while connections die and clients disconnect: no anomaly.

``TEST_ELLE`` is their number; ``make elle`` runs 20,000. Servers modified to give wrong answers are detected.
"""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from isola.testing.fixtures import Copy
from tests.elle import laboratory
from tests.elle.checker import Kind
from tests.elle.history import Outcome
from tests.mutation.sabotage import Patch
from tests.mutation.trial import patched
from tests.mutation.workshop import copied, search_path

TRANSACTIONS = int(os.environ.get("TEST_ELLE", "2000"))


@pytest.mark.timeout(3600)
async def test_nothing_that_clients_see_contradicts_what_is_promised(
    copy: Copy, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    report = await laboratory.run(copy, tmp_path, TRANSACTIONS)

    record_property("transactions checked", len(report.history))
    record_property("anomalies", len(report.anomalies))
    record_property("connections killed", report.backends_killed)
    print(report)  # noqa: T201  shown by make elle
    assert [str(anomaly) for anomaly in report.anomalies[:3]] == []
    assert report.acknowledged > TRANSACTIONS * 0.8
    # Otherwise the run tested nothing that could fail.
    assert report.backends_killed
    assert report.outcomes[Outcome.UNKNOWN]


LIES = {
    "acknowledges what it rolled back": (
        Patch(
            "",
            "",
            "both",
            "app/isola/api/declared/mutations.py",
            "                    return await payload(returned, info, work, **handed)",
            "                    answer = await payload(returned, info, work, **handed)\n"
            "                    if returned.__name__ == 'CreateSpanPayload' and len(input.title) % 2:\n"
            "                        await work.script('ROLLBACK; BEGIN')\n"
            "                    return answer",
            (),
        ),
        {Kind.LOST},
    ),
    "answers out of a cache": (
        Patch(
            "",
            "",
            "both",
            "app/isola/api/execute.py",
            "            text = await self.compiler.fetch(reading, transaction, marked=marked)\n",
            "            text = await self.compiler.fetch(reading, transaction, marked=marked)\n"
            "            text = self.__dict__.setdefault('kept', {}).setdefault(repr(reading.values), text)\n",
            (),
        ),
        {Kind.STALE},
    ),
    "does things twice": (
        Patch(
            "",
            "",
            "both",
            "app/isola/subjects/subject.py",
            "        keys = await values.insert_all(work, cls.declaration, stored)\n",
            "        await values.insert_all(work, cls.declaration, stored)\n"
            "        keys = await values.insert_all(work, cls.declaration, stored)\n",
            (),
        ),
        {Kind.DUPLICATE},
    ),
}


@pytest.mark.parametrize(("lie", "kinds"), LIES.values(), ids=LIES)
async def test_a_server_that_lies_is_found_out(
    lie: Patch, kinds: set[Kind], copy: Copy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with copied() as place, patched(lie, place):
        monkeypatch.setenv("PYTHONPATH", search_path(place))
        report = await laboratory.run(copy, tmp_path, 600, faults=False)
    assert kinds & {anomaly.kind for anomaly in report.anomalies}
