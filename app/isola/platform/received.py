"""The tables with copies of what partners receive, and the views by which they read them.

They follow from the declarations, so they have no history: one that is not as it is declared is made anew, and filled
from the homes of the owners. See migrations/control/0001_received_rows.sql.
"""

import hashlib
from collections.abc import Collection, Iterator, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Column, Table

from isola.database.transactions import Database, Transaction
from isola.installed import metadata as domain
from isola.platform.logins import Addresses, quote
from isola.subjects.metadata import DIALECT, Audited, quoted

# Of a table whose rows are not all copied yet.
_UNFILLED = "unfilled "
# What each copy has of its share: columns of the table, with the names that the view gives them.
_FACTS = {
    "granted_fields": "granted_fields",
    "share_id": "id",
    "owner_slug": "share:owner_slug",
    "owner_name": "share:owner_name",
    "granted_at": "share:granted_at",
    "expires_at": "share:expires_at",
    "note": "share:note",
    "access": "share:access",
}
_TABLE = """
CREATE TABLE received.{name} (
    share_id uuid PRIMARY KEY,
    owner_id uuid NOT NULL, grantee_id uuid NOT NULL, partnership_id uuid NOT NULL,
    owner_slug text NOT NULL, owner_name text NOT NULL,
    granted_at timestamptz NOT NULL, expires_at timestamptz, note text, access text NOT NULL,
    granted_fields text[] NOT NULL, {columns}
);
CREATE INDEX ON received.{name} (owner_id);
{indexes};
ALTER TABLE received.{name} ENABLE ROW LEVEL SECURITY;
-- Estimates of the planner would tell how often a value occurs in what all tenants receive.
{statistics};
"""
_VIEW = """
CREATE VIEW {view} WITH (security_invoker = true) AS
SELECT {columns}, {facts} FROM received.{name};
"""
_POLICIES = """
CREATE POLICY received ON received.{name} FOR SELECT TO {readers} USING (
    grantee_id = (SELECT isola.bound_tenant())
    AND partnership_id = ANY ((SELECT isola.received_partnerships())::uuid[])
    AND EXISTS (SELECT FROM control.received_now s WHERE s.id = share_id)
);
CREATE POLICY every ON received.{name} TO {keeper} USING (true) WITH CHECK (true);
GRANT SELECT ON received.{name}, {view} TO {readers};
GRANT SELECT, INSERT, UPDATE, DELETE ON received.{name} TO {keeper};
"""
# Recipients read the view that the policies name. They cannot name it themselves.
_SHARES = """
DROP POLICY IF EXISTS received ON control.received_shares;
DROP POLICY IF EXISTS every ON control.received_shares;
CREATE POLICY received ON control.received_shares FOR SELECT TO {readers} USING (
    grantee_id = (SELECT isola.bound_tenant())
);
CREATE POLICY every ON control.received_shares TO {keeper} USING (true) WITH CHECK (true);
"""
_MADE = """
SELECT c.relname, obj_description(c.oid, 'pg_class') FROM pg_class c
WHERE c.relnamespace = 'received'::regnamespace AND c.relkind = 'r'
"""
_OWNERS = """
SELECT DISTINCT s.owner_id::text FROM control.shares s JOIN control.tenants t ON t.id = s.owner_id
WHERE s.subject = $1 AND s.revoked_at IS NULL AND NOT s.lapsed AND s.grantee_id IS NOT NULL
  AND t.home IS NOT NULL AND ($2 OR t.home = ANY ($3))
"""


async def keep(owner: Transaction, addresses: Addresses) -> None:
    """Make the tables and views that are not as they are declared, and remove those of no subject.

    Tables of applications that are not installed here stay. Made anew, a table is empty until ``fill``.
    """
    await _keep_shares(owner, addresses)
    made = await owner.pairs(_MADE)
    wanted = await owner.texts("SELECT relation FROM control.subjects WHERE NOT restricted")
    for name in made.keys() - set(wanted):
        await owner.script(_dropped(name))
    for table in tables():
        script = _script(table, addresses)
        digest = hashlib.sha256(script.encode()).hexdigest()
        if (made.get(table.name) or "").removeprefix(_UNFILLED) != digest:
            comment = f"COMMENT ON TABLE received.{quoted(table.name)} IS '{_UNFILLED}{digest}'"
            await owner.script(f"{_dropped(table.name)}; {script} {comment}")


async def _keep_shares(owner: Transaction, addresses: Addresses) -> None:
    """Make the policies of the shares that recipients read, where they are for other roles: that locks the table."""
    script = _SHARES.format(readers=_readers(addresses), keeper=addresses.roles.sharing)
    digest = hashlib.sha256(script.encode()).hexdigest()
    if await owner.value("SELECT obj_description('control.received_shares'::regclass, 'pg_class')") != digest:
        await owner.script(f"{script} COMMENT ON TABLE control.received_shares IS '{digest}'")


def _readers(addresses: Addresses) -> str:
    return f"{quote(addresses.tenant_login)}, {addresses.roles.members}"


async def erase(owner: Transaction, tenant: UUID) -> None:
    """Delete all copies of what a tenant shares or receives."""
    for name in await owner.texts(
        "SELECT relname FROM pg_class WHERE relnamespace = 'received'::regnamespace AND relkind = 'r'"
    ):
        await owner.value(f"DELETE FROM received.{quoted(name)} WHERE $1 IN (owner_id, grantee_id)", tenant)


async def fill(owner: Database, changed: Collection[str], failed: Collection[str]) -> None:
    """Copy what tenants share into new tables, and again what those in ``changed`` homes share.

    A table stays unfilled while homes ``failed``; the next run continues.
    """
    async with owner.unbound() as transaction:
        made = await transaction.pairs(_MADE)
    for table in tables():
        subject: Audited = table.info["audited"]
        comment = made[table.name] or ""
        is_new = comment.startswith(_UNFILLED)
        async with owner.unbound() as transaction:
            owners = await transaction.texts(_OWNERS, subject.subject, is_new, list(changed))
        if not failed:
            for each in owners:
                async with owner.unbound() as transaction:
                    await transaction.value("SELECT isola.copy_all($1, $2)", each, subject.subject)
            if is_new:
                digest = comment.removeprefix(_UNFILLED)
                async with owner.unbound() as transaction:
                    await transaction.script(f"COMMENT ON TABLE received.{quoted(table.name)} IS '{digest}'")


def tables() -> Iterator[Table]:
    """The tables whose rows can be shared, and that every user of a tenant may read."""
    return (table for table in domain.sorted_tables if "shared_columns" in table.info and "visible" not in table.info)


def _script(table: Table, addresses: Addresses) -> str:
    shared: Sequence[Column[Any]] = [table.c[name] for name in table.info["shared_columns"]]
    columns = [f"{quoted(each.name)} {each.type.compile(dialect=DIALECT)}" for each in shared]
    subject: Audited = table.info["audited"]
    name, view = quoted(table.name), f"isola.received_{subject.subject}"
    readers = _readers(addresses)
    hidden = ["owner_slug", "owner_name", "note", *(each.name for each in shared)]
    return (
        _TABLE.format(
            name=name,
            columns=", ".join(columns),
            indexes="; ".join(
                f"CREATE INDEX ON received.{name} (grantee_id, {quoted(each)}, share_id)"
                for each in ("granted_at", "expires_at", "owner_slug", *table.info["shared_order"])
            ),
            statistics="; ".join(
                f"ALTER TABLE received.{name} ALTER {quoted(each)} SET STATISTICS 0" for each in hidden
            ),
        )
        + _VIEW.format(
            name=name,
            view=view,
            columns=", ".join(quoted(each.name) for each in shared),
            facts=", ".join(f"{own} AS {quoted(said)}" for own, said in _FACTS.items()),
        )
        + _POLICIES.format(name=name, view=view, readers=readers, keeper=addresses.roles.sharing)
    )


def _dropped(name: str) -> str:
    return f"DROP TABLE IF EXISTS received.{quoted(name)} CASCADE"
