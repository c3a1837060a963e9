"""A server in a separate process, with tenants of every strategy, and its recorded history."""

import random
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from isola.database.transactions import Database
from isola.platform import provisioning
from isola.testing.consent import make_partners
from isola.testing.fixtures import STRATEGIES, Copy
from tests.cli.processes import Place
from tests.elle.checker import Anomaly, check
from tests.elle.history import Operation, Outcome
from tests.elle.workload import Recorder, recorded

TENANTS_A_STRATEGY = 2
PARTNERS = 8
CLIENTS = 6


@dataclass(frozen=True, slots=True)
class Report:
    """The result of a run. ``seconds`` are the durations of the transactions and of the checking."""

    history: Sequence[Operation]
    anomalies: Sequence[Anomaly]
    backends_killed: int
    seconds: tuple[float, float]

    @property
    def outcomes(self) -> Mapping[str, int]:
        return Counter(str(operation.outcome) for operation in self.history)

    @property
    def acknowledged(self) -> int:
        return self.outcomes.get(Outcome.OK, 0)

    def __str__(self) -> str:
        outcomes = ", ".join(f"{number} {outcome}" for outcome, number in sorted(self.outcomes.items()))
        recorded_in, checked_in = self.seconds
        return (
            f"{len(self.history)} transactions ({outcomes}) in {recorded_in:.1f} s, {self.backends_killed} connections"
            f" of the server killed; checked in {checked_in:.1f} s: {len(self.anomalies)} anomalies"
        )


async def furnish(copy: Copy) -> tuple[list[str], list[str]]:
    """Create the tenants that run transactions and those that they share with; return their slugs."""
    assert copy.where.owner
    working = [f"{strategy}-elle-{number}" for number in range(TENANTS_A_STRATEGY) for strategy in STRATEGIES]
    partners = [f"partner-{number}" for number in range(PARTNERS)]
    async with await Database.open(copy.where.owner, statement_timeout=60) as owner:
        for number, slug in enumerate([*working, *partners]):
            strategy = STRATEGIES[number % len(STRATEGIES)]
            await provisioning.create(owner, copy.strategies, slug=slug, name=slug, strategy=strategy)
        await make_partners(owner)
    return working, partners


async def run(
    copy: Copy, directory: Path, transactions: int, *, faults: bool = True, seed: int = 1, **settings: str
) -> Report:
    """Serve the database, record this many transactions, and check them. ``settings`` are the server's environment."""
    assert copy.where.owner
    working, partners = await furnish(copy)
    place = Place(
        directory,
        {
            "ISOLA_DATABASE_URL": copy.where.owner,
            "ISOLA_TENANT_URL": copy.where.tenant,
            "ISOLA_CONTROL_URL": copy.where.control,
            **settings,
        },
    )
    chance = random.Random(seed)  # noqa: S311  nothing here is a secret
    with place.server() as server:
        recorders = [
            Recorder(slug, server.url, place.token(slug), partners, chance, 0.02 if faults else 0.0) for slug in working
        ]
        begun = time.monotonic()
        history, killed = await recorded(
            recorders, transactions, CLIENTS, copy.where.owner, copy.where.tenant_login, faults=faults
        )
        recorded_at = time.monotonic()
    anomalies = check(history)
    return Report(history, anomalies, killed, (recorded_at - begun, time.monotonic() - recorded_at))
