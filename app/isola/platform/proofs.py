"""Whether transactions must prove their tenant. They must, unless the owner decides otherwise.

Without proofs, policies trust the setting that names the tenant, and an SQL injection in one tenant reaches all.
docs/decisions/0008 says what proofs cost.
"""

from isola.database.transactions import Database, Transaction
from isola.errors import Conflict
from isola.platform.platform_log import Action, Author, note

_REPLACED = (
    "CREATE OR REPLACE FUNCTION isola.current_tenant_id() RETURNS uuid LANGUAGE sql STABLE PARALLEL RESTRICTED RETURN"
)
DEMANDED = f"{_REPLACED} isola.proved_tenant_id()"
TRUSTED = f"{_REPLACED} isola.claimed_tenant_id()"
DANGER = "arbitrary SQL in one tenant can reach all tenants"


async def demanded(work: Transaction) -> bool:
    """Whether the database demands proofs."""
    body: str = await work.value("SELECT pg_get_function_sqlbody('isola.current_tenant_id()'::regprocedure)")
    return "proved" in body


async def demand(owner: Database, by: Author) -> None:
    """Demand proofs from now on."""
    async with owner.unbound() as transaction:
        await _decide(transaction, DEMANDED, Action.PROOFS_DEMAND, by)


async def believe(owner: Database, by: Author) -> None:
    """Trust the setting from now on. Raises Conflict while a tenant is being moved: that needs proofs."""
    async with owner.unbound() as transaction:
        moving = await transaction.texts("SELECT slug FROM control.tenants WHERE moving_to IS NOT NULL LIMIT 1")
        if moving:
            raise Conflict(f"tenant {moving[0]} is being moved: proofs are required until the move has ended")
        await _decide(transaction, TRUSTED, Action.PROOFS_BELIEVE, by)


async def _decide(transaction: Transaction, function: str, action: Action, by: Author) -> None:
    was = await demanded(transaction)
    await transaction.script(function)
    old, new = {"demanded": was}, {"demanded": await demanded(transaction)}
    if old != new:
        await note(transaction, by.actor, action, "platform:proofs", old, new, by.request)
