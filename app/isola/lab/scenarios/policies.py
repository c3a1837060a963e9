"""The cost of row-level security itself, and the part of it that is due to the proof."""

import statistics
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Self

from isola.database.transactions import Database, Transaction
from isola.errors import OperatorError
from isola.lab.backend import Backend
from isola.lab.laboratory import Laboratory
from isola.lab.place import Place
from isola.lab.population import Resident
from isola.lab.scenario import Needs, Point, Profile, sized, strategies
from isola.lab.statements import Statements, Written
from isola.platform import protection
from isola.platform.visibility import POLICY
from isola_strategies.base import Home, Strategy

PROVED, CLAIMED, WITHOUT, UNSAID = "proved", "claimed", "without_policies", "without_predicate"
# Long enough to make the cost of reading the process clock negligible; short enough for other load on the machine to
# affect all kinds equally.
BLOCK_SECONDS = 0.04
# After five executions PostgreSQL decides between custom and generic plans; one more uses the decision.
WARMING = 8
LEAST_CYCLES = 2
# The functions of policies, and how the same is read from settings that nothing proves.
CLAIMS = {
    "isola.current_tenant_id()": "isola.claimed_tenant_id()",
    "isola.current_user_id()": "nullif(split_part(current_setting('isola.proof'), chr(10), 2), '')::uuid",
    "isola.current_permissions()": "string_to_array(split_part(current_setting('isola.proof'), chr(10), 6), ' ')",
}


class Policies:
    """The same statement of the compiler, on the same rows, by the same login, with its tables guarded differently.

    - ``proved``: as the product does it. The policies ask for the proof, the statement names the tenant as well.
    - ``claimed``: the policies believe the settings that name tenant and user, and nothing is proved.
    - ``without_policies``: the policies of tenants admit every row. What the statement itself says keeps it to the
      tenant. Policies of visibility rules remain, as the answer would be another without them.
    - ``without_predicate``: as ``proved``, but the statement does not name the tenant; only where there is a predicate.

    Tables, indexes, statistics and what is cached are equal because they are the same: between the blocks of a cycle
    the owner alters policies, nothing else, and puts them back at the end. Each cycle has one block of each kind in
    another order, all for the same tenant. What is timed is the whole transaction, from taking a connection to giving
    it back, so the proof's making and sending counts as well. Each ratio is of two blocks of one cycle; the value is
    the median over all cycles.
    """

    name = "policies"
    question = "What does row-level security itself cost?"
    notes = (
        (
            "All four kinds are measured on the same physical tables by the same login, policies altered in between. "
            "A copy of the tables would have other pages, and a role with BYPASSRLS other rights to check."
        ),
        (
            "`signing ratio` is `proved` against `claimed`: what it costs that a transaction proves its tenant "
            "instead of naming it. It includes making the proof and sending it, in one process with one connection. "
            "Over HTTP the same microseconds are a smaller part of a request."
        ),
        (
            "Under `schema` the policies are there by our design: a role for each tenant would keep tenants apart "
            "without them, but the login can take every role, and the policies want the proof."
        ),
        (
            "PostgreSQL chooses a plan for each kind by itself, and with few tenants, where tables are small, it can "
            "be another with policies than without. So read these ratios where tables are large."
        ),
        (
            "The function that checks the proof is PL/pgSQL: its first call in a transaction costs several times what "
            "further calls do. This follows from our design."
        ),
        (
            "Under `schema` one tenant is asked again and again here, so that plans are kept. What it costs to go "
            "from one to another is a question of its own: see the tenant switch."
        ),
    )

    def __init__(self) -> None:
        self._statements = Statements()
        self._seconds = 1.0

    def points(self, profile: Profile) -> Iterable[Point]:
        self._seconds = profile.seconds(self.name)
        return profile.points(self.name)

    def subjects(self, point: Point) -> Sequence[str]:  # noqa: ARG002  the same everywhere
        return strategies()

    def needs(self, point: Point) -> Needs:
        populations = tuple(sized(point, subject) for subject in self.subjects(point))
        return Needs(connections=3, populations=populations)

    def expected_seconds(self, point: Point) -> float:  # noqa: ARG002  the same everywhere
        return self._seconds * 1.5

    async def measure(self, laboratory: Laboratory, point: Point, subject: str, round: int) -> Mapping[str, float]:
        population = await laboratory.populated(sized(point, subject))
        strategy = population.place.strategies[subject]
        operation = laboratory.operations[point.text("operation")]
        kinds = [PROVED, CLAIMED, WITHOUT, *([UNSAID] if strategy.predicate("any") else [])]
        found: dict[str, list[_Block]] = {kind: [] for kind in kinds}
        async with _guards(population.place) as guards, AsyncExitStack() as opened:
            runs = {kind: await opened.enter_async_context(_Run.opened(kind, population.place)) for kind in kinds}
            ends = time.monotonic() + self._seconds
            cycle = 0
            while cycle < LEAST_CYCLES or time.monotonic() < ends:
                resident = population.residents[(round + cycle * 7) % len(population.residents)]
                guarded = await guards.of(strategy, resident)
                answers = set()
                try:
                    for turn in range(len(kinds)):
                        kind = kinds[(turn + cycle + round) % len(kinds)]
                        await guarded.become(kind)
                        placement = _Unsaid() if kind == UNSAID else strategy
                        written = self._statements.of(operation, resident, placement)
                        block, answer = await runs[kind].block(laboratory, resident, written)
                        found[kind].append(block)
                        answers.add(answer)
                finally:
                    await guarded.become(PROVED)
                if len(answers) != 1:
                    raise OperatorError("with other policies the answer was another: nothing can be compared")
                cycle += 1
        return _values(found)


def _values(found: Mapping[str, Sequence["_Block"]]) -> Mapping[str, float]:
    values: dict[str, float] = {}
    for kind, blocks in found.items():
        values[f"{kind}_us"] = statistics.median([block.us for block in blocks])
        used = [block.cpu_us for block in blocks if block.cpu_us is not None]
        if used:
            values[f"{kind}_postgresql_cpu_us"] = statistics.median(used)
    for name, this, other in (
        ("policies_ratio", PROVED, WITHOUT),
        ("unsigned_policies_ratio", CLAIMED, WITHOUT),
        ("signing_ratio", PROVED, CLAIMED),
        ("missing_predicate_ratio", UNSAID, PROVED),
    ):
        if this in found:
            pairs = list(zip(found[this], found[other], strict=True))
            values[name] = statistics.median([one.us / two.us for one, two in pairs])
            used = [one.cpu_us / two.cpu_us for one, two in pairs if one.cpu_us and two.cpu_us]
            if used:
                values[name.replace("_ratio", "_postgresql_cpu_ratio")] = statistics.median(used)
    return values


@dataclass(frozen=True, slots=True)
class _Block:
    """Microseconds of a transaction: median elapsed time, and mean CPU time of PostgreSQL's backend."""

    us: float
    cpu_us: float | None


class _Run:
    """The connection of one kind."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @classmethod
    @asynccontextmanager
    async def opened(cls, kind: str, place: Place) -> AsyncIterator[Self]:
        proves = kind in {PROVED, UNSAID}
        async with await place.tenants() if proves else await _believed(place) as database:
            yield cls(database)

    async def block(self, laboratory: Laboratory, resident: Resident, written: Written) -> tuple[_Block, str]:
        async with self._database.transaction(resident.tenant, read_only=True) as work:
            backend = await Backend.behind(work, laboratory)
        answer = ""
        for _ in range(WARMING):
            answer = await self._once(resident, written)
        times: list[float] = []
        used = backend.timed()
        ends = time.perf_counter() + BLOCK_SECONDS
        while not times or time.perf_counter() < ends:
            started = time.perf_counter()
            await self._once(resident, written)
            times.append(time.perf_counter() - started)
        cpu = used()
        return _Block(statistics.median(times) * 1e6, None if cpu is None else cpu / len(times)), answer

    async def _once(self, resident: Resident, written: Written) -> str:
        async with self._database.transaction(resident.tenant, read_only=True, about=written.about) as work:
            return str(await work.value(written.sql, *written.arguments))


async def _believed(place: Place) -> Database:
    """Connections for tenant traffic without proofs, for policies that trust the claimed tenant."""
    installation = place.installation
    return await Database.open(installation.addresses.tenant, installation.strategies, wait=60, statement_timeout=600)


class _Unsaid:
    """A placement without a tenant predicate: only the policies select the tenant's rows."""

    def predicate(self, table: str) -> None:  # noqa: ARG002  no table has one
        return None


class _Guards:
    """The policies of a place, on a connection of the owner."""

    def __init__(self, owner: Database) -> None:
        self._owner = owner
        self._known: dict[str, _Guarded] = {}

    async def of(self, strategy: Strategy, resident: Resident) -> "_Guarded":
        """The policies of the resident's home, as the product created them."""
        home = strategy.home(resident.tenant.id)
        if home.schema not in self._known:
            async with self._owner.unbound() as work:
                self._known[home.schema] = _Guarded(self._owner, home, await _policies(work, home.schema))
        return self._known[home.schema]


@asynccontextmanager
async def _guards(place: Place) -> AsyncIterator[_Guards]:
    async with await place.owner() as owner:
        yield _Guards(owner)


@dataclass(frozen=True, slots=True)
class _Policy:
    table: str
    name: str
    using: str
    check: str | None

    def altered(self, asked: Callable[[str], str]) -> str:
        check = f" WITH CHECK ({asked(self.check)})" if self.check else ""
        return f"ALTER POLICY {self.name} ON {self.table} USING ({asked(self.using)}){check}"


class _Guarded:
    def __init__(self, owner: Database, home: Home, policies: Sequence[_Policy]) -> None:
        self._owner = owner
        self._home = home
        self._policies = policies

    async def become(self, kind: str) -> None:
        """Alter the policies, and nothing else."""
        believed = kind in {CLAIMED, WITHOUT}
        statements = [
            policy.altered(_admitting if kind == WITHOUT and policy.name != POLICY else _claimed if believed else str)
            for policy in self._policies
        ]
        async with self._owner.unbound() as work:
            # A server would refuse the home otherwise.
            await work.script(";\n".join((*statements, protection.mark(self._home))))


def _claimed(expression: str) -> str:
    for proved, claimed in CLAIMS.items():
        expression = expression.replace(proved, claimed)
    return expression


def _admitting(expression: str) -> str:  # noqa: ARG001  whatever it was
    return "true"


async def _policies(work: Transaction, home: str) -> Sequence[_Policy]:
    async def column(what: str) -> list[str]:
        return await work.texts(
            f"SELECT {what} FROM pg_policy p JOIN pg_class c ON c.oid = p.polrelid"
            # A peer measured earlier on the same tables may have left policies for its own login.
            " WHERE c.relnamespace = $1::regnamespace AND (p.polroles = '{0}' OR p.polname = $2)"
            " ORDER BY c.relname, p.polname",
            home,
            POLICY,
        )

    tables, names = await column("c.oid::regclass::text"), await column("quote_ident(p.polname)")
    using = await column("pg_get_expr(p.polqual, p.polrelid)")
    check = await column("pg_get_expr(p.polwithcheck, p.polrelid)")
    if not tables or not all(any(name in each for name in CLAIMS) for each in using):
        raise OperatorError(f"the policies of {home} do not ask for a proof: expected what the product makes")
    return [_Policy(*each) for each in zip(tables, names, using, check, strict=True)]
