"""What a plan does not keep any more goes in batches, with its traces in the log; and nothing else goes."""

import asyncio
from uuid import UUID

import pytest
from sqlalchemy import MetaData, insert, select, text, update
from structlog.testing import capture_logs

from isola.database.transactions import Database
from isola.platform import audit, overrides, provisioning, retention, sealing
from isola.platform.overrides import Kind
from isola.platform.platform_log import Author
from isola.platform.tenants import Tenant
from isola.subjects import roles, shares
from isola.subjects.actor import Actor
from isola.subjects.audit import audit_entries
from isola.subjects.organizations import organizations
from isola.subjects.permissions import Role, of_role
from isola.subjects.resources import create, resources
from isola.subjects.spans import ALL_SPANS, spans
from isola.testing.fixtures import Copy
from isola.testing.isolation.test_audit import followed
from isola.testing.oracles.canary import INSUFFICIENT_PRIVILEGE, log, physical, tried
from isola_strategies.base import Strategy

SAM = Author("staff:sam", None)
# Makes a log older, as if all of it had been written and sealed earlier.
AGED = """
DO $$
DECLARE
    seal control.audit_seals;
    before bytea := '';
    hashes bytea;
BEGIN
    UPDATE {log} SET at = at - interval '{days} days' WHERE id IN (
        SELECT unnest(ids) FROM control.audit_seals WHERE tenant_id = '{tenant}'
    );
    UPDATE {log} SET hash = isola.audit_hash(
        '{tenant}', id, at, actor, on_behalf_of, request, action, object, old, new
    );
    FOR seal IN SELECT * FROM control.audit_seals WHERE tenant_id = '{tenant}' ORDER BY first LOOP
        SELECT string_agg(e.hash, '' ORDER BY n) INTO hashes
        FROM unnest(seal.ids) WITH ORDINALITY u (id, n) JOIN {log} e ON e.id = u.id;
        before := sha256(before || int8send(seal.first) || hashes);
        UPDATE control.audit_seals SET hash = before WHERE tenant_id = '{tenant}' AND first = seal.first;
    END LOOP;
    UPDATE control.audit_heads SET hash = before WHERE tenant_id = '{tenant}';
END $$
"""


# Cuts two more entries off, that are not old enough, in the name of the function that does it.
FURTHER = """
CREATE TABLE further AS SELECT * FROM control.audit_seals WHERE {own} AND first = {cut} + 1;
DELETE FROM {log} WHERE id IN (SELECT unnest(ids) FROM further);
DELETE FROM control.audit_seals WHERE {own} AND first = {cut} + 1;
UPDATE control.audit_checkpoints c SET number = {cut} + 2, hash = further.hash FROM further WHERE c.{own};
SELECT isola.audit_write(
    '{tenant}', '{home}', NULL, NULL, NULL, NULL, NULL, ARRAY['retention:create'], ARRAY['retention:log'],
    ARRAY[NULL::jsonb], ARRAY[jsonb_build_object(
        'days', 7, 'until', now(), 'number', {cut} + 2, 'hash', encode(further.hash, 'hex')
    )]
) FROM further
"""
FORGED_CUT = """
DELETE FROM {log} WHERE id IN (SELECT unnest(ids) FROM control.audit_seals WHERE {own} AND first = {cut} + 1);
WITH gone AS (DELETE FROM control.audit_seals WHERE {own} AND first = {cut} + 1 RETURNING *)
UPDATE control.audit_checkpoints c SET number = {cut} + 2, hash = gone.hash FROM gone WHERE c.{own}
"""
EARLIER_SEAL = """
INSERT INTO control.audit_seals (tenant_id, first, ids, hash)
SELECT tenant_id, number, ARRAY[isola.uuid_v7()], hash FROM control.audit_checkpoints WHERE {own}
"""
EARLIER_ENTRY = """
INSERT INTO {log} (id, at, action, object, hash)
VALUES (isola.uuid_v7(), now() - interval '25 days', 'user:create', 'usr_x', '')
"""
EXPIRE = """
SELECT jsonb_build_array(looked, deleted, last, last_id) FROM isola.expire_rows($1, $2::int, NULL, NULL)
"""


async def vacuumed(owner: Database, table: str) -> None:
    async with owner.unbound() as work:
        await work.script("COMMIT")
        await work.script(f"VACUUM {table}")
        await work.script("BEGIN")


async def keep(control: Database, tenant: Tenant, name: str, days: int | None) -> None:
    await overrides.put(control, SAM, tenant, Kind.RETENTION, name, value=days, reason="a test")


async def write_spans(database: Database, tenant: Tenant, number: int, age: str) -> None:
    """Spans of nobody that were written long ago."""
    written = select(text("'span'"), text("'ghost'"), text(f"now() - interval '{age}'"))
    async with database.transaction(tenant, about={"permissions": ALL_SPANS}) as work:
        rows = insert(spans).from_select(
            ["title", "type", "created_at"], written.select_from(text(f"generate_series(1, {number})"))
        )
        await work.execute(rows)


async def number_of_spans(database: Database, tenant: Tenant) -> int:
    async with database.transaction(tenant, read_only=True, about={"permissions": ALL_SPANS}) as work:
        return int(await work.value("SELECT count(*) FROM spans"))


async def test_rows_that_are_too_old_go_in_batches_and_each_batch_is_one_entry_of_the_log(
    database: Database, control: Database, a: Tenant, b: Tenant
) -> None:
    before, of_other = await number_of_spans(database, a), await number_of_spans(database, b)
    for tenant in (a, b):
        await write_spans(database, tenant, 25, "31 days")
    await write_spans(database, a, 5, "29 days")
    await keep(control, a, "spans", 30)
    assert a.id in [each.id for each in await retention.concerned(control)]
    assert (await retention.expired(database, a))["spans"] == 25

    deleted = await retention.run(database, [a], at_once=10)
    assert {name: number for name, number in deleted.items() if number} == {"spans": 25}
    assert await number_of_spans(database, a) == before + 5
    assert await number_of_spans(database, b) == of_other + 25
    entries = [each for each in await log(database, a) if each["action"].split(":")[0] in {"retention", "span"}]
    batches = [each for each in entries if each["action"] == "retention:create"]
    assert [(each["object"], each["new"]["rows"]) for each in batches] == [
        ("retention:spans", {"span": number}) for number in (10, 10, 5)
    ]
    assert {each["new"]["days"] for each in batches} == {30}
    assert "span:delete" not in {each["action"] for each in entries}
    await sealing.seal(control)
    assert (await audit.verify(control, database, a)).broken is None


async def test_what_others_refer_to_stays_and_keeps_nothing_else(
    copy: Copy, owner: Database, database: Database, control: Database, strategy: Strategy, a: Tenant
) -> None:
    before = await number_of_spans(database, a)
    await write_spans(database, a, 12, "9 days")
    table = physical(strategy, a, spans)
    key = ", ".join(strategy.shape(spans, MetaData()).primary_key.columns.keys())
    async with owner.unbound() as work:
        await copy.enter(work._connection, a)
        await work.script("RESET ROLE")
        await work.script(
            f"CREATE TABLE held AS SELECT {key} FROM {table} WHERE title = 'span' ORDER BY created_at, id LIMIT 3; "
            f"ALTER TABLE held ADD FOREIGN KEY ({key}) REFERENCES {table} ({key}) ON DELETE RESTRICT"
        )
    await keep(control, a, "spans", 7)
    assert (await retention.run(database, [a], at_once=5))["spans"] == 9
    assert await number_of_spans(database, a) == before + 3


async def test_shares_of_rows_that_go_end(
    owner: Database, database: Database, control: Database, strategy: Strategy, a: Tenant, b: Tenant
) -> None:
    """As in an ordinary deletion. No built-in subject is both kept for a time and shared, so one is made so here."""
    table = physical(strategy, a, resources)
    async with owner.unbound() as work:
        await work.script(
            "INSERT INTO control.kept (name, relation, moment) VALUES ('resources', 'resources', 'created_at'); "
            f"GRANT SELECT (id, created_at), UPDATE (id), DELETE ON {table} TO isola_retention; "
            "INSERT INTO control.retention_overrides (tenant_id, retention, days, reason) "
            f"VALUES ('{a.id}', 'resources', 2, 'a test')"
        )
    async with database.transaction(a) as work:
        standing = await roles.admit(work, subject="ada", name=None, email=None, role=Role.OWNER)
        ada = Actor(standing.user_id, of_role(Role.OWNER))
    async with database.transaction(a, about={"user": str(ada.user_id)}) as work:
        made = [await create(work, ada, name=name, data={}) for name in ("old", "new")]
        shared = [await shares.grant(work, ada, "resource", each, b.slug) for each in made]
        await work.execute(update(resources).where(resources.c.id == made[0]).values(created_at=text("'2020-01-01'")))
    async with database.transaction(a) as work:
        _, deleted, *_ = await work.value(EXPIRE, "resources", 100)
    assert deleted >= 1
    async with control.unbound() as work:
        ended = await work.texts("SELECT id::text FROM control.shares WHERE revoked_at IS NOT NULL")
    assert str(shared[0]) in ended
    assert str(shared[1]) not in ended


async def test_sql_inside_a_tenant_deletes_only_what_its_plan_does_not_keep_and_the_rest_is_logged(
    database: Database, control: Database, a: Tenant
) -> None:
    await write_spans(database, a, 3, "9 days")
    before = await number_of_spans(database, a)
    async with database.transaction(a) as work:
        assert await work.value(EXPIRE, "spans", 100) == [0, 0, None, None]
        assert await work.value("SELECT removed FROM isola.cut_log(100)") == 0
        assert await tried(work, "SELECT isola.audit_expiring('span', 1)") == INSUFFICIENT_PRIVILEGE
        assert await tried(work, "INSERT INTO control.expiring (transaction) VALUES ('1')") == INSUFFICIENT_PRIVILEGE
        assert await tried(work, "SET LOCAL ROLE isola_retention") == INSUFFICIENT_PRIVILEGE
    assert await number_of_spans(database, a) == before
    await keep(control, a, "spans", 7)
    async with database.transaction(a, about={"permissions": ALL_SPANS}) as work:
        _, deleted, *_ = await work.value(EXPIRE, "spans", 2)
        await work.script("DELETE FROM spans WHERE title = 'span'")
    assert deleted == 2
    assert [each["action"] for each in (await log(database, a))[-2:]] == ["retention:create", "span:delete"]


async def test_a_tenant_that_refuses_keeps_no_other_from_its_turn(
    database: Database, control: Database, a: Tenant, b: Tenant
) -> None:
    for tenant in (a, b):
        await write_spans(database, tenant, 3, "9 days")
        await keep(control, tenant, "spans", 7)
    before = await number_of_spans(database, a)
    await provisioning.suspend(control, a.slug)
    assert a.id not in [each.id for each in await retention.concerned(control)]
    assert (await retention.run(database, [a, b]))["spans"] == 3
    assert await number_of_spans(database, a) == before


async def test_several_servers_delete_each_row_once(database: Database, control: Database, a: Tenant) -> None:
    await write_spans(database, a, 40, "9 days")
    await keep(control, a, "spans", 7)
    runs = await asyncio.gather(*(retention.run(database, [a], at_once=5) for _ in range(3)))
    assert sum(each["spans"] for each in runs) <= 40
    assert (await retention.expired(database, a))["spans"] == 40 - sum(each["spans"] for each in runs)
    gone = [each["new"]["rows"]["span"] for each in await log(database, a) if each["action"] == "retention:create"]
    assert sum(gone) == sum(each["spans"] for each in runs)


async def test_tables_do_not_grow_while_rows_are_written_and_deleted(
    owner: Database, database: Database, control: Database, strategy: Strategy, a: Tenant
) -> None:
    """Autovacuum is given time by hand; that it comes often enough is a setting of the tables."""
    await keep(control, a, "spans", 7)
    table, sizes = physical(strategy, a, spans), []
    for _ in range(5):
        await write_spans(database, a, 2000, "9 days")
        await retention.run(database, [a])
        await vacuumed(owner, table)
        async with owner.unbound() as work:
            sizes.append(await work.value("SELECT pg_relation_size($1::text::regclass)", table))
    assert sizes[-1] <= sizes[1]
    async with owner.unbound() as work:
        options = await work.texts("SELECT unnest(reloptions) FROM pg_class WHERE oid = $1::text::regclass", table)
    assert "autovacuum_vacuum_scale_factor=0.02" in options


@pytest.fixture
async def old_log(
    copy: Copy, owner: Database, database: Database, control: Database, strategy: Strategy, a: Tenant
) -> list[UUID]:
    """A log with six seals of two entries, 20 days old, and one that is new, with the ids of all entries."""
    for number in range(7):
        async with database.transaction(a) as work:
            for name in (f"{number} x", f"{number} y"):
                await work.execute(insert(organizations).values(name=name, name_key=name))
        if number == 6:
            names = {"log": physical(strategy, a, audit_entries), "tenant": a.id, "days": 20}
            async with owner.unbound() as work:
                await copy.enter(work._connection, a)
                await work.script("RESET ROLE")
                await work.script(AGED.format(**names))
        await sealing.seal(control)
    assert (await audit.verify(control, database, a)).broken is None
    return [each["id"] for each in await followed(database, a)]


async def test_a_log_is_cut_at_a_sealed_checkpoint_from_which_the_rest_verifies(
    database: Database, control: Database, a: Tenant, old_log: list[UUID]
) -> None:
    head = (await audit.verify(control, database, a)).head
    await keep(control, a, "log", 30)
    assert (await retention.run(database, [a]))["log"] == 0
    await keep(control, a, "log", 7)
    assert (await retention.run(database, [a], at_once=4))["log"] == len(old_log) - 2
    for _ in range(2):
        verdict = await audit.verify(control, database, a)
        assert verdict.broken is None
        await sealing.seal(control)
    assert (await audit.verify(control, database, a, head)).broken is None
    kept = await followed(database, a)
    assert [each["number"] for each in kept] == list(range(len(old_log) - 1, len(old_log) - 1 + len(kept)))
    assert [each["id"] for each in kept[:2]] == old_log[-2:]
    last = [each for each in kept if each["action"] == "retention:create"][-1]
    assert (last["object"], last["new"]["number"], last["new"]["days"]) == ("retention:log", len(old_log) - 2, 7)
    # Nothing is a day older than it is kept.
    assert (await retention.run(database, [a]))["log"] == 0


@pytest.mark.parametrize(
    ("tampering", "broken"),
    [
        ("UPDATE control.audit_checkpoints SET number = {cut} - 2 WHERE {own}", "is missing"),
        ("UPDATE control.audit_checkpoints SET number = 0, hash = '' WHERE {own}", "is missing"),
        ("DELETE FROM control.audit_checkpoints WHERE {own}", "is missing"),
        ("UPDATE control.audit_checkpoints SET hash = sha256(hash) WHERE {own}", "are not as they were sealed"),
        (FORGED_CUT, "is forged"),
        ("DELETE FROM control.audit_seals WHERE {own} AND first = {cut} + 1", "is missing"),
        (EARLIER_SEAL, "is forged"),
        (EARLIER_ENTRY, "is forged: it is neither sealed nor waiting"),
        ("{again}", "cut the log further than it was to be kept"),
    ],
)
async def test_changes_of_a_log_that_was_cut_are_detected(
    copy: Copy,
    owner: Database,
    database: Database,
    control: Database,
    strategy: Strategy,
    a: Tenant,
    old_log: list[UUID],
    tampering: str,
    broken: str,
) -> None:
    await keep(control, a, "log", 7)
    await retention.run(database, [a], at_once=4)
    await sealing.seal(control)
    assert (await audit.verify(control, database, a)).broken is None
    table = physical(strategy, a, audit_entries)
    names = {"log": table, "home": table.partition(".")[0], "tenant": a.id, "cut": len(old_log) - 2}
    names["own"] = f"tenant_id = '{a.id}'"
    async with owner.unbound() as work:
        await copy.enter(work._connection, a)
        await work.script("RESET ROLE")
        await work.script(tampering.format(**names, again=FURTHER.format(**names)))
    await sealing.seal(control)
    found = await audit.verify(control, database, a)
    assert found.broken
    assert broken in found.broken


async def test_a_broken_log_is_not_cut(
    copy: Copy,
    owner: Database,
    database: Database,
    control: Database,
    strategy: Strategy,
    a: Tenant,
    old_log: list[UUID],
) -> None:
    await keep(control, a, "log", 7)
    async with owner.unbound() as work:
        await copy.enter(work._connection, a)
        await work.script("RESET ROLE")
        await work.script(f"UPDATE {physical(strategy, a, audit_entries)} SET actor = 'm' WHERE id = '{old_log[4]}'")
    with capture_logs() as logged:
        assert (await retention.run(database, [a]))["log"] == 4
    assert [(each["log_level"], each["entry"]) for each in logged] == [("error", 5)]
    found = await audit.verify(control, database, a)
    assert found.broken is not None
    assert found.broken.startswith("entry 5 (aud_")


async def test_what_a_webhook_has_not_got_stays_for_thirty_days(
    owner: Database, database: Database, control: Database, a: Tenant, old_log: list[UUID]
) -> None:
    await keep(control, a, "log", 7)
    async with owner.unbound() as work:
        await work.script(
            "INSERT INTO control.webhooks (tenant_id, url, description, events, delivered) "
            f"VALUES ('{a.id}', 'https://example.com', '', ARRAY['*'], 5)"
        )
    assert (await retention.run(database, [a]))["log"] == 4
    async with owner.unbound() as work:
        await work.script(f"UPDATE control.webhooks SET enabled = false WHERE tenant_id = '{a.id}'")
    assert (await retention.run(database, [a]))["log"] == len(old_log) - 6
