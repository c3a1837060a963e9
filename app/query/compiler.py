"""The three steps in a row, each remembered: plans by operation, statements by plan and shapes.

What is remembered holds nothing of a tenant or a user. On the way of a request whose plan and statement are known there
are look-ups, the reading of its arguments, and one awaited query.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from graphql.execution.values import VariableValues

from app.query import caller, cursor, planning, statement
from app.query.arguments import Shape
from app.query.caller import Placement, Principal, Transaction
from app.query.documents import Operation
from app.query.limits import Limits
from app.query.mapping import Model
from app.query.plan import Plan, Plans
from app.query.statement import Statement


@dataclass(frozen=True, slots=True)
class Reading:
    """One request's use of a plan: everything but the placement is settled."""

    plan: Plan
    shapes: tuple[Shape, ...]
    values: tuple[tuple[Any, ...], ...]
    caller: tuple[object, ...]


class Compiler:
    """Reads what operations select. ``secret`` keys the cursors: with another, none that was issued is good."""

    def __init__(self, model: Model, limits: Limits, secret: bytes, *, size: int = 2000) -> None:
        self.model = model
        self.limits = limits
        self._secret = secret
        self._plan = lru_cache(size)(self._plan_of)
        self._statement = lru_cache(size)(self._statement_of)

    def plans(self, operation: Operation, variables: Mapping[str, Any]) -> Plans:
        """Raises Forbidden, naming the path, for what must not be selected."""
        return self._plan(operation, tuple([variables.get(name) for name in operation.conditions]))

    def read(self, plan: Plan, variables: VariableValues, principal: Principal) -> Reading:
        """What a request gives at each site.

        Raises Forbidden, naming the path, for what the caller may not select, and BadUserInput for arguments that
        make no sense or ask too much.
        """

        def cursor_key(place: object) -> bytes:
            return cursor.key(self._secret, principal.tenant.id, place)

        read = [site.read(variables, cursor_key) for site in plan.sites]
        shapes = tuple([shape for shape, _ in read])
        plan.check(principal.permissions, shapes)
        if shapes:
            self.limits.check("rows", _estimate(plan, shapes))
        return Reading(plan, shapes, tuple([values for _, values in read]), caller.values(principal))

    async def fetch(
        self, reading: Reading, transaction: Transaction, given: Mapping[str, object] | None = None, *, marked: bool
    ) -> str:
        """The JSON text of what is selected. It may hold json_text.VIOLATION. ``given``: see mapping.Parameters.

        Raises AnswerTooLarge.
        """
        written = self.statement(reading, transaction.strategy, marked=marked)
        handed = () if given is None else tuple([given[name] for name in reading.plan.row.columns])
        text: str = await transaction.value(written.sql, *written.arguments(reading.caller, handed, reading.values))
        self.limits.check_answer(text)
        return text

    def statement(self, reading: Reading, placement: Placement, *, marked: bool = False) -> Statement:
        return self._statement(reading.plan, reading.shapes, placement, marked)

    def measures(self) -> dict[str, Any]:
        """Hits, misses and size of what is remembered."""
        return {
            "plans": self._plan.cache_info()._asdict(),
            "statements": self._statement.cache_info()._asdict(),
        }

    def _plan_of(self, operation: Operation, conditions: tuple[bool, ...]) -> Plans:
        values = dict(zip(operation.conditions, conditions, strict=True))
        return planning.plan(self.model, self.limits, operation.node, operation.fragments, values)

    def _statement_of(self, plan: Plan, shapes: tuple[Shape, ...], placement: Placement, marked: bool) -> Statement:  # noqa: FBT001  cached
        return statement.write(self.model, plan, shapes, placement, most=self.limits.answer_bytes, marked=marked)


def _estimate(plan: Plan, shapes: Sequence[Shape]) -> int:
    """What a request costs, in rows: page sizes, multiplied down the tree and summed over it, and scans."""
    rows: list[int] = []
    cost = 0
    for site, shape in zip(plan.sites, shapes, strict=True):
        times = 1 if site.parent is None else rows[site.parent]
        rows.append(shape.size * times)
        cost += site.cost(shape) * times
    return cost
