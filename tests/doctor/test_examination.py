"""An examination is read-only, and any login that can connect can run it."""

import pytest

from isola.database.transactions import Database
from isola.doctor.check import Check, Severity
from isola.doctor.examination import READ_ONLY, examine, run_checks
from isola.errors import OperatorError, Unavailable
from isola.testing.fixtures import Copy
from tests.doctor.patient import MENDED, TODAY


async def test_no_check_can_change_anything(owner: Database, copy: Copy) -> None:
    writing = Check(
        "BAD001", Severity.NOTE, "", "", "SELECT '' AS object, '' AS detail, nextval('public.s')::text AS fix"
    )
    async with owner.unbound() as transaction:
        await transaction.script("CREATE SEQUENCE public.s")
    with pytest.raises(OperatorError, match="BAD001 failed: cannot execute nextval"):
        async with owner.unbound() as transaction:
            await transaction.script(READ_ONLY)
            await run_checks(transaction, (copy.where.tenant_login, "tenant_id", "^t_", MENDED, TODAY), [writing])


async def test_every_login_finds_the_same(owner: Database, control: Database, copy: Copy) -> None:
    by_owner = await examine(owner, login=copy.where.tenant_login)
    by_another = await examine(control, login=copy.where.tenant_login)
    assert by_another == by_owner


async def test_a_database_that_cannot_be_reached_is_one_error(copy: Copy) -> None:
    address = copy.where.tenant.replace("isola_test", "not_there")
    async with await Database.open(address) as nowhere:
        with pytest.raises(Unavailable):
            await examine(nowhere, login=copy.where.tenant_login)
