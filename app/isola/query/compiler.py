"""The three steps in a row, each remembered: plans by operation, statements by plan and shapes.

What is remembered holds nothing of a tenant or a user. On the way of a request whose plan and statement are known there
are look-ups, the reading of its arguments, and one awaited query.
"""

from collections.abc import Hashable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

from graphql import GraphQLError, GraphQLField
from graphql.execution.values import VariableValues

from isola.errors import BadUserInput
from isola.query import caller, cursor, planning, statement
from isola.query.arguments import Ids, Read, Shape
from isola.query.caller import Placement, Principal, Transaction
from isola.query.documents import Document, Operation
from isola.query.effort import Effort
from isola.query.limits import Limits
from isola.query.mapping import Model
from isola.query.read_plan import Place, ReadPlan, ReadPlans, Refused, coerced
from isola.query.remembered import Remembered
from isola.query.statement import Statement


@dataclass(frozen=True, slots=True)
class Reading:
    """One request's use of a plan: everything but the placement is settled.

    ``refused`` are the fields at the root that are not carried out, by response key; ``plan`` does not read them.
    """

    plan: ReadPlan
    shapes: tuple[Shape, ...]
    values: tuple[tuple[Any, ...], ...]
    caller: tuple[object, ...]
    refused: Mapping[str, Refused]
    user: Hashable
    """Who is charged for what has to be made of it."""


# The number of sites from which on a statement takes tens of milliseconds to be written.
_LARGE = 8


class Compiler:
    """Reads what operations select. ``secret`` keys the cursors: with another, none that was issued is good."""

    def __init__(
        self,
        model: Model,
        limits: Limits,
        secret: bytes,
        *,
        effort: Effort | None = None,
        most: int = 10 * 1024 * 1024,
        by_code_point: bool = False,
    ) -> None:
        """``most`` bytes of statements are kept. ``effort`` is charged for what is not.

        ``by_code_point``: so the database sorts texts, and an index finds those that start with one.
        """
        self._by_code_point = by_code_point
        self.model = model
        self.limits = limits
        self.effort = effort or Effort()
        self._secret = secret
        self._statements: Remembered[Hashable, Statement] = Remembered(most)
        self._planned = 0

    def plans(self, operation: Operation, variables: Mapping[str, Any], user: Hashable = None) -> ReadPlans:
        """Raises BadUserInput where a variable that ``@skip`` or ``@include`` asks for is null."""
        conditions = tuple([variables.get(name) for name in operation.conditions])
        plans: ReadPlans = operation.once(
            conditions, self.effort.now, user, partial(self._plan_of, operation, conditions)
        )
        return plans

    def prepare(self, document: Document) -> Document:
        """Make the plans of a document that do not depend on a request, and what is the same in all."""
        for operation in document.operations.values():
            if not operation.conditions:
                plans = operation.once((), self._plan_of, operation, ())
                for plan in [plans] if isinstance(plans, ReadPlan) else plans.values():
                    for site in plan.sites:
                        # It is said to whoever asks for it.
                        with suppress(BadUserInput):
                            site.prepare()
        return document

    def read(self, plan: ReadPlan, variables: VariableValues, principal: Principal) -> Reading:
        """What a request gives at each site.

        A field at the root for which the caller lacks a permission, or has arguments that make no sense, is refused
        and not read. Raises BadUserInput where all together asks for too much.
        """

        def cursor_key(place: object) -> bytes:
            return cursor.key(self._secret, principal.tenant.id, place)

        read: list[Read] = []
        refused = dict(plan.refused)
        for site in plan.sites:
            try:
                read.append(site.read(variables, cursor_key))
            except BadUserInput as error:
                refused.setdefault(site.root, Refused(error, Place(site.path, site.node)))
                read.append(_NOTHING)
        if plan.called and (None in variables.coerced.values() or len(variables.coerced) < len(variables.sources)):
            refused |= _uncallable(plan.called, variables)
        # Whoever may not do something is not told what else is wrong with it.
        shapes = tuple([shape for shape, _ in read])
        refused |= plan.forbidden(principal.permissions, shapes)
        if refused:
            plan = plan.without(frozenset(refused))
            read = [_NOTHING if site.root in refused else each for site, each in zip(plan.sites, read, strict=True)]
            shapes = tuple([shape for shape, _ in read])
        if shapes:
            try:
                self.limits.check("rows", _estimate(plan, shapes))
            except BadUserInput as error:
                if plan.called is None:
                    raise
                refused[plan.called[1].path[0]] = Refused(error, plan.called[1])
        values = tuple([values for _, values in read])
        return Reading(plan, shapes, values, caller.values(principal), refused, principal.tenant.id)

    async def fetch(
        self, reading: Reading, transaction: Transaction, given: Mapping[str, object] | None = None, *, marked: bool
    ) -> str:
        """The JSON text of what is selected. It may hold json_text.VIOLATION. ``given``: see mapping.Parameters.

        Raises AnswerTooLarge.
        """
        placement = transaction.strategy
        key = _key(reading, placement, marked=marked)
        written = self._statements.get(key, reading.user)
        if written is None:
            write = partial(self._write, reading, placement, marked=marked)
            written = await self.effort.spend(reading.user, write, large=len(reading.shapes) > _LARGE)
            self._statements.put(key, written, written.size, reading.user)
        handed = () if given is None else tuple([given[name] for name in reading.plan.row.columns])
        text: str = await transaction.value(written.sql, *written.arguments(reading.caller, handed, reading.values))
        self.limits.check_answer(text)
        return text

    def statement(self, reading: Reading, placement: Placement, *, marked: bool = False) -> Statement:
        key = _key(reading, placement, marked=marked)
        written = self._statements.get(key, reading.user)
        if written is None:
            written = self._write(reading, placement, marked=marked)
            self._statements.put(key, written, written.size, reading.user)
        return written

    def measures(self) -> dict[str, int]:
        """How many plans were made, and what is remembered of statements."""
        known = self._statements
        return {"plans": self._planned, "hits": known.hits, "misses": known.misses, "bytes": known.bytes}

    def _write(self, reading: Reading, placement: Placement, *, marked: bool) -> Statement:
        most = self.limits.answer_bytes
        return statement.write(
            self.model,
            reading.plan,
            reading.shapes,
            placement,
            most=most,
            marked=marked,
            by_code_point=self._by_code_point,
        )

    def _plan_of(self, operation: Operation, conditions: tuple[Any, ...]) -> ReadPlans:
        self._planned += 1
        values = dict(zip(operation.conditions, conditions, strict=True))
        try:
            return planning.plan(self.model, self.limits, operation.node, operation.fragments, values)
        except GraphQLError:
            # Nothing else is coerced there.
            raise BadUserInput("if: expected a value of the type Boolean!", "if") from None


def _key(reading: Reading, placement: Placement, *, marked: bool) -> Hashable:
    return reading.plan.serial, reading.shapes, placement, marked


# What is read at a site in a field that is refused.
_NOTHING: Read = (Ids((), 0), ())


def _uncallable(called: tuple[GraphQLField, Place], variables: VariableValues) -> Mapping[str, Refused]:
    """The field of a mutation, where a variable that its arguments ask for is null or left out."""
    definition, place = called
    try:
        coerced(definition, place.node, variables)
    except BadUserInput as error:
        return {place.path[0]: Refused(error, place)}
    return {}


def _estimate(plan: ReadPlan, shapes: Sequence[Shape]) -> int:
    """What a request costs, in rows: page sizes, multiplied down the tree and summed over it, and scans."""
    rows: list[int] = []
    cost = 0
    for site, shape in zip(plan.sites, shapes, strict=True):
        if shape is _NOTHING[0]:
            rows.append(0)
            continue
        times = 1 if site.parent is None else rows[site.parent]
        rows.append(shape.size * times)
        cost += site.cost(shape) * times
    return cost
