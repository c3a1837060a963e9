"""What it costs that the database holds who may see a row: PostgreSQL's CPU against the condition in the statement.

``python -m benchmarks.visible`` from the checkout. Under each strategy, a list of 20 resources with five spans each is
read on one connection, as the server reads it; two of five spans are their user's private ones. Then the same is read
without the policy, with the rule as a condition in the statement, as a program would write it that the database trusts.
The two alternate; the ratio is the median over the rounds.
"""

import asyncio
import re
import statistics
from collections.abc import Sequence
from typing import Annotated
from uuid import UUID

import asyncpg
import typer

from benchmarks.figures import Figure, show
from benchmarks.large import STRATEGIES, analyze
from benchmarks.many import place_of, populated, residents
from benchmarks.reading import microseconds
from isola.installed import metadata
from isola.lab.backend import Backend
from isola.lab.operations import READS
from isola.lab.population import Resident
from isola.lab.statements import Statements, Written
from isola.platform.visibility import POLICY, condition as of_policy
from isola.subjects import visibility
from isola.subjects.permissions import Role, of_role
from isola_strategies.base import Strategy

OPERATIONS = ("ResourcesWithSpans", "Resources")
"""The second one reads no subject with a rule."""
RESOURCES, SPANS = 100, 500
SAMPLED, REPEATED, WARMING = 3, 60, 12
BAR = 1.03
MIXED = "UPDATE {home}.spans SET visibility = 'private' WHERE abs(hashtext(id::text)) % 5 < 2"


def with_condition(written: Written) -> Written:
    """The statement with the rule of spans as a condition of each scan, for the user and permissions in parameters."""
    place = len(written.arguments)
    rule = visibility.condition_in_sql(metadata.tables["spans"]) or ""
    rule = rule.replace("(SELECT isola.current_user_id())", f"${place + 1}::uuid")
    rule = rule.replace("(SELECT isola.current_permissions())::text[]", f"${place + 2}::text[]")

    def scan(found: re.Match[str]) -> str:
        return f"{found[0]}({rule.replace('spans.', f'{found[1]}.')}) AND "

    sql, count = re.subn(r"FROM spans AS (\w+)\s+WHERE ", scan, written.sql)
    if not count:
        return written
    user = [UUID(written.about["user"]), sorted(of_role(Role.OWNER))]
    return Written(sql, [*written.arguments, *user], written.about)


async def without_policy(
    owner: asyncpg.Connection, strategy: Strategy, some: Sequence[Resident], *, dropped: bool
) -> None:
    """Drop the policies of the residents' homes, or create them again."""
    using = of_policy(strategy, "spans")
    for home in {strategy.home(each.tenant.id) for each in some}:
        role = home.role or strategy.login
        create = f"CREATE POLICY {POLICY} ON spans AS RESTRICTIVE TO {role} USING ({using}) WITH CHECK (true)"
        await owner.execute(f"SET search_path TO {home.schema}; DROP POLICY IF EXISTS {POLICY} ON spans")
        if not dropped:
            await owner.execute(create)


async def run(address: str, name: str, rounds: int) -> Sequence[Figure]:
    place = place_of(address, connections=1)
    strategy = place.strategies[name]
    owner = await asyncpg.connect(address)
    await owner.execute("SET session_replication_role TO replica")
    some = (await residents(place))[:SAMPLED]
    for home in {strategy.home(each.tenant.id).schema for each in some}:
        await owner.execute(MIXED.format(home=home))
    await analyze(address)
    statements = Statements()
    figures = []
    async with await place.tenants() as database:
        async with database.unbound() as work:
            backend = Backend(await work.value("SELECT pg_backend_pid()"))
        for operation in OPERATIONS:
            held = [(each, statements.of(READS[operation], each, strategy)) for each in some]
            written = [(each, with_condition(read)) for each, read in held]
            found: list[tuple[float, float]] = []
            for number in range(rounds):
                used = {}
                for dropped in (number % 2 == 0, number % 2 != 0):
                    await without_policy(owner, strategy, some, dropped=dropped)
                    used[dropped] = await microseconds(
                        database, written if dropped else held, backend, warming=WARMING, repeated=REPEATED
                    )
                found.append((used[False], used[True]))
            ratio = statistics.median(policy / condition for policy, condition in found)
            medians = " against ".join(f"{statistics.median(each):.0f}" for each in zip(*found, strict=True))
            figures.append(Figure(f"{name}, {operation}: {medians} µs", ratio, "", BAR))
    await owner.close()
    return figures


def main(
    tenants: Annotated[int, typer.Option(min=SAMPLED)] = 100, rounds: Annotated[int, typer.Option(min=1)] = 25
) -> None:
    """Print the ratios."""
    figures: list[Figure] = []
    for name in STRATEGIES:
        with populated(name, tenants, RESOURCES, SPANS) as address:
            figures += asyncio.run(run(address, name, rounds))
    show(figures, "CPU with the rule in a policy, to that with the rule in the statement")


if __name__ == "__main__":
    typer.run(main)
