"""An attempt to access another tenant is logged: one warning with the tenant that made it, without values."""

import asyncpg
import pytest
from structlog.testing import capture_logs

from isola.database.transactions import Database
from isola.errors import Refusal
from isola.platform.tenants import Tenant
from isola.testing.oracles.canary import INSUFFICIENT_PRIVILEGE, TABLES, Canary, forgery, physical
from isola_strategies.base import Strategy

NOT_PROVED = "IS002"
REACHES = {
    "passing for another": ("{bind_b}; SELECT count(*) FROM users", NOT_PROVED),
    "the control plane": ("SELECT * FROM control.tenants", INSUFFICIENT_PRIVILEGE),
    "a role with more rights": ("SET LOCAL ROLE isola_sharing", INSUFFICIENT_PRIVILEGE),
}


@pytest.mark.parametrize("reach", REACHES)
async def test_an_attempt_is_one_warning_with_the_tenant_and_without_values(
    reach: str, strategy: Strategy, database: Database, a: Tenant, canary_b: Canary
) -> None:
    sql, sqlstate = REACHES[reach]
    with capture_logs() as logged, pytest.raises((Refusal, asyncpg.InsufficientPrivilegeError)):
        async with database.transaction(a) as work:
            await work.script(sql.format(bind_b=strategy.bind(canary_b.tenant.id)))
    [entry] = logged
    assert entry == {
        "event": "a statement tried to reach outside its tenant",
        "log_level": "warning",
        "tenant": str(a.id),
        "sqlstate": sqlstate,
    }


async def test_a_write_into_another_tenants_table_is_an_attempt(
    strategy: Strategy, database: Database, a: Tenant, canary_b: Canary
) -> None:
    sql, row = forgery(strategy, TABLES[0], canary_b)
    assert physical(strategy, canary_b.tenant, TABLES[0]) in sql
    with capture_logs() as logged, pytest.raises(asyncpg.InsufficientPrivilegeError):
        async with database.transaction(a) as work:
            await work.value(sql, row)
    assert [(entry["log_level"], entry["tenant"]) for entry in logged] == [("warning", str(a.id))]
    assert not canary_b.traced_in(logged)


async def test_a_violated_constraint_is_not_reported_as_an_attempt(database: Database, a: Tenant) -> None:
    with capture_logs() as logged, pytest.raises(Refusal):
        async with database.transaction(a) as work:
            await work.script("INSERT INTO users (subject, name) VALUES ('twice', 'x'), ('twice', 'x')")
    assert logged == []
