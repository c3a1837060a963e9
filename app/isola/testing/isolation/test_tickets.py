"""Sessions that have only SQL enter a tenant with a ticket, once, and reach what its user may reach.

Their logins have no right on any table: only functions, which the policies apply to.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack

import asyncpg
import pytest
from sqlalchemy import delete, func, insert, literal, select, update

from isola.database.transactions import Database
from isola.errors import Forbidden, QuotaExceeded
from isola.platform import provisioning
from isola.platform.tenants import Tenant
from isola.subjects import roles, tickets
from isola.subjects.actor import Actor
from isola.subjects.organizations import memberships, organizations
from isola.subjects.permissions import Role, all_permissions
from isola.subjects.tickets import Ticket
from isola.testing import pgbouncer
from isola.testing.fixtures import Copy
from isola.testing.isolation.test_binding import NOT_PROVED
from isola.testing.oracles.canary import INSUFFICIENT_PRIVILEGE, Canary, content
from isola.testing.sql_sessions import Analyst, analyst as made_analyst
from isola_strategies.base import Strategy

REFUSED = "IS006"
NOT_ACTIVE = "IS001"
BAD_VALUE = "22023"
NO_TICKET = "this transaction has no ticket: expected BEGIN, then SELECT isola.enter('…')"
TIMELINE = "SELECT * FROM isola.get_tenant_timeline()"
STATISTICS = "SELECT isola.get_tenant_stats('2000-01-01', '2000-12-31')"
SPAN = "SELECT isola.create_tenant_span('a span')"
RESOURCE = """SELECT isola.create_resource('{"name": "a resource"}')"""
PROOF = "current_setting('isola.proof')"
CALLS = (TIMELINE, STATISTICS, SPAN, RESOURCE)


@pytest.fixture
async def analyst(copy: Copy, server: asyncpg.Connection) -> AsyncIterator[Analyst]:
    async with made_analyst(copy, server) as made:
        yield made


@pytest.fixture
async def session(analyst: Analyst) -> asyncpg.Connection:
    return await analyst.session()


@pytest.fixture
async def ada(database: Database, a: Tenant) -> Actor:
    """A user of A with all permissions."""
    return await user(database, a, "ada")


async def user(database: Database, tenant: Tenant, subject: str, role: Role = Role.OWNER) -> Actor:
    async with database.transaction(tenant) as work:
        standing = await roles.admit(work, subject=subject, name=None, email=None, role=role)
        # A user who was there before keeps their roles.
        has = roles.user_roles.insert().from_select(
            ["user_id", "role_id"],
            select(literal(standing.user_id), roles.roles.c.id).where(
                roles.roles.c.name == role.value, literal(role.value).not_in(standing.roles)
            ),
        )
        await work.execute(has)
    return Actor(standing.user_id, all_permissions())


async def issue(database: Database, tenant: Tenant, actor: Actor, process: int | None = None) -> str:
    async with database.transaction(tenant, about={**actor.reader, "actor": f"usr_{actor.user_id}"}) as work:
        return (await tickets.issue(work, actor, process=process)).text


async def enter(session: asyncpg.Connection, ticket: str) -> None:
    await session.execute("SELECT isola.enter($1)", ticket)


async def refusal(session: asyncpg.Connection, sql: str, *values: object) -> tuple[str, str]:
    """The SQLSTATE and the message with which a statement is refused."""
    with pytest.raises(asyncpg.PostgresError) as caught:
        async with session.transaction():
            await session.fetch(sql, *values)
    return str(caught.value.sqlstate), str(caught.value)


async def outcome(session: asyncpg.Connection, sql: str) -> str:
    """What a statement returns, or the SQLSTATE of its error."""
    try:
        async with session.transaction():
            return str(await session.fetch(sql))
    except asyncpg.PostgresError as error:
        return str(error.sqlstate)


async def test_a_session_with_a_ticket_acts_as_its_user_and_the_log_says_so(
    session: asyncpg.Connection, database: Database, a: Tenant, ada: Actor
) -> None:
    ticket = await issue(database, a, ada)
    async with session.transaction():
        await enter(session, ticket)
        assert await session.fetchval("SELECT isola.current_user_id()") == ada.user_id
        assert await session.fetchval("SELECT isola.current_tenant_id()") == a.id
        span, resource = await session.fetchval(SPAN), await session.fetchval(RESOURCE)
        [row] = await session.fetch(TIMELINE)
    assert (row["id"], row["title"], row["type"], row["visibility"]) == (span, "a span", "USER", "PRIVATE")
    assert row["author"] == f"usr_{ada.user_id}"
    async with database.transaction(a, about=ada.reader) as work:
        found = "SELECT owner_id FROM resources WHERE concat('res_', id) = $1"
        assert await work.value(found, resource) == ada.user_id
        entries = await work.texts("SELECT concat_ws(' ', actor, action, request) FROM audit_log ORDER BY at, id")
    [issued] = [entry for entry in entries if "ticket:create" in entry]
    request = next(entry.split()[-1] for entry in entries if "span:create" in entry)
    assert issued.startswith(f"usr_{ada.user_id} ")
    assert request.startswith("tkt_")
    assert {entry for entry in entries if entry.endswith(request)} == {
        f"usr_{ada.user_id} {action} {request}" for action in ("ticket:update", "span:create", "resource:create")
    }
    # Nothing of it outlives the transaction.
    assert await session.fetchval("SELECT isola.current_user_id()") is None


async def test_without_a_ticket_every_function_refuses_and_the_login_has_no_right_on_a_table(
    session: asyncpg.Connection, strategy: Strategy, copy: Copy, a: Tenant
) -> None:
    for sql in CALLS:
        assert await refusal(session, sql) == (REFUSED, NO_TICKET)
    home, roles_of = strategy.home(a.id), copy.where.roles
    for sql in (
        f"SELECT * FROM {home.schema}.spans",
        "SELECT * FROM control.tickets",
        f"SET ROLE {home.role or copy.where.tenant_login}",
        f"SET ROLE {roles_of.sql_functions}",
        f"SET ROLE {roles_of.sharing}",
        "SELECT isola.entered('span:read')",
        f"SELECT isola.proof_of('{a.id}')",
        "SELECT isola.issue_ticket('', '{}', NULL, NULL, 5)",
        "SELECT isola.bound_tenant()",
    ):
        assert (await refusal(session, sql))[0] == INSUFFICIENT_PRIVILEGE, sql


async def test_with_a_ticket_it_reaches_neither_tables_nor_another_tenant(
    session: asyncpg.Connection,
    strategy: Strategy,
    database: Database,
    a: Tenant,
    b: Tenant,
    ada: Actor,
    canary_b: Canary,
) -> None:
    before = await content(database, b)
    homes = [strategy.home(each.id).schema for each in (a, b)]
    for sql in (
        *(f"SELECT * FROM {home}.spans" for home in homes),
        *(f"INSERT INTO {home}.spans (title) VALUES ('t')" for home in homes),
        f"SELECT set_config('search_path', '{homes[1]}', true), isola.get_tenant_timeline()",
        f"SELECT set_config('isola.tenant', '{b.id}', true), isola.get_tenant_timeline()",
        f"SELECT set_config('isola.home', '{homes[1]}', true), isola.get_tenant_timeline()",
        f"SELECT set_config('isola.proof', replace({PROOF}, '{a.id}', '{b.id}'), true), isola.get_tenant_timeline()",
        f"SELECT isola.create_tenant_span('t', resource => 'res_{canary_b.rows['resources']['id']}')",
        f"SELECT isola.get_tenant_timeline(after => 'spn_{canary_b.rows['spans']['id']}')",
        f"SELECT isola.get_tenant_timeline(of_author => 'usr_{canary_b.rows['users']['id']}')",
    ):
        async with session.transaction():
            await enter(session, await issue(database, a, ada))
            shown = await outcome(session, sql)
            assert not canary_b.traced_in(shown), sql
            assert shown in {"[]", INSUFFICIENT_PRIVILEGE, NOT_PROVED, BAD_VALUE}, (sql, shown)
    assert await content(database, b) == before


async def test_a_row_that_the_user_may_not_see_is_in_no_answer(
    session: asyncpg.Connection, database: Database, a: Tenant, canary_a: Canary
) -> None:
    """The canary's spans are private."""
    stranger = await user(database, a, "stranger")
    hidden = canary_a.rows["spans"]
    async with session.transaction():
        await enter(session, await issue(database, a, Actor(stranger.user_id, frozenset({"span:read", "span:write"}))))
        assert await session.fetch(TIMELINE) == []
        assert '"spans": 0' in await session.fetchval("SELECT isola.get_tenant_stats('2020-01-01', '2020-12-31')")
        made = await session.fetchval("SELECT isola.create_tenant_span('boo', type => 'GHOST')")
        assert made is None
    after = f"SELECT isola.get_tenant_timeline(after => 'spn_{hidden['id']}')"
    assert (await refusal_inside(session, database, a, stranger, after))[0] == BAD_VALUE
    author = await user(database, a, canary_a.rows["users"]["subject"])
    async with session.transaction():
        await enter(session, await issue(database, a, author))
        assert f"spn_{hidden['id']}" in [row["id"] for row in await session.fetch(TIMELINE)]


async def refusal_inside(
    session: asyncpg.Connection, database: Database, tenant: Tenant, actor: Actor, sql: str
) -> tuple[str, str]:
    ticket = await issue(database, tenant, actor)
    with pytest.raises(asyncpg.PostgresError) as caught:
        async with session.transaction():
            await enter(session, ticket)
            await session.fetch(sql)
    return str(caught.value.sqlstate), str(caught.value)


@pytest.mark.parametrize(
    ("permissions", "sql", "needed"),
    [
        ({"span:write"}, TIMELINE, "span:read"),
        ({"span:write"}, STATISTICS, "span:read"),
        ({"span:read"}, SPAN, "span:write"),
        ({"resource:read", "span:write"}, RESOURCE, "resource:write"),
    ],
)
async def test_each_function_needs_the_permission_of_the_api(
    permissions: set[str],
    sql: str,
    needed: str,
    session: asyncpg.Connection,
    database: Database,
    a: Tenant,
    ada: Actor,
) -> None:
    refused = await refusal_inside(session, database, a, Actor(ada.user_id, permissions), sql)
    assert refused == (INSUFFICIENT_PRIVILEGE, f"this needs the permission {needed}")


async def test_a_ticket_is_used_once_in_one_session_and_one_tenant(
    analyst: Analyst, session: asyncpg.Connection, database: Database, a: Tenant, b: Tenant, ada: Actor
) -> None:
    other, ticket = await analyst.session(), await issue(database, a, ada)
    forged = f"{ticket[:-1]}{'A' if ticket[-1] != 'A' else 'B'}"
    enter_with = "SELECT isola.enter($1)"
    assert await refusal(session, enter_with, forged) == (REFUSED, "there is no such ticket")
    async with session.transaction():
        await enter(session, ticket)
        of_b = await issue(database, b, await user(database, b, "ada"))
        with pytest.raises(asyncpg.PostgresError, match="inside a tenant already"):
            async with session.transaction():
                await enter(session, of_b)
        # Another session learns the ticket, and the proof, while the first one uses it.
        assert await refusal(other, enter_with, ticket) == (REFUSED, "the ticket was used in another session")
        proof = await session.fetchval(f"SELECT {PROOF}")
        set_both = "set_config('isola.tenant', $1, true), set_config('isola.proof', $2, true)"
        stolen = f"SELECT {set_both}, isola.current_user_id()"
        assert (await refusal(other, stolen, str(a.id), proof))[0] == NOT_PROVED
    assert await refusal(session, enter_with, ticket) == (REFUSED, "the ticket was used before")
    await session.close()
    assert await refusal(other, enter_with, ticket) == (REFUSED, "the ticket was used before")
    assert (await refusal(other, stolen, str(a.id), proof))[0] == NOT_PROVED


async def test_a_ticket_of_a_transaction_that_was_rolled_back_stays_with_its_session(
    analyst: Analyst, session: asyncpg.Connection, database: Database, a: Tenant, ada: Actor
) -> None:
    other, ticket = await analyst.session(), await issue(database, a, ada)
    with pytest.raises(asyncpg.PostgresError):
        async with session.transaction():
            await enter(session, ticket)
            await session.execute("SELECT 1 / 0")
    enter_with = "SELECT isola.enter($1)"
    assert await refusal(other, enter_with, ticket) == (REFUSED, "the ticket was used in another session")
    async with session.transaction():
        await enter(session, ticket)
        assert await session.fetch(TIMELINE) == []


async def test_a_ticket_for_one_process_is_of_no_use_to_another(
    analyst: Analyst, session: asyncpg.Connection, database: Database, a: Tenant, ada: Actor
) -> None:
    other = await analyst.session()
    ticket = await issue(database, a, ada, process=session.get_server_pid())
    assert await refusal(other, "SELECT isola.enter($1)", ticket) == (REFUSED, "the ticket is for another session")
    async with session.transaction():
        await enter(session, ticket)
        assert await session.fetch(TIMELINE) == []


async def test_behind_pgbouncer_a_ticket_is_of_no_use_to_the_other_clients_of_a_server_connection(
    analyst: Analyst, session: asyncpg.Connection, database: Database, a: Tenant, ada: Actor
) -> None:
    enter_with = "SELECT isola.enter($1)"
    with pgbouncer.running(analyst.address, 1) as address:
        async with AsyncExitStack() as opened:
            clients = []
            for _ in range(2):
                clients.append(await asyncpg.connect(address, statement_cache_size=0))
                opened.push_async_callback(clients[-1].close)
            one, other = clients
            process = await one.fetchval("SELECT pg_backend_pid()")
            assert process == await other.fetchval("SELECT pg_backend_pid()")
            ticket = await issue(database, a, ada)
            async with one.transaction():
                await enter(one, ticket)
                span = await one.fetchval(SPAN)
                assert [row["id"] for row in await one.fetch(TIMELINE)] == [span]
                proof = await one.fetchval(f"SELECT {PROOF}")
            # The next transaction of the same process is another client's.
            assert await other.fetchval("SELECT isola.current_user_id()") is None
            for sql in CALLS:
                assert await refusal(other, sql) == (REFUSED, NO_TICKET)
            assert await refusal(other, enter_with, ticket) == (REFUSED, "the ticket was used before")
            stolen = "SELECT set_config('isola.tenant', $1, true), set_config('isola.proof', $2, true)"
            assert (await refusal(other, f"{stolen}, isola.current_user_id()", str(a.id), proof))[0] == NOT_PROVED
            # Without BEGIN it binds its own statement only.
            await one.fetch(enter_with, await issue(database, a, ada))
            assert await refusal(one, TIMELINE) == (REFUSED, NO_TICKET)
            # After a rollback it is reserved for the process: whoever knows it and shares the process can use it.
            for client, known in ((one, True), (other, True), (session, False)):
                again = await issue(database, a, ada, process=process)
                with pytest.raises(asyncpg.PostgresError, match="division by zero"):
                    async with one.transaction():
                        await enter(one, again)
                        await one.execute("SELECT 1 / 0")
                if known:
                    async with client.transaction():
                        await enter(client, again)
                else:
                    assert (await refusal(client, enter_with, again))[0] == REFUSED
            # Settings that a client leaves behind reach the next one: they bind nothing, and prevent nothing.
            for setting in ("tenant", "home", "proof"):
                await other.execute(f"SET isola.{setting} TO '{a.id}'")
            await other.execute("SET search_path TO pg_temp")
            for sql in CALLS:
                assert (await refusal(one, sql))[0] in {REFUSED, NOT_PROVED}
            async with one.transaction():
                await enter(one, await issue(database, a, ada))
                assert await one.fetchval("SELECT isola.current_user_id()") == ada.user_id
                assert [row["id"] for row in await one.fetch(TIMELINE)] == [span]
            assert (await refusal(one, TIMELINE))[0] in {REFUSED, NOT_PROVED}


async def test_one_long_statement_ends_when_its_user_loses_access(
    session: asyncpg.Connection, database: Database, a: Tenant, ada: Actor
) -> None:
    """Each call of a function has a snapshot of its own. What the transaction has added does not delay the end."""
    bob = await user(database, a, "bob")
    often = "generate_series(1, 500) n, LATERAL (SELECT pg_sleep(0.01 + 0 * n)) s"
    called = f"SELECT count(*) FROM {often}, LATERAL isola.get_tenant_timeline(most => 1 + n) t"
    async with session.transaction():
        await enter(session, await issue(database, a, ada))
        await session.fetch(SPAN)
        running = asyncio.create_task(session.fetch(called))
        await asyncio.sleep(0.2)
        assert not running.done()
        async with database.transaction(a) as work:
            await roles.disable(work, Actor(bob.user_id, all_permissions()), ada.user_id)
        with pytest.raises(asyncpg.PostgresError, match="the user is disabled"):
            await running
        with pytest.raises(asyncpg.PostgresError):
            await session.fetch("SELECT 1")


async def test_settings_and_savepoints_of_a_session_change_nothing_for_the_functions(
    session: asyncpg.Connection, database: Database, a: Tenant, ada: Actor, canary_a: Canary
) -> None:
    hidden = f"spn_{canary_a.rows['spans']['id']}"
    await session.execute(
        """
        SET search_path TO pg_temp; SET timezone TO 'Asia/Tokyo'; SET datestyle TO 'SQL, DMY';
        SET bytea_output TO escape;
        SET intervalstyle TO sql_standard; SET quote_all_identifiers TO on; SET transform_null_equals TO on;
        SET standard_conforming_strings TO off; SET array_nulls TO off; SET check_function_bodies TO off
        """
    )
    bob, ticket = await user(database, a, "bob"), await issue(database, a, ada)
    async with session.transaction():
        undone = session.transaction()
        await undone.start()
        await enter(session, ticket)
        await undone.rollback()
        with pytest.raises(asyncpg.PostgresError, match="this transaction has no ticket"):
            async with session.transaction():
                await session.fetch(TIMELINE)
        async with session.transaction():
            await enter(session, await issue(database, a, bob))
            assert await session.fetchval("SELECT isola.current_user_id()") == bob.user_id
        span = await session.fetchval(SPAN)
        assert [row["id"] for row in await session.fetch(TIMELINE)] == [span]
        await session.execute("SET LOCAL row_security TO off")
        shown = await outcome(session, TIMELINE)
        assert hidden not in shown
        assert shown == INSUFFICIENT_PRIVILEGE
    async with database.transaction(a, about=bob.reader) as work:
        author = "SELECT actor FROM audit_log WHERE action = 'span:create' ORDER BY id DESC LIMIT 1"
        assert await work.value(author) == f"usr_{bob.user_id}"
    # The first ticket is unused, and this session's.
    async with session.transaction():
        await enter(session, ticket)
        assert await session.fetchval("SELECT isola.current_user_id()") == ada.user_id


async def test_a_ticket_expires_also_in_an_open_transaction(
    session: asyncpg.Connection, database: Database, owner: Database, a: Tenant, ada: Actor
) -> None:
    late, used = await issue(database, a, ada), await issue(database, a, ada)
    expire = "UPDATE control.tickets SET expires_at = now() - interval '1 second' WHERE tenant_id = $1 AND {used}"
    async with owner.unbound() as work:
        await work.value(expire.format(used="digest = sha256($2::bytea)"), a.id, late.encode())
    assert await refusal(session, "SELECT isola.enter($1)", late) == (REFUSED, "the ticket has expired")
    await database_statement(owner, "UPDATE control.tickets SET expires_at = clock_timestamp() + interval '1 second'")
    with pytest.raises(asyncpg.PostgresError, match="the ticket has expired"):
        async with session.transaction():
            await enter(session, used)
            await session.fetch(TIMELINE)
            await session.fetch("SELECT pg_sleep(1)")
            await session.fetch(TIMELINE)


async def database_statement(owner: Database, sql: str, *values: object) -> None:
    async with owner.unbound() as work:
        await work.value(sql, *values)


async def test_a_ticket_is_refused_after_its_user_or_tenant_lost_access(
    session: asyncpg.Connection, database: Database, control: Database, a: Tenant, ada: Actor
) -> None:
    """Also in the transaction that it has bound already."""
    bob = await user(database, a, "bob")
    disabled, signed_out = await issue(database, a, ada), await issue(database, a, bob)
    async with database.transaction(a) as work:
        await work.scalar(select(func.isola.sign_out(bob.user_id, "bob")))
    assert await refusal(session, "SELECT isola.enter($1)", signed_out) == (
        REFUSED,
        "the user has signed out since the ticket was issued",
    )
    with pytest.raises(asyncpg.PostgresError, match="the user is disabled"):
        async with session.transaction():
            await enter(session, disabled)
            await session.fetch(TIMELINE)
            async with database.transaction(a) as work:
                await roles.disable(work, Actor(bob.user_id, all_permissions()), ada.user_id)
            await session.fetch(TIMELINE)
    # In a transaction with one snapshot, access would not end.
    for level in ("repeatable_read", "serializable"):
        with pytest.raises(asyncpg.PostgresError, match="READ COMMITTED"):
            async with session.transaction(isolation=level):
                await enter(session, await issue(database, a, bob))
    suspended = await issue(database, a, bob)
    await provisioning.suspend(control, a.slug)
    assert (await refusal(session, "SELECT isola.enter($1)", suspended))[0] == NOT_ACTIVE


async def test_a_ticket_ends_when_a_role_of_its_user_changes(
    session: asyncpg.Connection, database: Database, a: Tenant
) -> None:
    """A role is taken, or a role loses a permission; also in the transaction that the ticket has bound already."""
    changed = "the roles of the user have changed since the ticket was issued"
    async with database.transaction(a) as work:
        role = insert(roles.roles).values(name="reader", name_key="reader", permissions=["span:read", "span:write"])
        made = await work.scalar(role.returning(roles.roles.c.id))
    for change in (
        update(roles.roles).where(roles.roles.c.id == made).values(permissions=["span:read"]),
        delete(roles.user_roles).where(roles.user_roles.c.role_id == made),
    ):
        bob = await user(database, a, f"bob {change.is_update}", Role.VIEWER)
        async with database.transaction(a) as work:
            await work.execute(insert(roles.user_roles).values(user_id=bob.user_id, role_id=made))
        late, used = await issue(database, a, bob), await issue(database, a, bob)
        with pytest.raises(asyncpg.PostgresError, match=changed):
            async with session.transaction():
                await enter(session, used)
                await session.fetch(TIMELINE)
                async with database.transaction(a) as work:
                    assert await work.execute(change) >= 1
                await session.fetch(TIMELINE)
        assert await refusal(session, "SELECT isola.enter($1)", late) == (REFUSED, changed)


async def test_a_ticket_has_no_permission_that_its_user_has_lost_before(
    session: asyncpg.Connection, database: Database, a: Tenant
) -> None:
    """The server may know of it some seconds later."""
    viewer = await user(database, a, "viewer", Role.VIEWER)
    assert "span:write" in viewer.permissions
    async with session.transaction():
        await enter(session, await issue(database, a, viewer))
        assert await session.fetch(TIMELINE) == []
    assert (await refusal_inside(session, database, a, viewer, SPAN))[0] == INSUFFICIENT_PRIVILEGE
    async with database.transaction(a) as work:
        await work.execute(delete(roles.user_roles).where(roles.user_roles.c.user_id == viewer.user_id))
    assert (await refusal_inside(session, database, a, viewer, TIMELINE))[0] == INSUFFICIENT_PRIVILEGE


async def test_the_owner_whose_changes_are_not_logged_cannot_use_a_ticket(
    copy: Copy, database: Database, a: Tenant, ada: Actor
) -> None:
    ticket = await issue(database, a, ada)
    owner = await asyncpg.connect(str(copy.where.owner))
    try:
        for role in ("RESET ROLE", f"SET ROLE {copy.where.roles.sql}"):
            await owner.execute(role)
            state, message = await refusal(owner, "SELECT isola.enter($1)", ticket)
            assert state == REFUSED
            assert "expected a login in the role isola_sql" in message
    finally:
        await owner.close()


async def test_code_inside_a_tenant_issues_tickets_for_its_own_user_with_what_it_proved(
    session: asyncpg.Connection, database: Database, a: Tenant, ada: Actor
) -> None:
    """Smuggled SQL can claim any permission for the functions, but not see more than its user may."""
    digest = "SELECT isola.issue_ticket(sha256('stolen'), '{span:read,ghost:read}', NULL, NULL, 1000000)"
    reader = {"user": str(ada.user_id), "permissions": ""}
    async with database.transaction(a, about=reader) as work:
        assert await work.value(f"SELECT ({digest.removeprefix('SELECT ')}) < now() + interval '61 minutes'")
    async with session.transaction():
        await enter(session, "stolen")
        assert await session.fetchval("SELECT isola.current_user_id()") == ada.user_id
        assert await session.fetchval("SELECT isola.current_permissions()") == []
        assert await session.fetch(TIMELINE) == []
    with pytest.raises(asyncpg.PostgresError, match="user_id"):
        async with database.transaction(a) as work:
            await work.value(digest)


async def test_a_user_has_a_hundred_unused_tickets_at_most(
    session: asyncpg.Connection, copy: Copy, database: Database, a: Tenant, ada: Actor
) -> None:
    made = [await issue(database, a, ada) for _ in range(tickets.MAX_UNUSED - 1)]
    # Those that are issued at the same time wait for each other.
    async with await Database.open(copy.where.tenant, copy.strategies, copy.binding_key) as another:
        async with database.transaction(a, about=ada.reader) as work:
            made.append((await tickets.issue(work, ada)).text)
            waiting = asyncio.create_task(issue(another, a, ada))
            await asyncio.sleep(0.2)
        with pytest.raises(QuotaExceeded, match="100 unused tickets"):
            await waiting
    with pytest.raises(QuotaExceeded, match="100 unused tickets"):
        await issue(database, a, ada)
    async with session.transaction():
        await enter(session, made[0])
    await issue(database, a, ada)


async def test_spans_get_the_organization_of_the_ticket(
    session: asyncpg.Connection, database: Database, a: Tenant, ada: Actor
) -> None:
    async with database.transaction(a) as work:
        made = organizations.insert().values(name="R", name_key="r").returning(organizations.c.id)
        organization, other = await work.scalar(made), await work.scalar(made.values(name="S", name_key="s"))
        await work.execute(memberships.insert().values(organization_id=organization, user_id=ada.user_id))
    async with database.transaction(a, about=ada.reader) as work:
        ticket: Ticket = await tickets.issue(work, ada, organization=organization)
        with pytest.raises(Forbidden):
            await tickets.issue(work, ada, organization=other)
    async with session.transaction():
        await enter(session, ticket.text)
        await session.fetch(SPAN)
        [row] = await session.fetch(TIMELINE)
        assert (row["organization"], row["visibility"]) == (f"org_{organization}", "ORGANIZATION")
        with pytest.raises(asyncpg.PostgresError, match="only members of an organization"):
            await session.fetch("SELECT isola.create_tenant_span('t', organization => $1)", f"org_{other}")


BAD: Mapping[str, str] = {
    "isola.create_tenant_span('')": "title: expected 1 to 200 characters",
    "isola.create_tenant_span(NULL)": "title: expected 1 to 200 characters",
    "isola.create_tenant_span(repeat('x', 201))": "title: expected 1 to 200 characters",
    "isola.create_tenant_span('t', delta_s => 'NaN')": "delta_s: expected a finite number",
    "isola.create_tenant_span('t', delta_s => '-Infinity')": "delta_s: expected a finite number",
    "isola.create_tenant_span('t', type => 'user')": "type: expected USER, SYSTEM, ORGANIZATION or GHOST",
    "isola.create_tenant_span('t', visibility => 'ALL')": "visibility: expected PRIVATE, ORGANIZATION or PUBLIC",
    "isola.create_tenant_span('t', visibility => 'ORGANIZATION')": (
        "organization: expected one, because the visibility is ORGANIZATION"
    ),
    "isola.create_tenant_span('t', node => 'secret')": "node: expected a URI of at most 500 characters, with a scheme",
    "isola.create_tenant_span('t', payload => NULL)": "payload: expected JSON other than null",
    "isola.create_tenant_span('t', metadata => to_jsonb(repeat('x', 65536)))": (
        "metadata: expected at most 65536 bytes of JSON"
    ),
    "isola.create_tenant_span('t', payload => '[1e100]')": "payload: expected numbers of at most 100 digits",
    "isola.create_tenant_span('t', payload => (repeat('[', 101) || repeat(']', 101))::jsonb)": (
        "payload: expected at most 100 levels of nesting"
    ),
    "isola.create_tenant_span('t', resource => 'secret')": "resource: expected an id of the form res_<uuid>",
    "isola.create_tenant_span('t', resource => concat('res_', gen_random_uuid()))": (
        "resource: expected the id of a resource"
    ),
    "isola.get_tenant_timeline(most => 0)": "most: expected a number from 1 to 10000",
    "isola.get_tenant_timeline(of_type => 'secret')": "of_type: expected USER, SYSTEM, ORGANIZATION or GHOST",
    "isola.get_tenant_timeline(after => concat('spn_', gen_random_uuid()))": (
        "after: expected the id of a span that the user may read"
    ),
    "isola.get_tenant_stats('2026-01-01', '2026-01-01')": "until: expected a moment after since",
    "isola.get_tenant_stats('2026-01-01', '2027-01-03')": "until: expected at most 366 days after since",
    "isola.create_resource(NULL)": "input: expected an object",
    "isola.create_resource('[1]')": "input: expected an object",
    """isola.create_resource('{"name": "n", "ownerId": "secret"}')""": (
        "input: expected only the fields name, kind, data and sizeBytes"
    ),
    """isola.create_resource('{"name": 5}')""": "name: expected a text of 1 to 200 characters",
    """isola.create_resource('{"name": "n", "kind": ["secret"]}')""": "kind: expected a text of at most 200 characters",
    """isola.create_resource('{"name": "n", "sizeBytes": -1}')""": "sizeBytes: expected an integer from 0 to 2^53 - 1",
    """isola.create_resource('{"name": "n", "sizeBytes": 9007199254740992}')""": (
        "sizeBytes: expected an integer from 0 to 2^53 - 1"
    ),
    """isola.create_resource('{"name": "n", "data": null}')""": "data: expected JSON other than null",
}


async def test_bad_values_get_one_clear_error_without_the_value_and_nothing_is_created(
    session: asyncpg.Connection, database: Database, a: Tenant, ada: Actor
) -> None:
    async with session.transaction():
        await enter(session, await issue(database, a, ada))
        for call, expected in BAD.items():
            with pytest.raises(asyncpg.PostgresError) as caught:
                async with session.transaction():
                    await session.fetch(f"SELECT {call}")
            assert (str(caught.value), caught.value.sqlstate) == (expected, BAD_VALUE), call
            assert "secret" not in f"{caught.value.detail}{caught.value.hint}"
    async with database.transaction(a, about=ada.reader) as work:
        assert await work.value("SELECT (SELECT count(*) FROM spans) + (SELECT count(*) FROM resources)") == 0
