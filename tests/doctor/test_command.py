"""``isola doctor`` as a user runs it."""

import json
from pathlib import Path

import asyncpg
import pytest

from isola.doctor.checks import CHECKS
from isola.testing.fixtures import Copy
from tests.cli.processes import Place, finished


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


async def test_the_exit_status_says_whether_anything_is_worse_than_a_note(place: Place, copy: Copy) -> None:
    assert copy.where.owner
    printed, _, status = finished(place.begin("doctor", "--json", ISOLA_DATABASE_URL=copy.where.owner))
    report = json.loads(printed)
    assert report["checks"] == len(CHECKS)
    assert report["login"] == copy.where.tenant_login
    assert set(report["summary"]) == {"danger", "warning", "note"}
    assert all(
        set(finding) == {"code", "severity", "object", "title", "consequence", "detail", "fix"}
        for finding in report["findings"]
    )
    # The server of the tests may have a vulnerability that was found since.
    assert {f["code"] for f in report["findings"] if f["severity"] != "note"} <= {"SRV001", "SRV002", "SRV003"}
    assert status == (1 if report["summary"]["danger"] + report["summary"]["warning"] else 0)

    connection = await asyncpg.connect(copy.where.owner)
    await connection.execute("ALTER TABLE rls.users DISABLE ROW LEVEL SECURITY")
    await connection.close()
    printed, said, status = finished(place.begin("doctor", "--database-url", copy.where.owner))
    assert (status, said) == (1, "")
    assert "danger  RLS001  rls.users\n" in printed
    assert "fix: ALTER TABLE rls.users ENABLE ROW LEVEL SECURITY;\n" in printed


async def test_wrong_usage_and_what_cannot_be_read(place: Place, copy: Copy) -> None:
    _, said, status = finished(place.begin("doctor", "--database-url", "mysql://root:hidden@127.0.0.1/db"))
    assert status == 2
    assert "expected postgresql://" in said
    assert "hidden" not in said
    assert "cannot be reached" in place.fail("doctor", "--database-url", "postgresql://o:hidden@127.0.0.1:1/db")
    assert copy.where.owner
    line = place.fail("doctor", "--tenant-column", "org_id", "--homes", "^x", ISOLA_DATABASE_URL=copy.where.owner)
    assert "no table has a column org_id" in line
