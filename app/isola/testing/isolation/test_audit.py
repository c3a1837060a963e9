"""Every change has an entry, every entry has its change, and no entry can be removed without detection."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

import asyncpg
import pytest
from sqlalchemy import delete, insert, select, text, update
from structlog.testing import capture_logs

from isola.database.transactions import Database
from isola.errors import Unavailable
from isola.platform import audit, provisioning, sealing
from isola.platform.tenants import Tenant
from isola.subjects import resources, roles, shares
from isola.subjects.actor import Actor
from isola.subjects.audit import audit_entries
from isola.subjects.organizations import memberships, organizations
from isola.subjects.permissions import Role, of_role
from isola.subjects.users import users
from isola.testing.fixtures import Copy
from isola.testing.oracles.canary import INSUFFICIENT_PRIVILEGE, TABLES, Canary, log, physical, tried
from isola.testing.patience import PATIENCE
from isola_strategies.base import Capability, Strategy

ABOUT = {"actor": "usr_ada", "behalf": "key_1", "request": "r-1"}
# With work for every pair of entries, verifying this many takes several times the limit, in seconds; else a fraction.
LONG, LIMIT = 25_000, 4.0
Entry = Mapping[str, Any]


async def followed(database: Database, tenant: Tenant) -> Sequence[Entry]:
    async with database.transaction(tenant, read_only=True, about=audit.WHOLE) as work:
        return await sealing.follow(work, 0, 100_000)


@pytest.fixture
async def ada(database: Database, a: Tenant) -> Actor:
    async with database.transaction(a) as work:
        standing = await roles.admit(work, subject="ada", name=None, email=None, role=Role.OWNER)
    return Actor(standing.user_id, of_role(Role.OWNER))


@pytest.fixture
async def resource(database: Database, a: Tenant, ada: Actor) -> UUID:
    async with database.transaction(a, about=ABOUT) as work:
        return await resources.create(work, ada, name="map", data={"a": 1})


async def test_creations_changes_and_deletions_are_logged_with_their_values(
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


async def test_sharing_and_revoking_are_logged_at_once_for_the_owner_only(
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


async def test_raw_sql_and_cascading_deletions_are_logged(database: Database, a: Tenant, ada: Actor) -> None:
    async with database.transaction(a) as work:
        group = await work.scalar(insert(organizations).values(name="g", name_key="g").returning(organizations.c.id))
        await work.execute(insert(memberships).values(organization_id=group, user_id=ada.user_id))
    async with database.transaction(a) as work:
        await work.execute(delete(organizations))
    logged = [(entry["action"], entry["object"]) for entry in (await log(database, a))[-4:]]
    both = f"org_{group}/usr_{ada.user_id}"
    assert sorted(logged[:2]) == [("membership:create", both), ("organization:create", f"org_{group}")]
    assert sorted(logged[2:]) == [("membership:delete", both), ("organization:delete", f"org_{group}")]


async def test_rolled_back_changes_are_not_logged(database: Database, a: Tenant, ada: Actor) -> None:
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


async def test_long_values_are_logged_as_hash_and_size(database: Database, a: Tenant, ada: Actor) -> None:
    async with database.transaction(a) as work:
        await resources.create(work, ada, name="large", data={"text": "x" * 5000})
    entry = (await log(database, a))[-1]
    assert entry["new"]["name"] == "large"
    assert entry["new"]["data"].keys() == {"sha256", "size"}
    assert entry["new"]["data"]["size"] > 5000


async def test_a_statement_on_many_rows_is_logged_row_by_row(database: Database, a: Tenant, control: Database) -> None:
    async with database.transaction(a) as work:
        made = select(text("'org ' || i"), text("'org ' || i")).select_from(text("generate_series(1, 2500) i"))
        await work.execute(insert(organizations).from_select(["name", "name_key"], made))
    await sealing.seal(control)
    entries = await followed(database, a)
    assert [entry["number"] for entry in entries] == list(range(1, 2501))
    assert len({entry["object"] for entry in entries}) == 2500
    assert (await audit.verify(control, database, a)).broken is None


async def test_tenant_traffic_cannot_modify_a_log(
    copy: Copy, strategy: Strategy, database: Database, login: asyncpg.Connection, a: Tenant, written: int
) -> None:
    before = await log(database, a)
    assert len(before) == written
    name = physical(strategy, a, audit_entries)
    attempts = [
        f"INSERT INTO {name} (action, object, hash) VALUES ('resource:create', 'x', '')",
        f"UPDATE {name} SET actor = 'nobody'",
        f"DELETE FROM {name}",
        f"TRUNCATE {name}",
        f"ALTER TABLE {physical(strategy, a, resources.resources)} DISABLE TRIGGER ALL",
        "DELETE FROM control.audit_pending",
        "UPDATE control.audit_pending SET place = 0",
        "SELECT nextval('control.audit_places')",
        "LOCK TABLE control.audit_pending",
        "DELETE FROM control.audit_seals",
        "SELECT control.seal(1)",
        "UPDATE control.audit_heads SET entries = 0",
        "SET LOCAL session_replication_role TO replica",
        "SET LOCAL ROLE isola_audit",
    ]
    async with login.transaction():
        await copy.enter(login, a)
        outcomes = {attempt: await tried(login, attempt) for attempt in attempts}
    assert set(outcomes.values()) == {INSUFFICIENT_PRIVILEGE}, outcomes
    assert await log(database, a) == before


@pytest.mark.parametrize("said", ["SET LOCAL isola.tenant TO ''", "SET LOCAL isola.proof TO 'x'", "RESET ROLE"])
async def test_changing_the_context_later_changes_no_entry(
    copy: Copy, database: Database, login: asyncpg.Connection, a: Tenant, resource: UUID, said: str
) -> None:
    before = await log(database, a)
    async with login.transaction():
        await copy.enter(login, a)
        await login.execute(f"UPDATE resources SET name = 'seen' WHERE id = '{resource}'")
        await login.execute(said)
    *others, entry = await log(database, a)
    assert others == before
    assert (entry["action"], entry["new"]["name"]) == ("resource:update", "seen")


@pytest.mark.parametrize("said", ["SET LOCAL isola.tenant TO ''", "SET LOCAL isola.proof TO 'x'"])
async def test_a_change_without_an_audit_entry_is_rolled_back(
    copy: Copy, database: Database, login: asyncpg.Connection, a: Tenant, resource: UUID, said: str
) -> None:
    before = await log(database, a)
    async with login.transaction():
        await copy.enter(login, a)
        await login.execute(said)
        await tried(login, f"UPDATE resources SET name = 'unseen' WHERE id = '{resource}'")
    async with database.transaction(a) as work:
        assert await work.scalar(select(resources.resources.c.name)) == "map"
    assert await log(database, a) == before


async def test_concurrent_entries_form_one_chain(
    copy: Copy, database: Database, control: Database, a: Tenant, ada: Actor
) -> None:
    async with await Database.open(copy.where.tenant, copy.strategies, copy.binding_key, size=4, wait=30) as many:

        async def change(number: int) -> None:
            async with many.transaction(a) as work:
                await resources.create(work, ada, name=f"r{number}")
                await work.execute(update(users).values(name=f"n{number}"))

        before = (await audit.verify(control, many, a)).entries
        # Several sealers run while entries are written.
        await asyncio.gather(*(change(number) for number in range(40)), *(sealing.seal(control) for _ in range(40)))
        while await sealing.seal(control):
            pass
        verdict = await audit.verify(control, many, a)
    assert (verdict.entries, verdict.unsealed, verdict.broken) == (before + 80, 0, None)
    assert [entry["number"] for entry in await followed(database, a)] == list(range(1, before + 81))


async def test_entries_are_numbered_in_the_order_of_commits(
    copy: Copy, control: Database, a: Tenant, ada: Actor
) -> None:
    async with await Database.open(copy.where.tenant, copy.strategies, copy.binding_key, size=4, wait=30) as two:
        async with two.transaction(a) as first:
            await resources.create(first, ada, name="written first")
            async with two.transaction(a) as second:
                await resources.create(second, ada, name="committed first")
            await sealing.seal(control)
        await sealing.seal(control)
        names = [entry["new"]["name"] for entry in (await followed(two, a))[-2:]]
    assert names == ["committed first", "written first"]


async def test_following_a_log_returns_each_entry_once_from_any_number(
    database: Database, a: Tenant, written: int
) -> None:
    whole = await followed(database, a)
    assert len(whole) == written
    for most in (1, 3, written):
        got: list[Entry] = []
        async with database.transaction(a, read_only=True, about=audit.WHOLE) as work:
            while page := await sealing.follow(work, got[-1]["number"] if got else 0, most):
                assert len(page) <= most
                got += page
        assert got == whole


async def test_the_sealer_skips_no_transaction_that_is_about_to_commit(
    copy: Copy, database: Database, control: Database, login: asyncpg.Connection, a: Tenant, ada: Actor
) -> None:
    while await sealing.seal(control):
        pass
    before = await followed(database, a)
    async with login.transaction():
        await copy.enter(login, a)
        await login.execute("INSERT INTO organizations (name, name_key) VALUES ('slow', 'slow')")
        # As at its commit.
        await login.execute("SET CONSTRAINTS ALL IMMEDIATE")
        async with database.transaction(a) as work:
            await resources.create(work, ada, name="quick")
        assert await sealing.seal(control) is None
        behind = await sealing.lag(control)
        assert (behind.entries, behind.committing) == (1, [login.get_server_pid()])
        assert await followed(database, a) == before
        with capture_logs() as logged:
            await sealing.Sealer(control, alarm=0).turn()
        assert [entry["event"] for entry in logged] == ["entries of audit logs are not sealed"]
    assert await sealing.seal(control) == 2
    assert [entry["object"][:4] for entry in (await followed(database, a))[len(before) :]] == ["org_", "res_"]
    assert (await sealing.lag(control)).entries == 0


async def test_a_tenant_reads_its_own_log_only(
    database: Database, canary_a: Canary, canary_b: Canary, strategy: Strategy
) -> None:
    entries = await log(database, canary_a.tenant)
    assert len(entries) >= len(TABLES)
    assert not canary_b.traced_in(entries)
    async with database.transaction(canary_a.tenant, about=canary_a.about) as work:
        read = await tried(work, f"SELECT * FROM {physical(strategy, canary_b.tenant, audit_entries)}")
    assert not canary_b.traced_in(read)


@pytest.fixture
async def written(database: Database, control: Database, a: Tenant, ada: Actor) -> int:
    """Write some log entries, sealed in several turns; returns their number."""
    await sealing.seal(control)
    for number in range(4):
        async with database.transaction(a) as work:
            await resources.create(work, ada, name=f"r{number}")
            await resources.create(work, ada, name=f"s{number}")
        await sealing.seal(control)
    return len(await log(database, a))


REHASHED = """hash = isola.audit_hash(
    '{tenant}', id, at, 'mallory', on_behalf_of, request, action, object, old, new
)"""
ANEW = f"UPDATE {{log}} SET actor = 'mallory', {REHASHED} WHERE id = "
LAST = "first = {last} AND tenant_id = '{tenant}'"
COPIED = "INSERT INTO {log} ({others}) SELECT {others} FROM audit_entries WHERE id = '{ids[1]}'"
FORGED = f"""
{COPIED};
UPDATE {{log}} SET hash = isola.audit_hash(
    '{{tenant}}', id, at, actor, on_behalf_of, request, action, object, old, new
) WHERE NOT id = ANY (CAST('{{{{{{listed}}}}}}' AS uuid[]));
INSERT INTO control.audit_seals (tenant_id, first, ids, hash)
SELECT h.tenant_id, {{next}}, ARRAY[e.id], sha256(h.hash || int8send({{next}}) || e.hash)
FROM control.audit_heads h, audit_entries e
WHERE h.tenant_id = '{{tenant}}' AND NOT e.id = ANY (CAST('{{{{{{listed}}}}}}' AS uuid[]))
"""
CUT = f"DELETE FROM control.audit_seals WHERE {LAST}; DELETE FROM {{log}} WHERE id IN ('{{ids[-1]}}', '{{ids[-2]}}')"


@pytest.mark.parametrize(
    ("tampering", "entries", "broken"),
    [
        ("UPDATE {log} SET actor = 'mallory' WHERE id = '{ids[3]}'", 3, "entry 4 (aud_"),
        ("UPDATE {log} SET new = new || '{{\"name\": \"x\"}}' WHERE id = '{ids[7]}'", 7, "entry 8 (aud_"),
        ("UPDATE {log} SET at = at + interval '1 microsecond' WHERE id = '{ids[0]}'", 0, "entry 1 (aud_"),
        ("DELETE FROM {log} WHERE id = '{ids[3]}'", 3, "entry 4 is missing"),
        ("DELETE FROM {log} WHERE id > '{ids[8]}'", 9, "entry 10 is missing"),
        ("DELETE FROM {log}", 0, "entry 1 is missing"),
        (
            f"UPDATE {{log}} SET actor = 'mallory', {REHASHED} WHERE id = '{{ids[8]}}'",
            None,
            "are not as they were sealed",
        ),
        (f"UPDATE control.audit_seals SET ids = ARRAY[ids[2], ids[1]] WHERE {LAST}", None, "not as they were sealed"),
        (
            "UPDATE control.audit_seals SET first = -first WHERE first >= {last} - 2 AND tenant_id = '{tenant}'",
            0,
            "is forged",
        ),
        ("DELETE FROM control.audit_seals WHERE first = 1 AND tenant_id = '{tenant}'", 0, "entry 1 is missing"),
        (f"DELETE FROM control.audit_seals WHERE {LAST}", None, "is forged"),
        (CUT, None, "is missing: there were"),
        (COPIED, None, "is forged: it is neither sealed nor waiting to be sealed"),
        (FORGED, None, "is forged: the head counts"),
        ("UPDATE control.audit_heads SET entries = entries - 1 WHERE tenant_id = '{tenant}'", None, "the head counts"),
        ("UPDATE control.audit_heads SET hash = sha256(hash) WHERE tenant_id = '{tenant}'", None, "was written anew"),
        ("DELETE FROM control.audit_heads WHERE tenant_id = '{tenant}'", 0, "head"),
    ],
)
async def test_changes_of_a_log_by_the_table_owner_are_detected(
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
    assert (whole.entries, whole.unsealed, whole.broken) == (written, 0, None)
    await tamper(copy, owner, database, strategy, a, tampering)
    found = await audit.verify(control, database, a)
    assert found.broken
    assert broken in found.broken
    assert entries is None or found.entries == entries


async def test_a_long_log_is_verified_within_the_time_limit_of_a_statement(
    copy: Copy, database: Database, control: Database, a: Tenant
) -> None:
    before = (await audit.verify(control, database, a)).entries
    async with database.transaction(a) as work:
        await work.script(
            f"INSERT INTO organizations (name, name_key) SELECT n, n FROM generate_series(1, {LONG}) g, "
            "LATERAL (SELECT 'long' || g AS n) names"
        )
    async with await Database.open(
        copy.where.tenant, copy.strategies, copy.binding_key, wait=PATIENCE, statement_timeout=LIMIT
    ) as limited:
        waiting = await audit.verify(control, limited, a)
        while await sealing.seal(control):
            pass
        sealed = await audit.verify(control, limited, a)
    assert (waiting.entries, waiting.broken) == (before + LONG, None)
    assert (sealed.entries, sealed.unsealed, sealed.broken) == (before + LONG, 0, None)


@pytest.mark.parametrize(
    ("tampering", "broken"),
    [
        ("UPDATE {log} SET actor = 'mallory' WHERE id = '{unsealed}'", "is not as it was written"),
        (ANEW + "'{unsealed}'", "is not as it was written"),
        ("DELETE FROM {log} WHERE id = '{unsealed}'", "is missing"),
        ("DELETE FROM control.audit_pending WHERE ids[1] = '{unsealed}'", "neither sealed nor waiting"),
        ("UPDATE control.audit_pending SET hashes[1] = '' WHERE ids[1] = '{unsealed}'", "is not as it was written"),
        (COPIED, "neither sealed nor waiting"),
    ],
)
async def test_an_unsealed_entry_cannot_be_changed_undetected(
    copy: Copy,
    owner: Database,
    database: Database,
    control: Database,
    strategy: Strategy,
    a: Tenant,
    ada: Actor,
    written: int,
    tampering: str,
    broken: str,
) -> None:
    async with database.transaction(a) as work:
        await resources.create(work, ada, name="not sealed yet")
    whole = await audit.verify(control, database, a)
    assert (whole.entries, whole.unsealed, whole.broken) == (written + 1, 1, None)
    await tamper(copy, owner, database, strategy, a, tampering)
    found = await audit.verify(control, database, a)
    assert (found.entries - found.unsealed) == written
    assert found.broken
    assert broken in found.broken
    # Sealing does not hide the manipulation.
    await sealing.seal(control)
    assert (await audit.verify(control, database, a)).broken


async def tamper(
    copy: Copy, owner: Database, database: Database, strategy: Strategy, tenant: Tenant, tampering: str
) -> None:
    """Manipulate a log as only the owner of the tables can."""
    followed_before = await followed(database, tenant)
    ids = [entry["id"] for entry in followed_before]
    [*_, newest] = await log(database, tenant)
    names = {
        "log": physical(strategy, tenant, audit_entries),
        "others": ", ".join(column.name for column in audit_entries.columns if column.name != "id"),
        "tenant": tenant.id,
        "ids": Ids(ids),
        "listed": ",".join(map(str, ids)),
        "last": len(ids) - 1,
        "next": len(ids) + 1,
        "unsealed": newest["id"],
    }
    async with owner.unbound() as work:
        await copy.enter(work._connection, tenant)
        await work.script("RESET ROLE")
        await work.script(tampering.format(**names))


class Ids(list[UUID]):
    """Ids by number, from behind as well: a format knows no negative index."""

    def __getitem__(self, index: Any) -> Any:
        return super().__getitem__(int(index))


async def test_a_known_hash_detects_a_log_truncated_together_with_its_head(
    copy: Copy, owner: Database, database: Database, control: Database, strategy: Strategy, a: Tenant, written: int
) -> None:
    known = (await audit.verify(control, database, a)).head
    assert (await audit.verify(control, database, a, known)).broken is None
    await tamper(
        copy,
        owner,
        database,
        strategy,
        a,
        CUT + "; UPDATE control.audit_heads SET entries = {last} - 1, hash = ("
        "SELECT hash FROM control.audit_seals WHERE tenant_id = '{tenant}' ORDER BY first DESC LIMIT 1"
        ") WHERE tenant_id = '{tenant}'",
    )
    found = await audit.verify(control, database, a)
    assert (found.entries, found.broken) == (written - 2, None)
    found = await audit.verify(control, database, a, known)
    assert (found.entries, found.broken) == (written - 2, "the seal with the known hash is missing")


@pytest.mark.parametrize(
    ("tampering", "broken"),
    [
        ("DELETE FROM control.audit_heads WHERE tenant_id = '{tenant}'", "its head is missing"),
        ("UPDATE control.audit_heads SET entries = 0 WHERE tenant_id = '{tenant}'", "the head counts 0 entries"),
    ],
    ids=["without a head", "behind its seals"],
)
async def test_a_log_without_a_head_is_not_sealed_and_others_are(
    owner: Database, database: Database, control: Database, a: Tenant, b: Tenant, tampering: str, broken: str
) -> None:
    async with database.transaction(a) as work:
        await work.execute(insert(organizations).values(name="f", name_key="f"))
    while await sealing.seal(control):
        pass
    async with owner.unbound() as work:
        await work.script(tampering.format(tenant=a.id))
    for tenant in (a, b):
        async with database.transaction(tenant) as work:
            await work.execute(insert(organizations).values(name="g", name_key="g"))
    before = len(await followed(database, b))
    assert await sealing.seal(control) == 1
    assert len(await followed(database, b)) == before + 1
    assert (await sealing.lag(control)).entries == 1
    with capture_logs() as logged:
        await sealing.Sealer(control, alarm=0).turn()
    assert [entry["event"] for entry in logged] == ["entries of audit logs are not sealed"]
    assert broken in str((await audit.verify(control, database, a)).broken)


async def test_dropping_a_tenant_erases_its_log(
    copy: Copy, owner: Database, database: Database, strategy: Strategy, b: Tenant
) -> None:
    before = await log(database, b)
    made = await provisioning.create(owner, copy.strategies, slug="short", name="Short", strategy=strategy.name)
    async with database.transaction(made) as work:
        await roles.admit(work, subject="ada", name=None, email=None, role=Role.OWNER)
    await provisioning.drop(owner, copy.strategies, "short", notice=0)
    async with owner.unbound() as work:
        for table in ("audit_heads", "audit_pending", "audit_seals", "memberships"):
            assert await work.value(f"SELECT count(*) FROM control.{table} WHERE tenant_id = $1", made.id) == 0
        if Capability.POLICIES in strategy.capabilities:
            left = f"SELECT count(*) FROM {physical(strategy, made, audit_entries)} WHERE tenant_id = $1"
            assert await work.value(left, made.id) == 0
    assert await log(database, b) == before
