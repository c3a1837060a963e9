"""Roles belong to the cluster: databases restored without them, and several installations in one cluster."""

from collections.abc import Mapping

import asyncpg
import pytest
from sqlalchemy import make_url

from isola.database.transactions import Database
from isola.errors import OperatorError
from isola.platform import logins, migrations, provisioning, rights
from isola.platform.tenants import Tenant
from isola.testing.fixtures import Cluster, Copy
from isola_strategies import registry
from isola_strategies.base import Strategy
from tests.control.conftest import addresses

# Statements that revoke every right in a home, and every membership in and of the home's role.
HOME_RIGHTS = """
SELECT format('REVOKE %s ON SCHEMA %I FROM %s', privilege_type, nspname, grantee::regrole)
FROM pg_namespace, aclexplode(nspacl) WHERE nspname = $1 AND grantee <> nspowner
UNION ALL
SELECT format('REVOKE %s ON %s FROM %s', privilege_type, c.oid::regclass, grantee::regrole)
FROM pg_class c, aclexplode(relacl) WHERE relnamespace = to_regnamespace($1) AND grantee <> relowner
UNION ALL
SELECT format('REVOKE %s (%I) ON %s FROM %s', privilege_type, attname, c.oid::regclass, grantee::regrole)
FROM pg_class c JOIN pg_attribute ON attrelid = c.oid, aclexplode(attacl)
WHERE relnamespace = to_regnamespace($1) AND grantee <> relowner
UNION ALL
SELECT format('REVOKE %s FROM %s', roleid::regrole, member::regrole) FROM pg_auth_members
WHERE $2 IN (roleid::regrole::text, member::regrole::text) AND pg_get_userbyid(member) <> current_user
"""
# The same for the platform's own schemas.
PLATFORM_RIGHTS = """
SELECT format('REVOKE %s ON SCHEMA %I FROM %s', privilege_type, nspname, grantee::regrole)
FROM pg_namespace, aclexplode(nspacl) WHERE nspname IN ('control', 'isola') AND grantee <> nspowner
UNION ALL
SELECT format('REVOKE %s ON %s FROM %s', privilege_type, c.oid::regclass, grantee::regrole)
FROM pg_class c, aclexplode(relacl) WHERE relnamespace = to_regnamespace('control') AND grantee <> relowner
UNION ALL
SELECT format('ALTER FUNCTION %s OWNER TO CURRENT_USER', oid::regprocedure) FROM pg_proc
WHERE pronamespace IN (to_regnamespace('isola'), to_regnamespace('control')) AND prosecdef
"""


class _Undone(Exception):  # noqa: N818  no error: it ends a transaction
    pass


async def test_each_missing_right_of_a_home_is_detected(
    strategy: Strategy, a: Tenant, copy: Copy, owner: Database
) -> None:
    home = strategy.home(a.id)
    async with owner.unbound() as work:
        taken = await work.texts(HOME_RIGHTS, home.schema, home.role or "")
        placed = await migrations.placements(work, copy.strategies)
        assert await migrations._shut(work, placed, copy.where) == {}
    assert len(taken) > len(placed)
    for statement in taken:
        with pytest.raises(_Undone):
            async with owner.unbound() as work:
                await work.script(statement)
                assert (await migrations._shut(work, placed, copy.where)).keys() == {home.schema}, statement
                raise _Undone


# The expressions and roles of policies, the definitions, owners and options of views, and rights of tables.
VISIBILITY = """
    SELECT concat_ws(
        ' ', polrelid::regclass, polname, polcmd, polpermissive, polroles, pg_get_expr(polqual, polrelid),
        pg_get_expr(polwithcheck, polrelid)
    )
    FROM pg_policy
    UNION ALL
    SELECT concat_ws(
        ' ', oid::regclass, relowner::regrole, reloptions,
        (SELECT array_agg(one::text ORDER BY one::text) FROM unnest(relacl) one),
        relrowsecurity, relforcerowsecurity, CASE relkind WHEN 'v' THEN pg_get_viewdef(oid) END
    ) FROM pg_class
    WHERE relkind IN ('v', 'r') AND relnamespace = $1::text::regnamespace
    UNION ALL
    SELECT concat_ws(
        ' ', attrelid::regclass, attname, (SELECT array_agg(one::text ORDER BY one::text) FROM unnest(attacl) one)
    )
    FROM pg_attribute JOIN pg_class c ON c.oid = attrelid
    WHERE attacl <> '{}' AND relnamespace = $1::text::regnamespace
"""
CHANGED = "a policy, a view, an owner or row-level security was changed"
# Each weakens what protects the rows of a home: the statement, and what is said of it.
WEAKENED = (
    ("ALTER POLICY visible_rows ON {home}.spans USING (true)", CHANGED),
    ("ALTER POLICY bound_tenant ON {home}.resources USING (true)", CHANGED),
    ("CREATE POLICY further ON {home}.spans USING (true)", CHANGED),
    ("ALTER TABLE {home}.spans DISABLE ROW LEVEL SECURITY", CHANGED),
    ("ALTER TABLE {home}.resources NO FORCE ROW LEVEL SECURITY", CHANGED),
    ("ALTER TABLE {home}.users OWNER TO {role}", CHANGED),
    ("ALTER VIEW {home}.tenant_stats SET (security_invoker = false)", CHANGED),
    (
        """
            DO $$ BEGIN EXECUTE 'CREATE OR REPLACE VIEW {home}.audit_log AS '
                || replace(pg_get_viewdef('{home}.audit_log'::regclass), ';', ' LIMIT 1'); END $$
        """,
        CHANGED,
    ),
    ("GRANT SELECT (old, new) ON {home}.audit_entries TO {role}", "{role} has SELECT on audit_entries.new"),
    ("GRANT TRUNCATE ON {home}.spans TO {role}", "{role} has TRUNCATE on spans"),
    ("GRANT SELECT ON {home}.spans TO PUBLIC", "PUBLIC has SELECT on spans"),
    ("GRANT UPDATE ON {home}.spans TO isola_sql_functions", "isola_sql_functions has UPDATE on spans"),
    # As a version before made it.
    ("COMMENT ON VIEW {home}.audit_log IS NULL", "its policies and views are not of this version"),
)


async def test_each_change_that_weakens_a_home_is_detected(
    strategy: Strategy, a: Tenant, copy: Copy, owner: Database
) -> None:
    home = strategy.home(a.id)
    names = {"home": home.schema, "role": home.role or strategy.login}
    async with owner.unbound() as work:
        placed = await migrations.placements(work, copy.strategies)
    for statement, reason in WEAKENED:
        with pytest.raises(_Undone):
            async with owner.unbound() as work:
                await work.script(statement.format(**names))
                found = await migrations._shut(work, placed, copy.where)
                assert found == {home.schema: reason.format(**names)}, statement
                raise _Undone


async def test_a_weakened_home_is_as_before_after_a_migration(
    strategy: Strategy, a: Tenant, copy: Copy, owner: Database
) -> None:
    """Also if all of it happened at once, and if the policies are of a version before."""
    home = strategy.home(a.id)
    names = {"home": home.schema, "role": home.role or strategy.login}
    async with owner.unbound() as work:
        before = sorted(await work.texts(VISIBILITY, home.schema))
        for statement, _ in WEAKENED:
            if "OWNER" not in statement:
                await work.script(statement.format(**names))
    assert (await migrations.check(owner, copy.strategies, copy.where)).shut.keys() == {home.schema}
    assert (await migrations.migrate(owner, copy.strategies, copy.where)).failed == {}
    assert (await migrations.check(owner, copy.strategies, copy.where)).shut == {}
    async with owner.unbound() as work:
        assert sorted(await work.texts(VISIBILITY, home.schema)) == before


@pytest.mark.parametrize(
    ("sabotage", "reason"),
    [
        # For example, restored where a role of the policy was missing. Then all rows would be visible.
        ("DROP POLICY visible_rows ON {home}.spans", "a policy visible_rows is missing"),
        (
            """
                DROP POLICY visible_rows ON {home}.spans;
                CREATE POLICY visible_rows ON {home}.spans TO {role}, isola_sharing USING (true)
            """,
            "a policy visible_rows is missing",
        ),
        ("DROP VIEW {home}.tenant_stats", "a view is missing"),
        # For example, restored without its owner, but with its rights. No policy restricts the owner.
        ("ALTER VIEW {home}.audit_log OWNER TO CURRENT_USER", "audit_log does not belong to isola_sharing"),
    ],
)
async def test_missing_and_wrong_policies_and_views_of_visibility_rules_are_detected_and_repaired(
    sabotage: str, reason: str, strategy: Strategy, a: Tenant, copy: Copy, owner: Database
) -> None:
    home = strategy.home(a.id)
    async with owner.unbound() as work:
        before = sorted(await work.texts(VISIBILITY, home.schema))
        await work.script(sabotage.format(home=home.schema, role=home.role or strategy.login))
    report = await migrations.check(owner, copy.strategies, copy.where)
    assert report.shut == {home.schema: reason}
    assert (await migrations.migrate(owner, copy.strategies, copy.where)).failed == {}
    assert (await migrations.check(owner, copy.strategies, copy.where)).shut == {}
    async with owner.unbound() as work:
        assert sorted(await work.texts(VISIBILITY, home.schema)) == before


async def test_a_home_without_its_rights_is_repaired_and_accessible_again(
    strategy: Strategy, copy: Copy, owner: Database, database: Database
) -> None:
    # The roles of all other tenants are shared with the database that this one was copied from.
    a = await provisioning.create(owner, copy.strategies, slug="another", name="Another", strategy=strategy.name)
    home = strategy.home(a.id)
    async with database.transaction(a) as work:
        before = await work.value("SELECT count(*) FROM users")
    async with owner.unbound() as work:
        for statement in await work.texts(HOME_RIGHTS, home.schema, home.role or ""):
            await work.script(statement)
        if home.role:
            await work.script(f"DROP OWNED BY {home.role}; DROP ROLE {home.role}")
    report = await migrations.check(owner, copy.strategies, copy.where)
    assert (set(report.shut), report.behind, report.platform) == ({home.schema}, {}, [])

    report = await migrations.migrate(owner, copy.strategies, copy.where)
    assert (set(report.shut), report.failed) == ({home.schema}, {})
    report = await migrations.check(owner, copy.strategies, copy.where)
    assert (report.shut, report.platform) == ({}, [])
    async with database.transaction(a) as work:
        assert await work.value("SELECT count(*) FROM users") == before


async def test_each_missing_right_of_the_platform_is_detected_and_restored(copy: Copy, owner: Database) -> None:
    async with owner.unbound() as work:
        whole = await rights.of_platform(work, copy.where)
        taken = await work.texts(PLATFORM_RIGHTS)
        for statement in taken:
            await work.script(statement)
    assert len(taken) > 50
    amiss = (await migrations.check(owner, copy.strategies, copy.where)).platform
    async with owner.unbound() as work:
        left = await rights.of_platform(work, copy.where)
    assert {line.removesuffix(" is missing") for line in amiss if line.endswith("missing")} == whole - left
    await migrations.migrate(owner, copy.strategies, copy.where)
    async with owner.unbound() as work:
        assert await rights.of_platform(work, copy.where) == whole


async def test_a_declaration_without_a_revision_is_detected_and_reported(copy: Copy, owner: Database) -> None:
    async with owner.unbound() as work:
        await work.script("UPDATE control.counted SET counts = 'true' WHERE quota = 'resources'")
    amiss = [
        "the count of resources by resources is missing",
        "the count of resources by resources WHERE true is too much",
    ]
    assert (await migrations.check(owner, copy.strategies, copy.where)).platform == amiss
    await migrations.migrate(owner, copy.strategies, copy.where)
    assert (await migrations.check(owner, copy.strategies, copy.where)).platform == []


PASSWORDS = "SELECT rolname, rolpassword, rolconnlimit FROM pg_authid WHERE rolname ~ '^isola_' ORDER BY 1"


async def test_another_owners_roles_are_not_touched_and_both_installations_work(
    second: str, server: asyncpg.Connection, database: Database, cluster: Cluster
) -> None:
    before = await server.fetch(PASSWORDS)
    shared = addresses(second, "isola")
    async with await Database.open(second, size=2, wait=10, statement_timeout=60) as owner:
        with pytest.raises(OperatorError, match=r"belong to the installation in the database .*: set ISOLA_ROLES"):
            await migrations.migrate(owner, registry.load(shared.tenant_login), shared)
        async with owner.unbound() as work:
            assert await migrations.control_revision(work) is None
        assert await server.fetch(PASSWORDS) == before

        where = addresses(second, "second")
        strategies = registry.load(where.tenant_login)
        report = await migrations.migrate(owner, strategies, where)
        assert report.failed == {}
        tenants = [
            await provisioning.create(owner, strategies, slug=name, name=name, strategy=name) for name in strategies
        ]
        report = await migrations.check(owner, strategies, where)
        assert (report.shut, report.behind, report.platform) == ({}, {}, [])
    theirs = Copy(where, strategies)
    async with await Database.open(where.tenant, strategies, theirs.binding_key) as entered:
        async with entered.unbound() as work:
            await logins.refuse_dangerous(work)
        for tenant in tenants:
            async with entered.transaction(tenant) as work:
                assert await work.value("SELECT count(*) FROM users") == 0
    assert await server.fetch(PASSWORDS) == before
    for tenant in cluster.tenants.values():
        async with database.transaction(tenant) as work:
            assert await work.value("SELECT count(*) FROM users") >= 0


LACKS: Mapping[str, tuple[str, str]] = {
    "the right to make roles": ("ALTER ROLE second_owner NOCREATEROLE", "may not make roles.*CREATEROLE"),
    "the database": ("ALTER DATABASE {name} OWNER TO CURRENT_USER", "the database is not .*ALTER DATABASE"),
    "the schema": ("CREATE SCHEMA control", "what is in the schema control belongs to .*: connect as that role"),
    "a role": ("CREATE ROLE second_sharing", "second_sharing are there, and second_owner may not grant them"),
    "a database that can be written": (
        "ALTER DATABASE {name} SET default_transaction_read_only = on",
        "the database takes no changes",
    ),
}


@pytest.mark.parametrize("lack", LACKS)
async def test_missing_rights_of_the_owner_are_reported_and_nothing_is_created(
    lack: str, second: str, cluster: Cluster
) -> None:
    statement, said = LACKS[lack]
    name = str(make_url(second).database)
    inside = await asyncpg.connect(cluster.address(name))
    await inside.execute(statement.format(name=name))
    roles = "SELECT count(*) FROM pg_roles"
    before = await inside.fetchval(roles)
    where = addresses(second, "second")
    async with await Database.open(second, size=2, wait=10) as owner:
        with pytest.raises(OperatorError, match=said):
            await migrations.migrate(owner, registry.load(where.tenant_login), where)
    assert await inside.fetchval(roles) == before
    assert await inside.fetchval("SELECT to_regnamespace('isola')") is None
    await inside.execute(f"SET default_transaction_read_only = off; ALTER DATABASE {name} RESET ALL")
    await inside.close()


async def test_a_database_of_a_newer_program_asks_for_the_program_to_be_upgraded(copy: Copy, owner: Database) -> None:
    async with owner.unbound() as work:
        await work.script("UPDATE control.alembic_version SET version_num = '9999'")
    newer = "9999, which this program does not know: .*upgrade the program"
    with pytest.raises(OperatorError, match=newer):
        await migrations.check(owner, copy.strategies, copy.where)
    async with owner.unbound() as work:
        with pytest.raises(OperatorError, match=newer):
            await migrations.refuse_behind(work)
