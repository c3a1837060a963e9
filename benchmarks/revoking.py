"""Races of a partner's reads against revocations: no read that begins after a revocation was committed has the row.

``python -m benchmarks.revoking`` from the checkout. An owner shares a row and revokes the share, while its partner
reads in several loops: the list of shared rows, the received shares, and the share by its id. Each pair of placements
has its part of the races. A read is late if it began after the owner had the answer to the revocation, and has the row.

Exit status 1 if a read was late.
"""

import asyncio
import sys
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Annotated
from uuid import UUID

import typer
from rich.progress import track

from benchmarks.figures import Figure, show
from benchmarks.sharing import FAST, Caller, fill
from isola.api.execute import Executor
from isola.api.schema import model
from isola.database import embedded
from isola.database.transactions import Database
from isola.identity.authentication import Principal
from isola.platform import logins, migrations, partnerships, provisioning
from isola.platform.tenants import Tenant
from isola.query.identifiers import encode
from isola.server.installation import Installation
from isola.settings import Settings
from isola.subjects import shares
from isola.subjects.actor import Actor
from isola.subjects.permissions import Role, of_role
from isola_strategies import registry

READERS = 3
LONGEST = 0.004
"""Seconds that an owner waits at most before it revokes."""
READ = """query ($id: ID!) {
  sharedResources { totalCount nodes { id } } sharedWithMe { totalCount nodes { id } } node(id: $id) { id } }"""


@dataclass(slots=True)
class Race:
    """What the reads of a share had: before it was revoked, meanwhile, and afterwards."""

    revoked_at: float | None = None
    early: int = 0
    ended: int = 0
    late: int = 0

    def note(self, began: float, has_row: bool) -> None:  # noqa: FBT001  a measurement
        if self.revoked_at is None or began <= self.revoked_at:
            self.early += has_row
        else:
            self.late += has_row
            self.ended += not has_row


async def reading(partner: Caller, share: UUID, race: Race) -> None:
    """Read until a read began after the revocation."""
    while True:
        last = race.revoked_at is not None
        began = time.perf_counter()
        found = await partner.ask(READ, {"id": encode("shr", share)})
        lists = [found[name] for name in ("sharedResources", "sharedWithMe")]
        race.note(began, any(each["totalCount"] or each["nodes"] for each in lists) or found["node"] is not None)
        if last:
            return


async def run_race(tenants: Database, owner: Tenant, what: tuple[UUID, UUID], partner: Caller, random: Random) -> Race:
    user, row = what
    actor = Actor(user, of_role(Role.OWNER))
    race = Race()
    async with tenants.transaction(owner, about={"user": str(user)}) as work:
        share = await shares.grant(work, actor, "resource", row, partner.principal.tenant.slug)
    async with asyncio.TaskGroup() as group:
        for _ in range(READERS):
            group.create_task(reading(partner, share, race))
        await asyncio.sleep(random.uniform(0, LONGEST))
        async with tenants.transaction(owner, about={"user": str(user)}) as work:
            await shares.revoke(work, actor, share)
        race.revoked_at = time.perf_counter()
    return race


async def run(address: str, races: int) -> Sequence[Figure]:
    where = logins.addresses(Settings(), address)
    installed = Installation(Settings(), where, registry.load(where.tenant_login))
    executor = Executor(model, secret=b"of no use elsewhere, of the right length", by_code_point=True)
    random = Random(0)  # noqa: S311  nothing here is a secret
    figures: list[Figure] = []
    async with AsyncExitStack() as held:
        owner = await held.enter_async_context(await Database.open(address, size=2, statement_timeout=120))
        await migrations.migrate(owner, installed.strategies, where)
        tenants = await held.enter_async_context(await installed.tenants())
        pairs = list(product(installed.strategies, repeat=2))
        for sharing, receiving in pairs:
            made = []
            for role, strategy in (("owner", sharing), ("partner", receiving)):
                slug = f"{role}-{sharing}-{receiving}"
                tenant = await provisioning.create(owner, installed.strategies, slug=slug, name=slug, strategy=strategy)
                user, [row] = await fill(tenants, tenant, 1)
                made.append((tenant, user, row))
            (sharer, user, row), (partner, reader, _) = made
            async with owner.unbound() as work:
                await partnerships.establish(work, [(sharer.id, partner.id)])
            caller = Caller(tenants, Principal(partner, reader, (Role.OWNER,), of_role(Role.OWNER)), executor)
            found = [
                await run_race(tenants, sharer, (user, row), caller, random)
                for _ in track(range(races // len(pairs)), f"{sharing} to {receiving}")
            ]
            name = f"{sharing} to {receiving}"
            figures += [
                Figure(f"{name}: reads with the row, before", sum(each.early for each in found), ""),
                Figure(f"{name}: reads without it, after", sum(each.ended for each in found), ""),
                Figure(f"{name}: reads with it, after", sum(each.late for each in found), "", 0.5),
            ]
    return figures


def main(*, races: Annotated[int, typer.Option(min=4)] = 10_000) -> None:
    """Print how many reads had a row before and after its share was revoked."""
    with TemporaryDirectory() as directory, embedded.running(Path(directory), FAST) as address:
        figures = asyncio.run(run(address, races))
    show(figures, f"{races:,} revocations, each with {READERS} readers")
    sys.exit(not all(each.passed for each in figures))


if __name__ == "__main__":
    typer.run(main)
