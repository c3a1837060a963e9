"""The three steps in sequence, each cached: plans by operation, statements by plan and shapes.

The caches contain no data of a tenant or a user. A request whose plan and statement are cached needs only look-ups,
the reading of its arguments, and one awaited query.
"""

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence, Set as AbstractSet
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias
from uuid import UUID

from graphql import GraphQLError, GraphQLField
from graphql.execution.values import VariableValues
from sqlalchemy import Table

from isola.errors import BadUserInput
from isola.query import caller, cursor, marks, planning, statement
from isola.query.arguments import Ids, Page, Read, Shape
from isola.query.caller import Placement, Principal, Transaction
from isola.query.documents import Document, Operation
from isola.query.effort import Effort
from isola.query.family import Family
from isola.query.limits import Limits
from isola.query.mapping import Model
from isola.query.read_plan import Connection, Constant, Place, ReadPlan, ReadPlans, Refused, Selected, coerced
from isola.query.remembered import Remembered
from isola.query.statement import Statement

if TYPE_CHECKING:
    from isola.database.claims import Claim


class Logged(NamedTuple):
    """The subjects whose reads are logged, and what is called with the number of rows that were read of each."""

    subjects: AbstractSet[str]
    note: Callable[[Mapping[str, int]], None]


@dataclass(frozen=True, slots=True)
class Reading:
    """One request's use of a plan: everything except the placement is decided.

    ``refused`` are the refused root fields, by response key; ``plan`` does not read them.
    """

    plan: ReadPlan
    shapes: tuple[Shape, ...]
    values: tuple[tuple[Any, ...], ...]
    caller: tuple[object, ...]
    refused: Mapping[str, Refused]
    tenant: UUID
    """The tenant of the caller, which is charged for the statement that has to be written."""
    descendants: frozenset[str] = frozenset()
    """The root fields that read the rows of descendants; if there are any, the plan reads nothing else."""
    cost: int = 0
    """The cost of the request in rows, without what refused fields and descendants would cost."""
    logged: Logged | None = None


Note: TypeAlias = Callable[[UUID, Iterable[str]], None]
"""Called with a tenant and the shares whose rows it has read."""


def unnoted(reader: UUID, shares: Iterable[str]) -> None:
    """Where nothing records what was read."""


# From this number of sites on, writing a statement takes tens of milliseconds.
_LARGE = 8


class Compiler:
    """Compiles and reads the selections of operations. ``secret`` keys the cursors: a new one invalidates them all."""

    def __init__(
        self,
        model: Model,
        limits: Limits,
        secret: bytes,
        *,
        effort: Effort | None = None,
        most: int = 10 * 1024 * 1024,
        by_code_point: bool = False,
        note: Note = unnoted,
    ) -> None:
        """``most`` bytes of statements are cached. ``effort`` is charged for writing those that are not.

        ``by_code_point``: the database sorts texts by code point, so an index serves ``startsWith``. ``note`` is called
        with the reading tenant and the shares whose rows were read in a result.
        """
        self._note = note
        self._by_code_point = by_code_point
        self.model = model
        self.limits = limits
        self.effort = effort or Effort()
        self._secret = secret
        self._statements: Remembered[Hashable, Statement] = Remembered(most)
        self._planned = 0

    def plans(self, operation: Operation, variables: Mapping[str, Any], user: Hashable = None) -> ReadPlans:
        """Raises BadUserInput if a variable of ``@skip`` or ``@include`` is null."""
        conditions = tuple([variables.get(name) for name in operation.conditions])
        plans: ReadPlans = operation.once(
            conditions, self.effort.now, user, partial(self._plan_of, operation, conditions)
        )
        return plans

    def prepare(self, document: Document) -> Document:
        """Make the plans of a document that do not depend on a request, and read their constant arguments."""
        for operation in document.operations.values():
            if not operation.conditions:
                plans = operation.once((), self._plan_of, operation, ())
                for plan in [plans] if isinstance(plans, ReadPlan) else plans.values():
                    for site in plan.sites:
                        # Each request for this operation gets the error.
                        with suppress(BadUserInput):
                            site.prepare()
        return document

    def read(
        self, plan: ReadPlan, variables: VariableValues, principal: Principal, logged: Logged | None = None
    ) -> Reading:
        """Read a request's arguments at each site. ``logged``: the log has reads of some subjects.

        A root field for which the caller lacks a permission, or whose arguments are invalid, is refused and not read.
        Raises BadUserInput if the whole request exceeds the limit of rows.
        """

        def cursor_key(place: object) -> bytes:
            return cursor.key(self._secret, principal.tenant.id, place)

        read: list[Read] = []
        refused: dict[str, Refused] = {}
        for site in plan.sites:
            try:
                read.append(site.read(variables, cursor_key))
            except BadUserInput as error:
                refused.setdefault(site.root, Refused(error, Place(site.path, site.node)))
                read.append(_NOTHING)
        if plan.called and (None in variables.coerced.values() or len(variables.coerced) < len(variables.sources)):
            refused |= _uncallable(plan.called, variables)
        # A missing permission or feature takes precedence: a caller without it does not learn of other errors.
        shapes = tuple([shape for shape, _ in read])
        refused |= plan.forbidden(principal, shapes)
        descendants = frozenset(
            [site.root for site, shape in zip(plan.sites, shapes, strict=True) if _of_descendants(shape)]
        )
        if descendants:
            refused |= _mixed(plan, descendants, refused)
        if refused:
            plan = plan.without(frozenset(refused))
            read = [_NOTHING if site.root in refused else each for site, each in zip(plan.sites, read, strict=True)]
            shapes = tuple([shape for shape, _ in read])
        cost = _estimate(plan, shapes) if shapes else 0
        if shapes:
            try:
                self.limits.check("rows", cost)
            except BadUserInput as error:
                if plan.called is None:
                    raise
                refused[plan.called[1].path[0]] = Refused(error, plan.called[1])
        values = tuple([values for _, values in read])
        descendants -= refused.keys()
        # What is read of descendants is in their own logs.
        logged = None if descendants else logged
        by = caller.values(principal)
        return Reading(plan, shapes, values, by, refused, principal.tenant.id, descendants, cost, logged)

    def subject_of(self, field: Selected) -> str:
        """The log's name of the rows of a root field; empty for one that reads no table."""
        source = self.model.source(field.field, field.node) if isinstance(field, Connection) else None
        audited = source.info.get("audited") if isinstance(source, Table) else None
        return "" if audited is None else str(audited.subject)

    def check_family(self, reading: Reading, family: Family) -> None:
        """Raise BadUserInput if a request would cost too much for so many tenants."""
        self.limits.check("rows", _estimate(reading.plan, reading.shapes, len(family.members)))

    async def fetch(
        self,
        reading: Reading,
        transaction: Transaction,
        parameters: Mapping[str, object] | None = None,
        *,
        marked: bool,
        claim: "Claim | None" = None,
        family: Family | None = None,
    ) -> str:
        """The JSON text of the selection. It may contain json_text.VIOLATION. ``parameters``: see mapping.Parameters.

        With the ``claim`` of the transaction, it is kept as the answer. With a ``family``, rows of its members are
        read; the ``parameters`` are the values in isola.query.family.

        Raises AnswerTooLarge.
        """
        placement: Placement = transaction.strategy if family is None else family
        key = _key(reading, placement, marked=marked)
        written = self._statements.get(key, reading.tenant)
        if written is None:
            write = partial(self._write, reading, placement, marked=marked)
            written = await self.effort.spend(reading.tenant, write, large=len(reading.shapes) > _LARGE)
            self._statements.put(key, written, written.size, reading.tenant)
        handed: tuple[object, ...] = ()
        if parameters is not None:
            names = reading.plan.row.columns if family is None else parameters
            handed = tuple([parameters[name] for name in names])
        sql, values = written.sql, written.arguments(reading.caller, handed, reading.values)
        if claim is not None:
            sql, values = claim.keep(sql, values)
        text: str = await transaction.value(sql, *values)
        if written.marks:
            text, shares = marks.taken(text)
            if shares:
                self._note(reading.tenant, shares)
        if written.logged and reading.logged is not None:
            text, rows = marks.counted(text)
            reading.logged.note({subject: rows[subject] for subject in written.logged})
        self.limits.check_answer(text)
        return text

    def statement(self, reading: Reading, placement: Placement, *, marked: bool = False) -> Statement:
        key = _key(reading, placement, marked=marked)
        written = self._statements.get(key, reading.tenant)
        if written is None:
            written = self._write(reading, placement, marked=marked)
            self._statements.put(key, written, written.size, reading.tenant)
        return written

    def measures(self) -> dict[str, int]:
        """The number of plans made, and the figures of the statement cache."""
        cache = self._statements
        return {"plans": self._planned, "hits": cache.hits, "misses": cache.misses, "bytes": cache.bytes}

    def _write(self, reading: Reading, placement: Placement, *, marked: bool) -> Statement:
        return statement.write(
            self.model,
            reading.plan,
            reading.shapes,
            placement,
            most=self.limits.answer_bytes,
            few=self.limits.few,
            marked=marked,
            by_code_point=self._by_code_point,
            logged=_logged_subjects(reading),
        )

    def _plan_of(self, operation: Operation, conditions: tuple[Any, ...]) -> ReadPlans:
        self._planned += 1
        values = dict(zip(operation.conditions, conditions, strict=True))
        try:
            return planning.plan(self.model, self.limits, operation.node, operation.fragments, values)
        except GraphQLError:
            # Planning coerces nothing else.
            raise BadUserInput("if: expected a value of the type Boolean!", "if") from None


def _key(reading: Reading, placement: Placement, *, marked: bool) -> Hashable:
    return reading.plan.serial, reading.shapes, placement, marked, _logged_subjects(reading)


def _logged_subjects(reading: Reading) -> AbstractSet[str]:
    return frozenset() if reading.logged is None else reading.logged.subjects


def _of_descendants(shape: Shape) -> bool:
    return isinstance(shape, Page) and shape.descendants


def _mixed(plan: ReadPlan, descendants: frozenset[str], refused: Mapping[str, Refused]) -> Mapping[str, Refused]:
    """The refusals of fields that read descendants, if others of the same operation read anything else."""
    others = {each.key for each in plan.root.fields if not isinstance(each, Constant)} - descendants - refused.keys()
    if not others:
        return {}
    message = "scope: with DESCENDANTS, expected no other fields in the operation that read anything else"
    return {
        site.root: Refused(BadUserInput(message, "scope"), Place(site.path, site.node))
        for site in plan.sites
        if site.root in descendants - refused.keys() and len(site.path) == 1
    }


# The arguments at a site of a refused field.
_NOTHING: Read = (Ids((), 0), ())


def _uncallable(called: tuple[GraphQLField, Place], variables: VariableValues) -> Mapping[str, Refused]:
    """The refusal of a mutation's field if a variable in its arguments is null or missing where it must not be."""
    definition, place = called
    try:
        coerced(definition, place.node, variables)
    except BadUserInput as error:
        return {place.path[0]: Refused(error, place)}
    return {}


def _estimate(plan: ReadPlan, shapes: Sequence[Shape], tenants: int = 1) -> int:
    """The cost of a request in rows: page sizes, multiplied down the tree and summed over it, and scans.

    ``tenants`` is the number of descendants, of which rows are read.
    """
    rows: list[int] = []
    cost = 0
    for site, shape in zip(plan.sites, shapes, strict=True):
        if shape is _NOTHING[0]:
            rows.append(0)
            continue
        times = 1 if site.parent is None else rows[site.parent]
        rows.append(shape.size * times)
        cost += site.cost(shape, tenants) * times
    return cost
