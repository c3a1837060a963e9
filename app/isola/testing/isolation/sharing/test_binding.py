"""Reading a share binds the transaction to the owner, inside the database. Before and after, it has its own binding."""

import asyncpg

from isola.database.transactions import Database
from isola.testing.fixtures import Copy
from isola.testing.isolation.sharing.conftest import Grant
from isola.testing.isolation.sharing.reading import NOT_PROVED, SHARED_RESOURCE, received, row_of, shared
from isola.testing.oracles.canary import TABLES, Canary, tried

# What the functions about partnerships are called with.
PARTNERSHIPS = (
    ("SELECT isola.offer_partnership('nobody')",),
    ("SELECT * FROM isola.partnerships()",),
    ("SELECT * FROM isola.partnership_offers()",),
    *(
        (f"SELECT isola.{name}_partnership('00000000-0000-0000-0000-000000000000')",)
        for name in ("accept", "decline", "end")
    ),
    ("SELECT isola.block_tenant('nobody')",),
    ("SELECT isola.unblock_tenant('nobody')",),
    ("SELECT * FROM isola.blocked_tenants()",),
    ("SELECT isola.add_partner_domain('a.example')",),
    ("SELECT isola.remove_partner_domain('a.example')",),
    ("SELECT * FROM isola.partner_domains()",),
)


async def at_home(connection: asyncpg.Connection, canary: Canary, *others: Canary) -> None:
    """Assert that the transaction is bound to the canary's tenant and sees only its rows."""
    assert await connection.fetchval("SELECT current_setting('isola.tenant')") == str(canary.tenant.id)
    assert await connection.fetchval("SELECT isola.current_tenant_id()") == canary.tenant.id
    for table in TABLES:
        rows = await connection.fetch(f"SELECT * FROM {table.name}")
        assert len(rows) == 1
        assert not any(other.traced_in(rows) for other in others)


async def test_the_transaction_is_bound_to_its_own_home_again(
    database: Database, sharer: Canary, partner: Canary, grant: Grant
) -> None:
    share = await grant()
    async with database.transaction(partner.tenant, about=partner.about) as work:
        assert len(await shared(work, share)) == 1
        await at_home(work._connection, partner, sharer)


async def test_no_state_of_a_partners_read_outlives_the_transaction(
    login: asyncpg.Connection, copy: Copy, partner: Canary, grant: Grant
) -> None:
    """On a bare connection, which is not reset."""
    share = await grant()
    async with login.transaction():
        await copy.enter(login, partner.tenant)
        assert len(await login.fetch(SHARED_RESOURCE, share)) == 1
    assert await login.fetchval("SELECT current_setting('isola.tenant')") == ""
    assert await login.fetchval("SELECT current_setting('role')") == "none"


async def test_the_transaction_is_bound_to_its_own_home_after_a_failure_in_a_savepoint(
    database: Database, owner: Database, copy: Copy, sharer: Canary, partner: Canary, grant: Grant
) -> None:
    """The home of the owner is broken, so that reading fails while the transaction is bound to it."""
    share = await grant()
    home = copy.strategies[sharer.tenant.strategy].home(sharer.tenant.id)
    async with owner.unbound() as transaction:
        await transaction.script(f"ALTER TABLE {home.schema}.resources RENAME kind TO sort")
    async with database.transaction(partner.tenant, about=partner.about) as work:
        assert await tried(work, SHARED_RESOURCE, share) == "42703"
        await at_home(work._connection, partner, sharer)
        await work.script(
            f"""
            DO $$ BEGIN
                PERFORM s.name FROM {row_of(f"'{share}'")};
            EXCEPTION WHEN undefined_column THEN
                NULL;
            END $$
            """
        )
        await at_home(work._connection, partner, sharer)


async def test_other_parts_of_the_statement_do_not_run_in_the_owners_home(
    database: Database, sharer: Canary, partner: Canary, grant: Grant
) -> None:
    share = await grant()
    async with database.transaction(partner.tenant, about=partner.about) as work:
        for sql in (
            f"SELECT u.* FROM ({SHARED_RESOURCE}) s CROSS JOIN users u",
            f"SELECT u.* FROM users u CROSS JOIN ({SHARED_RESOURCE}) s",
            f"SELECT u.* FROM {row_of()}, LATERAL (SELECT * FROM users WHERE s.name IS NOT NULL) u",
            f"SELECT u.* FROM users u LEFT JOIN {row_of()} ON true",
            f"SELECT u.*, (SELECT size_bytes FROM {row_of()}) FROM users u",
            f"SELECT * FROM users WHERE EXISTS (SELECT FROM {row_of()})",
            f"WITH s AS MATERIALIZED ({SHARED_RESOURCE}) SELECT u.* FROM s CROSS JOIN users u",
            f"UPDATE users SET name = name WHERE EXISTS ({SHARED_RESOURCE}) RETURNING *",
        ):
            rows = await work._connection.fetch(sql, share)
            assert len(rows) == 1
            assert sharer.marker not in str(rows)
        await at_home(work._connection, partner, sharer)


async def test_an_open_cursor_does_not_read_the_owners_home(
    database: Database, sharer: Canary, partner: Canary, grant: Grant
) -> None:
    share = await grant()
    async with database.transaction(partner.tenant, about=partner.about) as work:
        row = row_of(f"'{share}'")
        await work.script(f"DECLARE c CURSOR FOR SELECT * FROM {row}, generate_series(1, 9)")
        for _ in range(2):
            assert len(await work.texts("FETCH 1 FROM c")) == 1
            await at_home(work._connection, partner, sharer)


async def test_a_forged_binding_is_an_error(database: Database, sharer: Canary, partner: Canary, grant: Grant) -> None:
    share = await grant()
    for thief, victim in ((partner, sharer), (sharer, partner)):
        async with database.transaction(thief.tenant) as work:
            await work.script(f"SET LOCAL isola.tenant TO '{victim.tenant.id}'")
            resource = victim.rows["resources"]["id"]
            for sql, *values in (
                (SHARED_RESOURCE, share),
                ("SELECT * FROM isola.shares_received()",),
                *PARTNERSHIPS,
                ("SELECT * FROM isola.own_shares WHERE subject = 'resource' AND row_id = $1", resource),
                ("SELECT isola.revoke_share($1)", share),
                ("SELECT isola.revoke_shares_of($1)", resource),
                ("SELECT isola.change_share($1, NULL, NULL, true, NULL, true)", share),
                ("SELECT isola.may_read_own('resource', $1)", resource),
                ("SELECT isola.share('resource', $1, $2, NULL, NULL, NULL)", resource, thief.tenant.slug),
            ):
                assert await tried(work, str(sql), *values) == NOT_PROVED
    async with database.transaction(partner.tenant, about=partner.about) as work:
        assert len(await received(work)) == 1


async def test_unbound_transactions_cannot_call_functions(
    login: asyncpg.Connection, sharer: Canary, grant: Grant
) -> None:
    share = await grant()
    resource = sharer.rows["resources"]["id"]
    for tenant in ("", " ", "acme"):
        async with login.transaction():
            await login.execute(f"SET LOCAL isola.tenant TO '{tenant}'")
            for sql, *values in (
                (SHARED_RESOURCE, share),
                ("SELECT * FROM isola.shares_received()",),
                *PARTNERSHIPS,
                ("SELECT * FROM isola.own_shares WHERE subject = 'resource' AND row_id = $1", resource),
                ("SELECT isola.revoke_share($1)", share),
                ("SELECT isola.revoke_shares_of($1)", resource),
                ("SELECT isola.change_share($1, NULL, NULL, true, NULL, true)", share),
                ("SELECT isola.may_read_own('resource', $1)", resource),
                ("SELECT isola.share('resource', $1, $2, NULL, NULL, NULL)", resource, "stranger"),
            ):
                assert isinstance(await tried(login, str(sql), *values), str)
