"""The timeline: signatures a second, and what the statistics of a day cost in a tenant with a million spans.

``python -m benchmarks.timeline`` from the checkout. Signatures are made and verified in this process, on one core:
with the canonical JSON, and with ``state_of``, which the server's batches call for each span. Statistics are those of
``tenantStats``, of one day, in one transaction; the days have equally many spans.

Exit status 1 if a bar is missed: 5,000 signatures made, and as many verified, a second; 50 ms for the statistics.
"""

import asyncio
import base64
import statistics
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated
from uuid import uuid4

import typer
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from rich.console import Console
from rich.table import Table

from isola.database import embedded
from isola.database.transactions import Database
from isola.platform import logins, migrations, provisioning
from isola.server.installation import Installation
from isola.settings import Settings
from isola.subjects import users
from isola.subjects.actor import Actor
from isola.subjects.permissions import Role, of_role
from isola.subjects.spans.signatures import Verification, canonical, state_of
from isola.subjects.spans.statistics import of_time
from isola_strategies import registry

SIGNED = 5000
SIGNATURES_A_SECOND, STATISTICS_MS = 5000, 50
START = datetime(2026, 1, 1, tzinfo=UTC)
BATCH = 50_000
FAST = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}

FILL = """
INSERT INTO spans (type, author_id, title, payload, metadata, visibility, created_at)
SELECT CASE WHEN n % 10 = 0 THEN 'ghost' WHEN n % 10 = 1 THEN 'system' ELSE 'user' END,
    CASE WHEN n % 10 > 0 THEN ($1::uuid[])[1 + n % cardinality($1::uuid[])] END,
    'reviewed ' || n, jsonb_build_object('seconds', n * 0.25), '{}',
    (ARRAY['public', 'private', 'public'])[1 + n % 3],
    $2::timestamptz + n % $3::int * interval '1 day' + n % 86399 * interval '1 s'
FROM generate_series($4::int, $5::int) n
"""


def signatures() -> tuple[float, float]:
    """Signatures made, and verified, a second."""
    private = Ed25519PrivateKey.generate()
    key = {"public_key": base64.b64encode(private.public_key().public_bytes_raw()).decode(), "revoked_at": None}
    spans = [
        {
            "id": uuid4(), "type": "user", "author_id": uuid4(), "title": f"reviewed {n}", "visibility": "public",
            "payload": {"seconds": n * 0.25, "tags": ["a", "b"]}, "metadata": {"room": n}, "organization_id": None,
            "resource_id": uuid4(), "node": "urn:node:1", "delta_s": 0.5, "replay_from_id": None,
            "created_at": START + timedelta(seconds=n), "verification": Verification.PENDING, "signature": "",
        }
        for n in range(SIGNED)
    ]  # fmt: skip

    def sign() -> None:
        for span in spans:
            span["signature"] = base64.b64encode(private.sign(canonical(span))).decode()

    def verify() -> None:
        if {state_of(span, key) for span in spans} != {Verification.VERIFIED}:
            raise ValueError("a good signature is not verified")

    return SIGNED / _least(sign), SIGNED / _least(verify)


def _least(work: Callable[[], None], rounds: int = 3) -> float:
    """The CPU seconds of the fastest round: this process shares its core."""
    found = []
    for _ in range(rounds):
        before = time.process_time()
        work()
        found.append(time.process_time() - before)
    return min(found)


async def filled(
    owner: Database, tenants: Database, installed: Installation, strategy: str, spans: int, days: int
) -> Actor:
    """Make a tenant with spans; returns a user who sees those that are public, and ghosts."""
    slug = f"{strategy}-{days}"
    tenant = await provisioning.create(owner, installed.strategies, slug=slug, name=slug, strategy=strategy)
    home = installed.strategies[strategy].home(tenant.id).schema
    async with tenants.transaction(tenant) as work:
        people = [await users.ensure(work, subject=f"s{n}", name=None, email=None) for n in range(50)]
    async with owner.unbound() as work:
        await work.script(f"ALTER TABLE {home}.spans DISABLE TRIGGER USER")
    for first in range(0, spans, BATCH):
        async with tenants.transaction(tenant) as work:
            await work.value(FILL, people, START, days, first, min(first + BATCH, spans) - 1)
    async with owner.unbound() as work:
        await work.script(f"ALTER TABLE {home}.spans ENABLE TRIGGER USER; ANALYZE {home}.spans")
    return Actor(people[0], of_role(Role.ADMIN))


async def run(address: str, spans: int, days: list[int], rounds: int) -> dict[tuple[str, int], float]:
    settings = Settings(statement_timeout=300, transaction_timeout=600)
    where = logins.addresses(settings, address)
    installed = Installation(settings, where, registry.load(where.tenant_login))
    found = {}
    async with (
        await Database.open(address, size=2, statement_timeout=300) as owner,
        await installed.tenants() as tenants,
    ):
        await migrations.migrate(owner, installed.strategies, where)
        for strategy in installed.strategies:
            for each in days:
                actor = await filled(owner, tenants, installed, strategy, spans, each)
                tenant = await provisioning.named(owner, f"{strategy}-{each}")
                took = []
                for number in range(rounds):
                    start = START + timedelta(days=number % each)
                    before = time.perf_counter()
                    async with tenants.transaction(tenant, read_only=True, about=actor.reader) as work:
                        counted = await of_time(work, start, start + timedelta(days=1))
                    took.append((time.perf_counter() - before) * 1000)
                    if not counted.spans:
                        raise ValueError("there is nothing to count")
                found[strategy, each] = statistics.median(took)
    return found


def main(
    spans: Annotated[int, typer.Option(min=1000)] = 1_000_000,
    days: Annotated[
        str, typer.Option(help="days over which the spans are spread; the bar is for the first value")
    ] = "365",
    rounds: Annotated[int, typer.Option(min=1)] = 15,
) -> None:
    """Print signatures a second, and the milliseconds of a day's statistics."""
    made, verified = signatures()
    console = Console()
    console.print(f"signatures a second on one core: {made:,.0f} made, {verified:,.0f} verified")
    listed = [int(each) for each in days.split(",")]
    with TemporaryDirectory() as directory, embedded.running(Path(directory), FAST) as address:
        found = asyncio.run(run(address, spans, listed, rounds))
    table = Table("strategy", "spans", "days", "spans of the day", "ms, median", box=None)
    for (strategy, each), took in found.items():
        table.add_row(strategy, f"{spans:,}", str(each), f"{spans // each:,}", f"{took:.1f}")
    console.print(table)
    late = [took for (_, each), took in found.items() if each == listed[0] and took > STATISTICS_MS]
    if min(made, verified) < SIGNATURES_A_SECOND or late:
        sys.exit(1)


if __name__ == "__main__":
    typer.run(main)
