"""The platform's data about all tenants: a tenant can read its own, and nothing else."""

from datetime import timedelta
from uuid import UUID, uuid4

import pytest

from isola.database.transactions import Database
from isola.errors import Forbidden, Unavailable
from isola.platform import grants, sessions
from isola.platform.platform_log import Author
from isola.platform.revocations import Revocable
from isola.platform.sessions import Lifetimes
from isola.platform.sign_in_log import Reason, SignInLog
from isola.platform.tenants import Tenant
from isola.subjects.actor import Actor
from isola.testing.oracles.canary import INSUFFICIENT_PRIVILEGE, Canary, tried

ADD = "SELECT isola.add_domain($1)"
SHOWN = "SELECT length(challenge), verified_at, challenge_expires_at - created_at FROM isola.domains() WHERE id = $1"
STAFF = Author("staff:sam")
USER = UUID(int=2)
NOT_NULL_VIOLATION = "23502"


async def test_read_access_to_one_tenant_does_not_include_another(
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
        assert await work.texts("SELECT new::text FROM audit_log WHERE object LIKE '%' || $1", str(leave.id))


async def test_adding_a_domain_does_not_reveal_whether_another_tenant_verified_it(
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


async def test_a_session_begins_once_and_only_in_its_own_tenant(
    control: Database, database: Database, a: Tenant, b: Tenant
) -> None:
    lasts = Lifetimes(session=timedelta(days=1), idle=timedelta(days=1))
    entries = "SELECT count(*) FROM audit_entries WHERE action = 'session:create'"
    async with control.unbound() as work:
        prepared = await sessions.prepare(work, a.id, "ada", lasts)
        old = await sessions.prepare(work, a.id, "ada", lasts)
        await work.value(
            "UPDATE control.sessions SET created_at = now() - interval '2 minutes' WHERE id = $1", old.session.id
        )

    for tenant, key in ((b, prepared.session.id), (b, UUID(int=1)), (a, UUID(int=1)), (a, old.session.id)):
        with pytest.raises(Unavailable):
            async with database.transaction(tenant) as work:
                await sessions.begin(work, key, USER)
    async with control.unbound() as work:
        assert await sessions.refresh(work, "isola", prepared.refresh_token, lasts, b"key") is None
    for tenant in (a, b):
        async with database.transaction(tenant) as work:
            assert await work.value(entries) == 0

    async with database.transaction(a) as work:
        await sessions.begin(work, prepared.session.id, USER)
    with pytest.raises(Unavailable):
        async with database.transaction(a) as work:
            await sessions.begin(work, prepared.session.id, UUID(int=3))
    for tenant, expected in ((a, 1), (b, 0)):
        async with database.transaction(tenant) as work:
            assert await work.value(entries) == expected


async def test_only_the_proved_user_sees_and_ends_their_sessions(
    control: Database, database: Database, a: Tenant, b: Tenant
) -> None:
    lasts = Lifetimes(session=timedelta(days=1), idle=timedelta(days=1))
    other = UUID(int=3)
    made: list[tuple[Tenant, UUID, UUID]] = []
    # In both tenants, users have the same ids: only the tenant tells them apart.
    for tenant, user in ((a, USER), (a, other), (b, USER)):
        async with control.unbound() as work:
            session = (await sessions.prepare(work, tenant.id, "ada", lasts)).session.id
        async with database.transaction(tenant) as work:
            await sessions.begin(work, session, user)
        made.append((tenant, user, session))
    listed = "SELECT id::text FROM isola.own_sessions()"
    end = "SELECT isola.end_own_sessions($1, $2, 'isola')"

    for tenant, user, session in made:
        async with database.transaction(tenant, about=Actor(user, frozenset()).reader) as work:
            assert await work.texts(listed) == [str(session)]
            for foreign in {each for _, _, each in made} - {session}:
                assert await work.value(end, foreign, None) == 0
            assert await work.value(end, None, session) == 0
    for tenant in (a, b):
        async with database.transaction(tenant) as work:
            assert await work.texts(listed) == []
            assert await work.value(end, None, None) == 0
    async with database.transaction(a, about=Actor(USER, frozenset()).reader) as work:
        assert await work.value(end, None, None) == 1
    async with control.unbound() as work:
        ended = await work.texts("SELECT id::text FROM control.sessions WHERE ended_for = 'sign_out'")
        assert ended == [str(made[0][2])]
        revoked = await work.texts("SELECT key FROM control.revocations")
        assert revoked == [Revocable.session("isola", str(made[0][2])).key]


async def test_sign_in_events_are_copied_only_to_their_tenants_log(
    control: Database, database: Database, a: Tenant, b: Tenant
) -> None:
    lasts = Lifetimes(session=timedelta(days=1), idle=timedelta(days=1))
    async with control.unbound() as work:
        prepared = await sessions.prepare(work, a.id, "ada", lasts)
    async with database.transaction(a) as work:
        await sessions.begin(work, prepared.session.id, USER)
    async with control.unbound() as work:
        await sessions.end(work, "isola", prepared.refresh_token)
        await work.value(
            "INSERT INTO control.refusals (tenant_id, reason, address, user_agent, count, due_at) "
            "VALUES ($1, 'password', '', '', 3, now())",
            a.id,
        )
    entries = "SELECT action FROM audit_entries WHERE action IN ('session:delete', 'refusal:create') ORDER BY 1"

    for tenant, expected in ((b, []), (a, ["refusal:create", "session:delete"]), (b, [])):
        async with database.transaction(tenant) as work:
            await work.value("SELECT isola.note_sign_ins()")
        async with database.transaction(tenant) as work:
            assert await work.texts(entries) == expected


async def test_refusals_are_counted_for_the_requested_tenant(
    owner: Database, control: Database, database: Database, a: Tenant, b: Tenant
) -> None:
    async with owner.unbound() as work:
        await work.value(
            "INSERT INTO control.domains (tenant_id, name, challenge, challenge_expires_at, verified_at) "
            "VALUES ($1, 'a.example', '', now(), now()), ($1, 'claimed.example', '', now(), NULL), "
            "($2, 'claimed.example', '', now(), NULL)",
            a.id,
            b.id,
        )
    question = "SELECT tenant_id::text, format('%s %s', reason, count) FROM control.refusals"
    async with SignInLog(control, database) as log:
        for _ in range(3):
            log.refuse(a.id, Reason.PASSWORD)
        for name in (a.slug, str(a.id).upper(), "nobody", str(uuid4()), "a.example", "claimed.example"):
            log.refuse(name, Reason.PASSWORD)
    async with control.unbound() as work:
        assert await work.pairs(question) == {str(a.id): "password 6"}


async def test_the_creator_of_an_api_key_is_the_proved_user(
    control: Database, database: Database, a: Tenant, canary_a: Canary
) -> None:
    """A key has no permission that its creator lacks, so nobody makes one in the name of another."""
    create = "SELECT isola.create_api_key('forged', sha256('x'), 'key', '{}', $1, NULL)"
    user = canary_a.rows["users"]["id"]
    async with database.transaction(a) as work:
        assert await tried(work, create, user) == NOT_NULL_VIOLATION
    async with database.transaction(a, about={"user": str(user)}) as work:
        await work.value(create, uuid4())
    async with control.unbound() as work:
        assert await work.texts("SELECT created_by::text FROM control.api_keys WHERE prefix = 'forged'") == [str(user)]


async def test_a_webhook_belongs_to_its_tenant_and_what_its_secret_is_made_of_is_not_readable(
    owner: Database, database: Database, a: Tenant, b: Tenant
) -> None:
    stored = "SELECT to_jsonb(w)::text || (SELECT count(*) FROM control.dead_letters) FROM control.webhooks w"
    async with database.transaction(b) as work:
        webhook = await work.value("SELECT id FROM isola.create_webhook('https://b.test/', '', '{*}')")
    async with owner.unbound() as work:
        await work.value(
            "INSERT INTO control.dead_letters (tenant_id, webhook_id, number, entry_id, action, attempts, failure) "
            "VALUES ($1, $2, 1, $2, 'a:create', 1, 'TIMEOUT')",
            b.id,
            webhook,
        )
        await work.value(
            "INSERT INTO control.connector_events "
            "(tenant_id, webhook_id, number, first_entry, last_entry, entries, attempt, bytes) "
            "VALUES ($1, $2, 1, 1, 1, 1, 1, 1)",
            b.id,
            webhook,
        )
        before = await work.texts(stored)
    async with database.transaction(a) as work:
        assert await work.texts("SELECT id::text FROM isola.webhooks()") == []
        assert await work.texts("SELECT id::text FROM isola.connector_events($1)", webhook) == []
        assert await work.texts("SELECT id::text FROM isola.dead_letters($1)", webhook) == []
        for call in (
            "update_webhook($1, 'https://a.test/', '', '{*}', false)",
            "disable_webhook($1, 'HTTP_410')",
            "rotate_webhook_secret($1)",
            "delete_webhook($1)",
            "replay_webhook($1, 1)",
        ):
            assert await work.value(f"SELECT isola.{call}", webhook) in {None, False}
    for tenant in (a, b):
        async with database.transaction(tenant) as work:
            for table in ("webhooks", "connector_events", "dead_letters", "secrets"):
                assert await tried(work, f"SELECT * FROM control.{table}") == INSUFFICIENT_PRIVILEGE
    async with owner.unbound() as work:
        assert await work.texts(stored) == before
