"""An atomic change of several parts: a resource is deleted, and its shares end with it."""

from dataclasses import dataclass

from sqlalchemy import select

from isola.database.transactions import Database
from isola.platform import provisioning
from isola.platform.shares import shares
from isola.subjects.resources import resources
from isola.testing.fixtures import STRATEGIES, Copy
from isola.testing.served import Answer, Client

DELETE = "mutation ($id: ID!) { deleteResource(input: {id: $id}) { deletedId } }"
# The error code if the server does not know the outcome either.
PERHAPS = "may have been made or not"


@dataclass(frozen=True, slots=True)
class Deletion:
    """One resource with a share for a partner under every strategy."""

    client: Client
    id: str

    async def ask(self, key: str | None = None) -> Answer:
        """Delete it, with an idempotency key if there is one."""
        body = {"query": DELETE, "variables": {"id": self.id}}
        return await self.client.request("POST", json=body, headers={"idempotency-key": key} if key else {})

    async def is_done(self, copy: Copy, owner: Database) -> bool:
        """Whether it has happened. Fails if only a part of it has."""
        tenant = await provisioning.named(owner, self.client.tenant)
        home = copy.strategies[tenant.strategy].home(tenant.id).schema
        key = self.id.partition("_")[2]
        async with owner.unbound() as work:
            there = await work.value(f"SELECT count(*) FROM {home}.{resources.name} WHERE id = $1", key)
            live = select(shares.c.id).where(shares.c.row_id == key, shares.c.revoked_at.is_(None))
            shared = len(await work.rows(live))
        assert (there, shared) in {(1, len(STRATEGIES)), (0, 0)}
        return bool(there == 0)


async def prepared(client: Client) -> Deletion:
    made = await client.create("to be deleted", data={"kept": "or not"})
    for strategy in STRATEGIES:
        shared = await client.run("ShareResource", input={"resourceId": made, "grantee": f"{strategy}-b"})
        assert shared.data
    return Deletion(client, made)
