"""What the platform keeps of all tenants: a tenant is told of its own, and of nothing else."""

from datetime import timedelta
from uuid import UUID

import pytest

from app.control import grants
from app.control.platform_log import Author
from app.control.tenants import Tenant
from app.database import Database
from app.errors import Forbidden

ADD = "SELECT isola.add_domain($1)"
SHOWN = "SELECT length(challenge), verified_at, challenge_expires_at - created_at FROM isola.domains() WHERE id = $1"
STAFF = Author("staff:sam")


async def test_leave_to_look_into_one_tenant_is_none_to_look_into_another(
    control: Database, database: Database, a: Tenant, b: Tenant
) -> None:
    leave = await grants.grant(control, a, STAFF, reason="a question of theirs", lasting=timedelta(minutes=5))
    entries = "SELECT count(*) FROM audit_entries"
    async with database.transaction(b) as work:
        before = await work.value(entries)

    with pytest.raises(Forbidden):
        async with database.transaction(b) as work:
            await grants.note(work, leave.id)
    async with database.transaction(b) as work:
        assert await work.value("SELECT isola.note_access($1)", leave.id) is False
    async with database.transaction(b) as work:
        assert await work.value(entries) == before

    async with database.transaction(a) as work:
        await grants.note(work, leave.id)
    async with database.transaction(a) as work:
        assert await work.texts("SELECT new::text FROM audit_entries WHERE object LIKE '%' || $1", str(leave.id))


async def test_whether_another_has_proven_a_domain_is_not_told_by_adding_it(
    owner: Database, database: Database, a: Tenant, b: Tenant
) -> None:
    async with database.transaction(a) as work:
        proven = await work.value(ADD, "proven.test")
    async with owner.unbound() as work:
        await work.script(f"UPDATE control.domains SET verified_at = now() WHERE id = '{proven}'")

    seen = []
    for name in ("proven.test", "free.test"):
        async with database.transaction(b) as work:
            added = await work.value(ADD, name)
            assert isinstance(added, UUID)
            assert added != proven
            [row] = await work._connection.fetch(SHOWN, added)
            seen.append(tuple(row))
    assert seen[0] == seen[1]
