"""Runs every check on a database. It changes nothing and reads no rows of tenants."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime

import asyncpg

from isola.database.transactions import Database, Transaction
from isola.doctor.check import Check, Finding, Severity
from isola.doctor.checks import CHECKS
from isola.doctor.vocabulary import DEFINITIONS, HOMES, TENANT_COLUMN
from isola.errors import OperatorError

OLDEST = 150000

Parameters = tuple[str, str, str, int, date]
"""The parameters of a query: see ``parameters`` in ``isola.doctor.vocabulary``."""

READ_ONLY = """
SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY;
SET LOCAL statement_timeout TO '60s';
SET LOCAL search_path TO pg_catalog;
SET LOCAL jit TO off
"""


@dataclass(frozen=True, slots=True)
class Report:
    """What was examined, and the findings: the worst first."""

    database: str
    server: str
    login: str
    findings: Sequence[Finding]

    def count(self, severity: Severity) -> int:
        return sum(finding.severity is severity for finding in self.findings)

    @property
    def healthy(self) -> bool:
        """Whether nothing is worse than a note."""
        return all(finding.severity is Severity.NOTE for finding in self.findings)


async def examine(
    database: Database,
    *,
    login: str,
    tenant_column: str = TENANT_COLUMN,
    homes: str = HOMES,
    version: int | None = None,
    today: date | None = None,
) -> Report:
    """Run every check, with any login that can read the catalogue.

    ``login`` is that of tenant traffic. Tables with ``tenant_column`` are shared by tenants; schemas whose names match
    ``homes``, a regular expression, belong to one tenant each. ``version`` (180004 is 18.4) and ``today`` replace the
    server's version and the current date.

    Raises OperatorError if there is nothing to examine, no such login, or a query fails; Unavailable if the database
    cannot be reached.
    """
    async with database.unbound() as transaction:
        await transaction.script(READ_ONLY)
        running = int(await transaction.value("SELECT current_setting('server_version_num')"))
        if running < OLDEST:
            raise OperatorError(f"expected PostgreSQL 15 or later, not {running // 10000}")
        day = today or datetime.now(UTC).date()
        return await run_checks(transaction, (login, tenant_column, homes, version or running, day))


async def run_checks(transaction: Transaction, parameters: Parameters, checks: Sequence[Check] = CHECKS) -> Report:
    """As ``examine``, inside an open transaction, so that it also sees its uncommitted changes."""
    await _refuse_blind(transaction, parameters)
    order = list(Severity)
    findings = [finding for check in checks for finding in await _findings(transaction, check, parameters)]
    return Report(
        database=await transaction.value("SELECT current_database()"),
        server=await transaction.value("SELECT current_setting('server_version')"),
        login=parameters[0],
        findings=sorted(findings, key=lambda finding: order.index(finding.severity)),
    )


async def _refuse_blind(transaction: Transaction, parameters: Parameters) -> None:
    """Refuse to examine a database without tenants: no findings would wrongly look healthy."""
    login, column, homes, *_ = parameters
    if not await transaction.value(f"{DEFINITIONS} SELECT EXISTS (SELECT FROM traffic)", *parameters):
        raise OperatorError(f"there is no role {login}: name the login of tenant traffic (--login)")
    if not await transaction.value(f"{DEFINITIONS} SELECT EXISTS (SELECT FROM tenant_schemas)", *parameters):
        raise OperatorError(
            f"no table has a column {column}, and no schema matches {homes}: "
            "expected --tenant-column or --homes to identify tenants"
        )


async def _findings(transaction: Transaction, check: Check, parameters: Parameters) -> list[Finding]:
    findings = "coalesce(jsonb_agg(to_jsonb(f) ORDER BY f.object, f.detail), '[]')"
    query = f"{DEFINITIONS} SELECT {findings} FROM ({check.query}) f"
    try:
        rows = await transaction.value(query, *parameters)
    except asyncpg.PostgresError as error:
        raise OperatorError(f"the check {check.code} failed: {error}") from error
    return [
        Finding(check.code, check.severity, row["object"], check.title, check.consequence, row["detail"], row["fix"])
        for row in rows
    ]
