"""Every check detects the defect that it is for, and reports nothing for a healthy database."""

import re
from collections import Counter
from dataclasses import replace
from datetime import date
from pathlib import Path

import asyncpg
import pytest

from isola.doctor.check import Severity
from isola.doctor.checks import CHECKS
from isola.doctor.server import FOR_ANY_SQL, IN_POLICIES
from isola.platform import logins
from isola.testing.fixtures import DEFAULTS, Cluster
from tests.doctor.patient import MENDED, Patient
from tests.doctor.sabotage import SABOTAGES, Sabotage

DOCUMENTED = Path(__file__).parents[2] / "docs" / "doctor.md"
# Notes that a newly created database has.
USUAL = {
    ("RLS011", "isola.current_tenant_id()"),
    ("GRT012", "{database}"),
    ("EXT002", "pg_stat_statements"),
    ("SET005", "log_error_verbosity"),
    ("SET005", "log_min_error_statement"),
    ("SET006", "{login}"),
    ("SET008", "max_prepared_transactions"),
}
# These checks are about the server, and are tested with other servers than the running one.
ABOUT_THE_SERVER = {"SRV001", "SRV002", "SRV003", "SRV004"}
# These checks are about other sessions, and about settings that need a restart.
ABOUT_SESSIONS = {"DRF011", "SET009"}


BY_CODE = {check.code: check for check in CHECKS}


async def test_a_healthy_database_has_nothing_worse_than_notes(patient: Patient) -> None:
    findings = await patient.findings()
    assert {(finding.code, finding.object) for finding in findings} <= usual(patient)
    assert {finding.severity for finding in findings} == {Severity.NOTE}


@pytest.mark.parametrize("sabotage", SABOTAGES, ids=str)
async def test_what_is_done_to_a_database_is_noticed_and_its_fix_mends_it(sabotage: Sabotage, patient: Patient) -> None:
    try:
        await patient.suffer(sabotage.sql)
    except asyncpg.InsufficientPrivilegeError:
        pytest.skip("the owner given for the tests may not do that")
    expected = (sabotage.code, patient.named(sabotage.object))
    findings = await patient.findings()
    found = {(finding.code, finding.object) for finding in findings} - (usual(patient) - {expected})
    assert expected in found
    # Any change of a policy or an owner is noticed by that check as well.
    assert {code for code, _ in found} - {"DRF012"} == {sabotage.code, *sabotage.also} - {"DRF012"}

    fixes = [finding.fix for finding in findings if (finding.code, finding.object) == expected and finding.fix]
    # A change of the server's configuration cannot be rolled back.
    if fixes and not fixes[0].startswith("ALTER SYSTEM"):
        await patient.transaction.script("; ".join(fixes))
        again = await patient.findings(checks=[BY_CODE[sabotage.code]])
        assert expected not in {(finding.code, finding.object) for finding in again}


def usual(patient: Patient) -> set[tuple[str, str]]:
    return {(code, patient.named(name)) for code, name in USUAL}


def test_every_check_is_seen_to_notice_something() -> None:
    noticed = (
        {sabotage.code for sabotage in SABOTAGES} | {code for code, _ in USUAL} | ABOUT_THE_SERVER | ABOUT_SESSIONS
    )
    assert noticed == {check.code for check in CHECKS}


@pytest.mark.parametrize(
    ("version", "code", "objects"),
    [
        (150002, "SRV001", {hole.cve for hole in IN_POLICIES}),
        (150002, "SRV002", {hole.cve for hole in FOR_ANY_SQL}),
        (160009, "SRV001", {"CVE-2025-8713", "CVE-2026-120154"}),
        (170005, "SRV001", {"CVE-2025-8713", "CVE-2026-120154"}),
        (180004, "SRV001", {"CVE-2026-120154"}),
        (MENDED, "SRV001", set()),
        (MENDED, "SRV002", set()),
        (190000, "SRV004", {"PostgreSQL 19"}),
    ],
)
async def test_holes_in_a_version_are_known(version: int, code: str, objects: set[str], patient: Patient) -> None:
    findings = await patient.findings(version=version, checks=[BY_CODE[code]])
    assert {finding.object for finding in findings} == objects


async def test_a_version_that_gets_no_more_fixes_is_known(patient: Patient) -> None:
    checks = [BY_CODE["SRV003"]]
    assert await patient.findings(version=150020, checks=checks) == []
    [finding] = await patient.findings(version=150020, today=date(2027, 12, 1), checks=checks)
    assert finding.object == "PostgreSQL 15"


async def test_a_lock_table_that_is_too_small_is_found(patient: Patient) -> None:
    check = BY_CODE["DRF011"]
    assert await patient.findings(checks=[check]) == []
    small = replace(check, query=check.query.replace("current_setting('max_locks_per_transaction')", "'0'"))
    [finding] = await patient.findings(checks=[small])
    assert finding.object == "max_locks_per_transaction"
    assert finding.detail
    assert finding.detail.startswith("0 locks in all, for ")


async def test_a_transaction_that_stays_open_is_found(patient: Patient, cluster: Cluster) -> None:
    short = replace(BY_CODE["SET009"], query=BY_CODE["SET009"].query.replace("5 minutes", "0 seconds"))
    assert await patient.findings(checks=[short]) == []
    left = await asyncpg.connect(logins.addresses(DEFAULTS, cluster.address(cluster.template)).tenant)
    try:
        await left.execute("BEGIN")
        process = await left.fetchval("SELECT pg_backend_pid()")
        # A transaction caches the statistics of other sessions at its first access.
        await patient.transaction.value("SELECT pg_stat_clear_snapshot()")
        assert [finding.object for finding in await patient.findings(checks=[short])] == [f"the session {process}"]
        assert await patient.findings(checks=[BY_CODE["SET009"]]) == []
    finally:
        await left.close()


def test_codes_are_unique_and_documented() -> None:
    assert max(Counter(check.code for check in CHECKS).values()) == 1
    documented = re.findall(r"^\| ([A-Z]{3}\d{3}) \| (\w+) \| (.+) \|$", DOCUMENTED.read_text(), re.MULTILINE)
    assert documented == [(check.code, check.severity.value, check.title) for check in CHECKS]
