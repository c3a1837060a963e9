"""The cost of a partner's reads when one tenant shares a great deal with it and another shares little.

``python -m benchmarks.sharing`` from the checkout. Milliseconds of a request in the server's process, including the
database; medians, the reads alternate. The partner has 20 shares of one owner. ``flood`` is the state of 50,000 shares
of another owner: none, current, of an earlier partnership (``ended``), or expired; ``lapsed`` after servers have marked
the expired.
"""

import asyncio
import json
import statistics
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import UUID

import asyncpg
from rich.console import Console
from rich.table import Table

from isola.api.execute import Executor
from isola.api.schema import model
from isola.database import embedded
from isola.database.claims import Claim
from isola.database.transactions import Database, Transaction
from isola.identity.authentication import Principal
from isola.platform import lapsing, logins, migrations, partnerships, provisioning
from isola.platform.tenants import Tenant
from isola.server.installation import Installation
from isola.settings import Settings
from isola.subjects import users
from isola.subjects.actor import Actor
from isola.subjects.permissions import Role, of_role
from isola.subjects.resources import Resource
from isola_strategies import registry

ROUNDS, WARM_UP = 41, 5
FEW, MANY = 20, 50_000
FAST = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
FLOODS = ("none", "current", "ended", "expired", "lapsed")
NODE = "nodes { id resource { name data } owner { slug } grantedAt }"
READS = {
    "first page": "{ sharedWithMe(first: 20) { %s pageInfo { hasNextPage endCursor } } }" % NODE,  # noqa: UP031  braces
    "next page": "query ($after: String) { sharedWithMe(first: 20, after: $after) { %s"  # noqa: UP031  braces
    " pageInfo { hasNextPage hasPreviousPage endCursor } } }" % NODE,
    "by its id": "query ($id: ID!) { node(id: $id) { id } }",
    "partners": "{ partnerships { nodes { id slug name acceptedAt } } }",
    "count": "{ sharedWithMe(first: 0) { totalCount } }",
}
SHARE = """
INSERT INTO control.shares (
    owner_id, subject, row_id, grantee_slug, grantee_id, partnership_id, granted_by, fields, granted_at, expires_at
)
SELECT p.tenant_id, 'resource', row_id, p.partner_slug, p.partner_id, p.id, $3, '{name,data}',
    now() - random() * interval '1 day', $4::interval + now()
FROM control.partners p, unnest($5::uuid[]) row_id WHERE p.tenant_id = $1 AND p.partner_id = $2
"""
END = "DELETE FROM control.partners WHERE $1 IN (tenant_id, partner_id) AND $2 IN (tenant_id, partner_id)"


@dataclass(frozen=True)
class Caller:
    """The requests of one partner."""

    database: Database
    principal: Principal
    executor: Executor

    def transaction(
        self, *, read_only: bool = False, claim: Claim | None = None
    ) -> AbstractAsyncContextManager[Transaction]:
        return self.database.transaction(self.principal.tenant, read_only=read_only, claim=claim)

    async def ask(self, document: str, variables: Mapping[str, Any]) -> Any:
        answer = json.loads((await self.executor.execute(document, None, variables, None, self)).body)
        assert "errors" not in answer, answer
        return answer["data"]


async def fill(tenants: Database, tenant: Tenant, number: int) -> tuple[UUID, Sequence[UUID]]:
    """Create resources in a tenant. Returns one of its users, and the ids of the resources."""
    async with tenants.transaction(tenant) as work:
        user = await users.ensure(work, subject="ada", name=None, email=None)
        await Resource.create_all(work, Actor(user, frozenset()), [{"name": "one", "data": {"a": 1}}] * number)
        keys = await work.texts("SELECT id::text FROM resources")
    return user, [UUID(key) for key in keys]


async def share(
    owner: Database, tenant: Tenant, partner: Tenant, what: tuple[UUID, Sequence[UUID]], flood: str
) -> None:
    until = "-1 s" if flood in {"expired", "lapsed"} else None
    user, keys = what
    async with owner.unbound() as work:
        await partnerships.establish(work, [(tenant.id, partner.id)])
        connection = work._connection  # noqa: SLF001  the transaction's methods do not support arrays and intervals
        await connection.execute(
            SHARE.replace("$4::interval", f"interval '{until}'" if until else "NULL::interval").replace("$5", "$4"),
            tenant.id,
            partner.id,
            user,
            keys,
        )
        await work.value("SELECT isola.copy_all($1, 'resource')", tenant.id)
        if flood == "ended":
            await connection.execute(END, tenant.id, partner.id)
            await partnerships.establish(work, [(tenant.id, partner.id)])


async def tidy(address: str) -> None:
    connection = await asyncpg.connect(address)
    await connection.execute("VACUUM ANALYZE control.shares, control.partners, control.tenants")
    await connection.close()


async def measured(caller: Caller) -> Mapping[str, float]:
    first = await caller.ask(READS["first page"], {})
    page = first["sharedWithMe"]
    variables = {"next page": {"after": page["pageInfo"]["endCursor"]}, "by its id": {"id": page["nodes"][0]["id"]}}
    took: dict[str, list[float]] = defaultdict(list)
    for turn in range(WARM_UP + ROUNDS):
        for name, document in READS.items():
            began = time.perf_counter()
            await caller.ask(document, variables.get(name, {}))
            if turn >= WARM_UP:
                took[name].append((time.perf_counter() - began) * 1000)
    return {name: statistics.median(each) for name, each in took.items()}


async def run(address: str) -> None:
    settings = Settings()
    where = logins.addresses(settings, address)
    installed = Installation(settings, where, registry.load(where.tenant_login))
    table = Table("strategy", "flood", *READS, box=None)
    executor = Executor(model, secret=b"of no use elsewhere, of the right length")
    numbers = count()
    async with (
        await Database.open(address, size=2, statement_timeout=120) as owner,
        await installed.tenants() as tenants,
    ):
        await migrations.migrate(owner, installed.strategies, where)

        async def make(strategy: str) -> Tenant:
            slug = f"tenant-{next(numbers)}"
            return await provisioning.create(owner, installed.strategies, slug=slug, name=slug, strategy=strategy)

        for strategy in installed.strategies:
            few, many = await make(strategy), await make(strategy)
            little, much = await fill(tenants, few, FEW), await fill(tenants, many, MANY)
            for flood in FLOODS:
                partner = await make(strategy)
                async with tenants.transaction(partner) as work:
                    user = await users.ensure(work, subject="eve", name=None, email=None)
                await share(owner, few, partner, little, "")
                if flood != "none":
                    await share(owner, many, partner, much, flood)
                while flood == "lapsed" and await lapsing.lapse(owner):
                    pass
                await tidy(address)
                principal = Principal(partner, user, (Role.OWNER,), of_role(Role.OWNER))
                took = await measured(Caller(tenants, principal, executor))
                table.add_row(strategy, flood, *(f"{each:.2f}" for each in took.values()))
    Console().print(table)


def main() -> None:
    with TemporaryDirectory() as directory, embedded.running(Path(directory), FAST) as address:
        asyncio.run(run(address))


if __name__ == "__main__":
    main()
