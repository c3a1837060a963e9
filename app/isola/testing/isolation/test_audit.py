"""No change without an entry, no entry without its change, and none that anybody can undo unseen."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

import asyncpg
import pytest
from sqlalchemy import delete, insert, select, text, update

from isola.database.transactions import Database
from isola.errors import Unavailable
from isola.platform import audit, provisioning
from isola.platform.tenants import Tenant
from isola.subjects import resources, roles, shares
from isola.subjects.actor import Actor
from isola.subjects.audit import audit_entries
from isola.subjects.organizations import memberships, organizations
from isola.subjects.permissions import Role, of_role
from isola.subjects.users import users
from isola.testing.fixtures import Copy
from isola.testing.oracles.canary import INSUFFICIENT_PRIVILEGE, TABLES, Canary, physical, tried
from isola_strategies.base import Capability, Strategy

ABOUT = {"actor": "usr_ada", "behalf": "key_1", "request": "r-1"}
Entry = Mapping[str, Any]


async def log(database: Database, tenant: Tenant) -> Sequence[Entry]:
    async with database.transaction(tenant, read_only=True) as work:
        return await work.rows(select(audit_entries).order_by(audit_entries.c.number))


@pytest.fixture
async def ada(database: Database, a: Tenant) -> Actor:
    async with database.transaction(a) as work:
        standing = await roles.come_in(work, subject="ada", name=None, email=None, role=Role.OWNER)
    return Actor(standing.user_id, of_role(Role.OWNER))


@pytest.fixture
async def resource(database: Database, a: Tenant, ada: Actor) -> UUID:
    async with database.transaction(a, about=ABOUT) as work:
        return await resources.create(work, ada, name="map", data={"a": 1})


async def test_what_is_made_changed_and_deleted_is_told_with_its_values(
    database: Database, a: Tenant, ada: Actor, resource: UUID
) -> None:
    async with database.transaction(a, about=ABOUT) as work:
        await resources.update(work, ada, resource, name="atlas")
    async with database.transaction(a, about=ABOUT) as work:
        await resources.delete(work, ada, resource)
    made, changed, deleted = (await log(database, a))[-3:]

    assert [each["action"] for each in (made, changed, deleted)] == [
        "resource:create",
        "resource:update",
        "resource:delete",
    ]
    for each in (made, changed, deleted):
        assert each["object"] == f"res_{resource}"
        assert (each["actor"], each["on_behalf_of"], each["request"]) == ("usr_ada", "key_1", "r-1")
    assert made["old"] is None
    assert made["new"].keys() == {column.name for column in resources.resources.columns}
    assert (made["new"]["name"], made["new"]["data"]) == ("map", {"a": 1})
    assert (changed["old"]["name"], changed["new"]["name"]) == ("map", "atlas")
    assert changed["old"].keys() == changed["new"].keys() == {"name", "updated_at"}
    assert (deleted["old"]["name"], deleted["new"]) == ("atlas", None)


async def test_what_is_shared_and_revoked_is_told_to_its_owner_and_to_nobody_else(
    database: Database, a: Tenant, b: Tenant, ada: Actor, resource: UUID
) -> None:
    before = await log(database, b)
    async with database.transaction(a, about=ABOUT) as work:
        share = await shares.grant(work, ada, "resource", resource, b.slug)
    async with database.transaction(a, about=ABOUT) as work:
        await shares.revoke(work, ada, share)
    granted, revoked = (await log(database, a))[-2:]
    assert [granted["action"], revoked["action"]] == ["share:create", "share:update"]
    assert granted["object"] == revoked["object"] == f"shr_{share}"
    assert granted["new"]["grantee_slug"] == b.slug
    assert "grantee_id" not in granted["new"]
    assert revoked["old"] == {"revoked_at": None}
    assert await log(database, b) == before


async def test_raw_sql_is_told_too_and_what_the_database_deletes_along(
    database: Database, a: Tenant, ada: Actor
) -> None:
    async with database.transaction(a) as work:
        group = await work.scalar(insert(organizations).values(name="g", name_key="g").returning(organizations.c.id))
        await work.execute(insert(memberships).values(organization_id=group, user_id=ada.user_id))
    async with database.transaction(a) as work:
        await work.execute(delete(organizations))
    told = [(entry["action"], entry["object"]) for entry in (await log(database, a))[-4:]]
    both = f"org_{group}/usr_{ada.user_id}"
    assert sorted(told[:2]) == [("membership:create", both), ("organization:create", f"org_{group}")]
    assert sorted(told[2:]) == [("membership:delete", both), ("organization:delete", f"org_{group}")]


async def test_what_is_undone_is_not_told(database: Database, a: Tenant, ada: Actor) -> None:
    before = await log(database, a)
    with pytest.raises(Unavailable):
        async with database.transaction(a) as work:
            await resources.create(work, ada, name="never")
            raise Unavailable("the end")
    async with database.transaction(a) as work:
        assert await tried(work, "INSERT INTO organizations (name, name_key) SELECT '', 'x' RETURNING id") == "23514"
        await work.execute(update(users).values(name="nobody").where(users.c.subject == "nobody"))
        await work.execute(update(users).values(name=users.c.name))
    assert await log(database, a) == before


async def test_long_values_are_told_by_hash_and_size(database: Database, a: Tenant, ada: Actor) -> None:
    async with database.transaction(a) as work:
        await resources.create(work, ada, name="large", data={"text": "x" * 5000})
    entry = (await log(database, a))[-1]
    assert entry["new"]["name"] == "large"
    assert entry["new"]["data"].keys() == {"sha256", "size"}
    assert entry["new"]["data"]["size"] > 5000


async def test_a_statement_on_many_rows_is_told_row_by_row(database: Database, a: Tenant, control: Database) -> None:
    async with database.transaction(a) as work:
        made = select(text("'org ' || i"), text("'org ' || i")).select_from(text("generate_series(1, 2500) i"))
        await work.execute(insert(organizations).from_select(["name", "name_key"], made))
    entries = await log(database, a)
    assert [entry["number"] for entry in entries] == list(range(1, 2501))
    assert len({entry["object"] for entry in entries}) == 2500
    assert (await audit.verify(control, database, a)).broken is None


async def test_tenant_traffic_can_write_nothing_into_a_log_and_nothing_out_of_it(
    copy: Copy, strategy: Strategy, database: Database, login: asyncpg.Connection, a: Tenant, written: int
) -> None:
    before = await log(database, a)
    assert len(before) == written
    name = physical(strategy, a, audit_entries)
    attempts = [
        f"INSERT INTO {name} (number, action, object, hash) VALUES (99, 'resource:create', 'x', '')",
        f"UPDATE {name} SET actor = 'nobody'",
        f"DELETE FROM {name}",
        f"TRUNCATE {name}",
        f"ALTER TABLE {physical(strategy, a, resources.resources)} DISABLE TRIGGER ALL",
        "DELETE FROM control.audit_staged",
        "UPDATE control.audit_heads SET entries = 0",
        "SET LOCAL session_replication_role TO replica",
        "SET LOCAL ROLE isola_audit",
    ]
    async with login.transaction():
        await copy.enter(login, a)
        outcomes = {attempt: await tried(login, attempt) for attempt in attempts}
    assert set(outcomes.values()) == {INSUFFICIENT_PRIVILEGE}, outcomes
    assert await log(database, a) == before


@pytest.mark.parametrize("told", ["SET LOCAL isola.tenant TO ''", "SET LOCAL isola.proof TO 'x'", "RESET ROLE"])
async def test_a_change_whose_entry_cannot_be_written_is_not_made(
    copy: Copy, database: Database, login: asyncpg.Connection, a: Tenant, resource: UUID, told: str
) -> None:
    """Entries are written when the transaction commits; until then its SQL may say of itself what it likes."""
    before = await log(database, a)
    with pytest.raises(asyncpg.PostgresError):
        async with login.transaction():
            await copy.enter(login, a)
            await login.execute(f"UPDATE resources SET name = 'unseen' WHERE id = '{resource}'")
            await login.execute(told)
            if told == "RESET ROLE":
                await login.execute("SET LOCAL isola.tenant TO ''")
    async with database.transaction(a) as work:
        assert await work.scalar(select(resources.resources.c.name)) == "map"
    assert await log(database, a) == before


async def test_many_at_once_make_one_chain(copy: Copy, control: Database, a: Tenant, ada: Actor) -> None:
    async with await Database.open(copy.where.tenant, copy.strategies, copy.binding_key, size=4, wait=30) as many:

        async def change(number: int) -> None:
            async with many.transaction(a) as work:
                await resources.create(work, ada, name=f"r{number}")
                await work.execute(update(users).values(name=f"n{number}"))

        before = (await audit.verify(control, many, a)).entries
        await asyncio.gather(*(change(number) for number in range(40)))
        verdict = await audit.verify(control, many, a)
    assert (verdict.entries, verdict.broken) == (before + 80, None)


async def test_a_tenant_reads_its_own_log_only(
    database: Database, canary_a: Canary, canary_b: Canary, strategy: Strategy
) -> None:
    entries = await log(database, canary_a.tenant)
    assert len(entries) >= len(TABLES)
    assert not canary_b.traced_in(entries)
    async with database.transaction(canary_a.tenant) as work:
        read = await tried(work, f"SELECT * FROM {physical(strategy, canary_b.tenant, audit_entries)}")
    assert not canary_b.traced_in(read)


@pytest.fixture
async def written(database: Database, a: Tenant, ada: Actor) -> int:
    """A log of some entries; how many."""
    for number in range(5):
        async with database.transaction(a) as work:
            await resources.create(work, ada, name=f"r{number}")
    return len(await log(database, a))


@pytest.mark.parametrize(
    ("tampering", "entries", "broken"),
    [
        ("UPDATE {log} SET actor = 'mallory' WHERE number = 4", 3, "entry 4 (aud_"),
        ('UPDATE {log} SET new = new || \'{{"name": "x"}}\' WHERE number = 8', 7, "entry 8 (aud_"),
        ("UPDATE {log} SET at = at + interval '1 microsecond' WHERE number = 1", 0, "entry 1 (aud_"),
        ("DELETE FROM {log} WHERE number = 4", 3, "entry 4 is missing"),
        ("DELETE FROM {log} WHERE number > 9", 9, "entry 10 is missing"),
        ("DELETE FROM {log}", 0, "entry 1 is missing"),
        ("UPDATE {log} SET number = 100 WHERE number = 5; UPDATE {log} SET number = 5 WHERE number = 6", 4, "entry 5"),
        ("INSERT INTO {log} {copied}", None, "is not as it was written"),
        (
            "INSERT INTO {log} (number, {others}) SELECT 0, {others} FROM audit_entries WHERE number = 2",
            0,
            "0 is forged",
        ),
        (
            "INSERT INTO {log} (number, {others}) SELECT -7, {others} FROM audit_entries WHERE number = 2",
            0,
            "-7 is forged",
        ),
        ("UPDATE control.audit_heads SET entries = entries - 1 WHERE tenant_id = '{tenant}'", 10, "was written anew"),
        ("DELETE FROM {log} WHERE number > 9; DELETE FROM control.audit_heads WHERE tenant_id = '{tenant}'", 0, "head"),
        ("INSERT INTO {log} {linked}", 13, "entry 13 is forged: the head counts 12 entries"),
    ],
)
async def test_whoever_owns_the_tables_cannot_change_a_log_unseen(
    copy: Copy,
    owner: Database,
    database: Database,
    control: Database,
    strategy: Strategy,
    a: Tenant,
    written: int,
    tampering: str,
    entries: int | None,
    broken: str,
) -> None:
    whole = await audit.verify(control, database, a)
    assert (whole.entries, whole.broken) == (written, None)
    others = ", ".join(column.name for column in audit_entries.columns if column.name not in {"id", "number"})
    copied = f"(number, {others}) SELECT {written + 1}, {others} FROM audit_entries WHERE number = 2"
    content = "at, actor, on_behalf_of, request, action, object, old, new"
    hashed = content.replace("at,", "extract(epoch FROM at),")
    linked = f"""
        (number, id, {content}, hash)
        SELECT {written + 1}, '{a.id}', {content}, sha256(hash || convert_to(
            jsonb_build_array('{a.id}'::uuid, {written + 1}, '{a.id}'::uuid, {hashed})::text, 'UTF8'
        )) FROM audit_entries WHERE number = {written}
    """
    async with owner.unbound() as work:
        await copy.enter(work._connection, a)
        await work.script("RESET ROLE")
        names = {"log": physical(strategy, a, audit_entries), "others": others, "tenant": a.id}
        await work.script(tampering.format(**names, copied=copied, linked=linked))
    found = await audit.verify(control, database, a)
    assert found.entries == (written if entries is None else entries)
    assert found.broken
    assert broken in found.broken


async def test_a_hash_kept_elsewhere_shows_that_a_log_was_cut_off_together_with_its_head(
    copy: Copy, owner: Database, database: Database, control: Database, strategy: Strategy, a: Tenant, written: int
) -> None:
    known = (await audit.verify(control, database, a)).head
    assert (await audit.verify(control, database, a, known)).broken is None
    name = physical(strategy, a, audit_entries)
    async with owner.unbound() as work:
        await copy.enter(work._connection, a)
        await work.script("RESET ROLE")
        await work.script(f"DELETE FROM {name} WHERE number > 9")
        await work.script(
            f"UPDATE control.audit_heads SET entries = 9, hash = (SELECT hash FROM {name} WHERE number = 9) "
            f"WHERE tenant_id = '{a.id}'"
        )
    found = await audit.verify(control, database, a)
    assert (found.entries, found.broken) == (9, None)
    found = await audit.verify(control, database, a, known)
    assert (found.entries, found.broken) == (9, "the entry with the known hash is missing")
    assert written > found.entries


async def test_without_the_head_of_its_log_nothing_is_written_in_a_tenant(
    owner: Database, database: Database, a: Tenant, ada: Actor
) -> None:
    before = await log(database, a)
    async with owner.unbound() as work:
        await work.script(f"DELETE FROM control.audit_heads WHERE tenant_id = '{a.id}'")
    with pytest.raises(asyncpg.NoDataFoundError):
        async with database.transaction(a) as work:
            await resources.create(work, ada, name="unseen")
    async with database.transaction(a) as work:
        assert await work.value("SELECT count(*) FROM resources") == 0
    assert await log(database, a) == before


async def test_a_tenant_that_is_dropped_takes_its_log_along(
    copy: Copy, owner: Database, database: Database, strategy: Strategy, b: Tenant
) -> None:
    before = await log(database, b)
    made = await provisioning.create(owner, copy.strategies, slug="short", name="Short", strategy=strategy.name)
    async with database.transaction(made) as work:
        await roles.come_in(work, subject="ada", name=None, email=None, role=Role.OWNER)
    await provisioning.drop(owner, copy.strategies, "short", notice=0)
    async with owner.unbound() as work:
        for table in ("audit_heads", "memberships"):
            assert await work.value(f"SELECT count(*) FROM control.{table} WHERE tenant_id = $1", made.id) == 0
        assert await work.value("SELECT count(*) FROM control.audit_staged") == 0
        if Capability.POLICIES in strategy.capabilities:
            left = f"SELECT count(*) FROM {physical(strategy, made, audit_entries)} WHERE tenant_id = $1"
            assert await work.value(left, made.id) == 0
    assert await log(database, b) == before
