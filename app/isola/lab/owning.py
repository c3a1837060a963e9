"""Enters a tenant as the owner, which operators can do and requests cannot."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID

from isola.database.transactions import Database, Transaction
from isola_strategies.base import Strategy

# Like the rows of a population, all of them new.
ROWS = """
INSERT INTO users (subject, name) SELECT 'new ' || n, 'Person ' || n FROM generate_series(1, 10) n;
INSERT INTO organizations (name, name_key) SELECT 'Team ' || n, 'team ' || n FROM generate_series(1, 3) n;
INSERT INTO memberships (organization_id, user_id)
SELECT o.id, u.id FROM organizations o CROSS JOIN users u WHERE {o} AND {u};
INSERT INTO resources (owner_id, name, kind, data, size_bytes)
SELECT (SELECT array_agg(u.id) FROM users u WHERE {u})[1 + n % 10], 'amber ' || n,
    (ARRAY['dataset', 'report', 'image', 'model', NULL])[1 + n % 5], jsonb_build_object('measured', n), n
FROM generate_series(1, {rows}) n;
INSERT INTO spans (author_id, title, payload, resource_id, visibility, created_at)
SELECT r.owner_id, 'measured ' || n, jsonb_build_object('seconds', n), r.id, 'public', now() + n * interval '1 s'
FROM resources r CROSS JOIN generate_series(1, 5) n WHERE {r}
"""


@asynccontextmanager
async def entered(owner: Database, strategy: Strategy, tenant: UUID) -> AsyncIterator[Transaction]:
    """A transaction of the owner inside a tenant, with its proof. The owner's changes there are not logged."""
    async with owner.unbound() as work:
        await work.script(entering(strategy, tenant))
        yield work


def entering(strategy: Strategy, tenant: UUID) -> str:
    """Statements that bind a transaction of the owner to a tenant."""
    # The proof comes first: the role of a tenant may not create one.
    return f"SELECT set_config('isola.proof', isola.proof('{tenant}'), true); {strategy.bind(tenant)}"


async def furnish(owner: Database, strategy: Strategy, tenant: UUID, rows: int) -> None:
    """Fill an empty tenant with ``rows`` resources, five spans each, and users who own them."""
    async with entered(owner, strategy, tenant) as work:
        await work.script(ROWS.format(rows=rows, **{alias: strategy.predicate(alias) or "true" for alias in "our"}))
