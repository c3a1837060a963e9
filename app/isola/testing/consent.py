"""Makes tenants accept shares, for tests of what follows after acceptance."""

from collections.abc import Sequence
from uuid import UUID

from isola.database.transactions import Database

_ACCEPTED = """
INSERT INTO control.share_answers (grantee_id, owner_id, owner_slug, share_id, accepted, answered_by)
SELECT grantee.id, owner.id, owner.slug, gen_random_uuid(), true, gen_random_uuid()
FROM control.tenants grantee, control.tenants owner
WHERE grantee.id <> owner.id AND 'deleted' NOT IN (grantee.status, owner.status)
ON CONFLICT (grantee_id, owner_id) DO UPDATE SET accepted = true
"""


async def accept_all(owner: Database) -> None:
    """Make every tenant accept the shares of every other one. ``owner`` is the owner's database."""
    async with owner.unbound() as work:
        await work.script(_ACCEPTED)


async def withdraw_answers(owner: Database, *tenants: UUID) -> None:
    """Delete the answers of these tenants to shares."""
    keys: Sequence[str] = [str(tenant) for tenant in tenants]
    async with owner.unbound() as work:
        await work.value("DELETE FROM control.share_answers WHERE grantee_id::text = ANY ($1::text[])", keys)
