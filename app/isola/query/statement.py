"""Writes the SQL for a plan and the shapes of its arguments: the last of the compiler's three steps.

Every object is a text made from one row. A relation is a sub-select in its place, so each piece of the plan is written
independently of the rest. Sub-selects also have predictable plans: an index look-up for each row. A relation to one
row by its key is joined to its parent rows, which costs less (docs/decisions/0007); database connections allow only
nested loops, so the join is an index look-up as well.

Parameters are named ``v<group>_<index>``: group 0 is the caller, group 1 the values from a mutation, and the following
groups are the values of each site. Constants in rules and mappings are literals, so that the planner knows them.
"""

from collections.abc import Callable, Iterable, Sequence, Set as AbstractSet
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy import (
    ARRAY,
    CTE,
    Alias,
    BindParameter,
    Boolean,
    ClauseElement,
    Column,
    ColumnElement,
    FromClause,
    Integer,
    Select,
    Table,
    Text,
    Uuid,
    and_,
    bindparam,
    case,
    cast,
    exists,
    func,
    literal_column,
    select,
    table,
)
from sqlalchemy.dialects.postgresql import aggregate_order_by
from sqlalchemy.dialects.postgresql.asyncpg import PGCompiler_asyncpg, PGDialect_asyncpg
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import Function as Call
from sqlalchemy.sql.selectable import Subquery
from sqlalchemy.sql.visitors import replacement_traverse
from sqlalchemy.types import TypeEngine

from isola.errors import BadUserInput
from isola.query import budget, caller, connection, family, json_text, marks
from isola.query.arguments import Ids, Shape
from isola.query.budget import Budget
from isola.query.connection import PAGE
from isola.query.family import Family, OfRow
from isola.query.json_text import Part as Json
from isola.query.mapping import Function, Join, Model, One, Parameters, Part, Row, Source, View
from isola.query.read_plan import Connection, Constant, Found, Leaf, Object, ReadPlan, Selected, Selection, enum_names

TYPE_MARK = ""
"""The key of an object's type in statements whose result Python reads. Response keys are never empty."""

_GIVEN, _FIRST_SITE = 1, 2
T = TypeVar("T", bound=ClauseElement)
T_ = TypeVar("T_")
# With more tables in one select, planning would cost more than the joins save.
_MOST_JOINS = 4


@dataclass(frozen=True, slots=True, eq=False)
class Statement:
    """SQL text, and where its parameters come from: the group and the index in it."""

    sql: str
    parameters: tuple[tuple[int, int], ...]
    marks: bool = False
    """Whether it marks rows that other tenants share: see isola.query.marks."""
    logged: frozenset[str] = frozenset()
    """The subjects that it reads, of those whose reads are logged. It marks their rows."""

    @property
    def size(self) -> int:
        """The memory that it takes in the cache, including the shapes in its key."""
        return 2000 + 2 * len(self.sql) + 300 * len(self.parameters)

    def arguments(self, caller: Sequence[Any], row: Sequence[Any], sites: Sequence[Sequence[Any]]) -> list[Any]:
        groups = (caller, row, *sites)
        return [groups[group][index] for group, index in self.parameters]


def write(
    model: Model,
    plan: ReadPlan,
    shapes: Sequence[Shape],
    placement: caller.Placement,
    *,
    most: int,
    few: int,
    marked: bool = False,
    by_code_point: bool = False,
    logged: AbstractSet[str] = frozenset(),
) -> Statement:
    """The statement that returns the JSON text of the plan's root object as its only value.

    It fails before it builds much more than ``most`` bytes. Up to ``few`` rows are found by their related rows, if a
    filter compares these. ``marked`` adds each abstract object's type under
    TYPE_MARK. ``by_code_point``: the database sorts texts by code point. Rows of the subjects ``logged`` are marked.
    """
    bounds = budget.of(plan, shapes, most)
    writer = Writer(model, shapes, placement, bounds, few, marked=marked, by_code_point=by_code_point, logged=logged)
    made = select(json_text.joined(writer.object(plan.root, _row(plan.row))))
    if writer.family is not None:
        made = made.where(family.is_current())
    compiled = made.compile(dialect=_DIALECT)
    places = [name.removeprefix("v").split("_") for name in compiled.positiontup or ()]
    return Statement(
        str(compiled),
        tuple([(int(group), int(index)) for group, index in places]),
        writer.marks,
        frozenset(writer.read),
    )


def _row(source: Parameters) -> Row:
    if source.columns is caller.COLUMNS:
        return caller.PARAMETERS
    return {
        name: bindparam(f"v{_GIVEN}_{index}", type_=type_) for index, (name, type_) in enumerate(source.columns.items())
    }


class Writer:
    """Writes the pieces of one plan. Every scan gets the placement's predicate."""

    def __init__(
        self,
        model: Model,
        shapes: Sequence[Shape],
        placement: caller.Placement,
        budget: Budget,
        few: int,
        *,
        marked: bool,
        by_code_point: bool,
        logged: AbstractSet[str] = frozenset(),
    ) -> None:
        self.by_code_point = by_code_point
        self.model = model
        self.shapes = shapes
        self.budget = budget
        self.few = few
        self._placement = placement
        self._marked = marked
        self._scans = 0
        self._once: dict[str, CTE] = {}
        # The joins to the rows of the page being written; None outside of a page. *Measured*: for a single row, a join
        # costs more than a sub-select.
        self._joins: list[tuple[FromClause, ColumnElement[bool]]] | None = None
        self.family = placement if isinstance(placement, Family) else None
        # The page over several tenants whose rows are being written.
        self._page: FromClause | None = None
        self.marks = False
        self._logged = logged
        self.read: set[str] = set()

    def object(self, selection: Selection, row: Row, *, abstract: bool = False) -> list[Json]:
        """The JSON of one row's object."""
        mark = [(TYPE_MARK, [f'"{selection.type}"'])] if abstract and self._marked else []
        columns = self.model.columns[selection.type]
        sure = {name for name, column in columns.items() if not column.nullable}
        return json_text.object_of([*mark, *((each.key, self._value(each, row, sure)) for each in selection.fields)])

    def parameter(self, site: int, index: int, type_: TypeEngine[Any]) -> BindParameter[Any]:
        return bindparam(f"v{_FIRST_SITE + site}_{index}", type_=type_)

    def mark(self, source: Source, column: Callable[[str], ColumnElement[Any]]) -> list[Json]:
        """The mark of a row, if another tenant shares it; ``column`` returns its columns."""
        if not isinstance(source, Function) or source.share is None:
            return []
        self.marks = True
        return marks.of(column(source.share))

    def counted(self, source: Source) -> list[Json]:
        """The mark of a row in front of its object, if reads of its subject are logged."""
        subject = self._logged_subject(source)
        return [] if subject is None else marks.of_subject(subject)

    def _logged_subject(self, source: Source) -> str | None:
        audited = source.info.get("audited") if self._logged and isinstance(source, Table) else None
        return audited.subject if audited is not None and audited.subject in self._logged else None

    def scan(self, source: Source, row: Row | None) -> tuple[FromClause, list[ColumnElement[bool]]]:
        """A new scan of a source, and the conditions that every scan of it needs."""
        match source:
            case Table():
                if (subject := self._logged_subject(source)) is not None:
                    self.read.add(subject)
                scan = source.alias(self.name_of_scan(source.name))
                return scan, self._predicates([scan])
            case Parameters():
                raise TypeError("parameters are a row, and cannot be scanned")
            case _ if self.family is not None:
                raise BadUserInput("scope: with DESCENDANTS, expected only fields of tenants' own tables", "scope")
            case View():
                view = self._view(source.name, source.columns)
                return view, [] if source.when is None else [source.when(view.c)]
            case _:
                arguments = [row[argument] for argument in source.arguments] if row is not None else []
                if source.subject is not None:
                    arguments.insert(0, literal_column(f"'{source.subject}'", Text()))
                rows = self.call(source, source.name, arguments)
                return rows, [] if source.when is None else [source.when(rows.c)]

    def _view(self, qualified: str, columns: Sequence[Column[Any]]) -> FromClause:
        schema, name = qualified.split(".")
        # The declared columns belong to the declaration; each scan needs its own copies.
        own = [column._copy() for column in columns]  # noqa: SLF001  no public method copies one
        return table(name, *own, schema=schema).alias(self.name_of_scan(name))

    def copies(self, source: Function) -> tuple[FromClause, ColumnElement[bool]] | None:
        """A scan of the copies of a function's rows, and whether the function returns other rows; None without copies.

        PostgreSQL evaluates the condition once, before it reads either.
        """
        if source.copies is None or source.uncopied is None or self.family is not None:
            return None
        *schema, name = source.uncopied.split(".")
        others = Call[Any](name, literal_column(f"'{source.subject}'", Text()), packagenames=tuple(schema))
        return self._view(source.copies, source.columns), select(cast(others, Boolean)).scalar_subquery()

    def name_of_scan(self, of: str) -> str:
        self._scans += 1
        return f"{of}_{self._scans}"

    def evaluated_once(self, name: str, make: Callable[[], Select[*tuple[Any, ...]]]) -> CTE:
        """A query of parameters alone, which the statement evaluates once for all pieces that use this name."""
        if name not in self._once:
            self._once[name] = make().cte(name)
        return self._once[name]

    def expression(self, of: Callable[[Row], ColumnElement[T_]], scan: FromClause) -> ColumnElement[T_]:
        """An expression of the row of a scan, for a condition."""
        return self._guarded(of(scan.c), scan)

    def call(self, source: Function, name: str, arguments: Sequence[ColumnElement[Any]]) -> FromClause:
        """The rows of a function with the same columns as ``source``."""
        *schema, name = name.split(".")
        call = Call[Any](name, *arguments, packagenames=tuple(schema))
        # The declared columns belong to the declaration; each scan needs its own copies.
        columns = [column._copy() for column in source.columns]  # noqa: SLF001  no public method copies one
        alias = self.name_of_scan(name)
        rows = call.table_valued(*columns, name=alias)
        return rows.render_derived(name=alias, with_types=True) if source.typed else rows

    def join(self, join: Join, row: Row, scan: FromClause) -> ColumnElement[bool]:
        if join.through is None:
            return scan.c[join.child] == row[join.parent]
        pairs, conditions = self.scan(join.through, None)
        near, far = pairs.c[join.near] == row[join.parent], pairs.c[join.far] == scan.c[join.child]
        return exists(sub_select(literal_column("1"), pairs).where(near, far, *conditions))

    def of_row(self, make: Callable[[], ColumnElement[T_]]) -> ColumnElement[T_]:
        """What reads tables for the row being written: in its home, if the page has rows of several tenants."""
        if self._page is None:
            return make()
        # What is joined to the page would be in one home.
        (page, self._page), (joins, self._joins) = (self._page, None), (self._joins, None)
        try:
            made = make()
        finally:
            self._page, self._joins = page, joins
        return made if self.family is None else OfRow(made, self.family, page)

    def page_object(self, selection: Selection, page: FromClause, *, descendants: bool) -> list[Json]:
        """The JSON of the object of each row of a page."""
        outer, self._page = self._page, page if descendants else self._page
        try:
            return self.object(selection, page.c)
        finally:
            self._page = outer

    def select(
        self, make: Callable[[], ColumnElement[Any]], source: FromClause, *, is_page: bool = False
    ) -> Select[Any]:
        """A select of the result of ``make`` from a source. For a page, ``make`` can add joins of to-one relations."""
        outer, self._joins = self._joins, [] if is_page else None
        try:
            made, rows, scans = make(), source, [source]
            for scan, condition in self._joins or ():
                rows = rows.outerjoin(scan, condition)
                scans.append(scan)
        finally:
            self._joins = outer
        return select(made).select_from(rows).correlate_except(*scans)

    def _value(self, selected: Selected, row: Row, sure: set[str]) -> list[Json]:
        match selected:
            case Constant():
                return [f'"{selected.text}"']
            case Leaf():
                return self._leaf(selected, row, sure)
            case Object(field=Part() as part):
                return self._part(selected.selection, part, row)
            case Object(field=One() as one):
                return [
                    json_text.present(
                        self.of_row(lambda: self._related(selected, one, row)), nullable=selected.nullable
                    )
                ]
            case Connection():
                # One text, if it depends on the home of the row.
                return self._connection(selected, row)
            case Found():
                return self._found(selected)
        raise TypeError(f"{selected} cannot be written")

    def _part(self, selection: Selection, part: Part, row: Row) -> list[Json]:
        made = self.object(selection, {own: row[other] for own, other in part.columns.items()})
        if part.unless_null is None:
            return made
        return [json_text.present(case((row[part.unless_null].is_not(None), json_text.joined(made))), nullable=True)]

    def _connection(self, selected: Connection, row: Row) -> list[Json]:
        if self._page is None:
            return connection.write(self, selected, row)
        return [self.of_row(lambda: json_text.joined(connection.write(self, selected, row)))]

    def _leaf(self, leaf: Leaf, row: Row, sure: set[str]) -> list[Json]:
        of = leaf.value.of
        is_sure = isinstance(of, str) and of in sure
        value = row[of] if isinstance(of, str) else self._computed(of, row)
        json = json_text.leaf(
            value, leaf.type, listed=leaf.listed, prefix=leaf.value.prefix, names=enum_names(leaf.type)
        )
        # Parameters are not measured.
        if isinstance(value, BindParameter) or budget.width(leaf) is not None:
            return json if is_sure else [json_text.or_null(value, json, nullable=leaf.nullable)]
        [text] = map(json_text.as_expression, json)
        within = self.budget.value(value, text, leaf.place)
        return [within if is_sure else json_text.present(within, nullable=leaf.nullable)]

    def _computed(self, of: Callable[[Row], ColumnElement[Any]], row: Row) -> ColumnElement[Any]:
        value = self._guarded(of(row))
        return self.of_row(lambda: value) if self._page is not None and _reads_tables(value) else value

    def _related(self, selected: Object, one: One, row: Row) -> ColumnElement[str]:
        source = self.model.source(one, selected.selection.type)
        scan, conditions = self.scan(source, row)
        if one.join:
            conditions.append(self.join(one.join, row, scan))

        def text() -> ColumnElement[str]:
            mark = [*self.mark(source, scan.c.__getitem__), *self.counted(source)]
            return json_text.joined([*mark, *self.object(selected.selection, scan.c)])

        if self._joins is not None and len(self._joins) < _MOST_JOINS and _is_by_key(one, source):
            self._joins.append((scan, and_(*conditions)))
            return case((scan.c.id.is_not(None), text()))
        return self.select(text, scan).where(*conditions).scalar_subquery()

    def _found(self, selected: Found) -> list[Json]:
        ids = self.shapes[selected.site]
        if not isinstance(ids, Ids):
            raise TypeError(f"{selected.key} is not a look-up")
        if not selected.many:
            key = self.parameter(selected.site, 0, Uuid())
            found = [self._by_key(selected, type_, key) for type_ in ids.types]
            return [json_text.present(found[0], nullable=selected.nullable)] if found else ["null"]
        keys = self.parameter(selected.site, 0, ARRAY(Uuid()))
        types = self.parameter(selected.site, 1, ARRAY(Integer()))
        call = func.unnest(keys, types).table_valued(
            "key", "type", with_ordinality="place", name=f"ids_{selected.site}"
        )
        given = call.render_derived()
        each = {index: self._by_key(selected, type_, given.c.key) for index, type_ in enumerate(ids.types)}
        item = func.coalesce(case(each, value=given.c.type), json_text.NULL) if each else json_text.NULL
        listed = func.string_agg(item, aggregate_order_by(literal_column("','"), given.c.place), type_=Text)
        return ["[", sub_select(self.budget.list(listed, selected.place), given).scalar_subquery(), "]"]

    def _by_key(self, selected: Found, type_: str, key: ColumnElement[Any]) -> ColumnElement[str]:
        source = self.model.entities[type_].source
        scan, conditions = self.scan(source, None)
        if isinstance(source, Function) and source.one:
            scan = self.call(source, source.one, [key])

        def found() -> ColumnElement[str]:
            found = self.object(selected.choices[type_], scan.c, abstract=selected.abstract)
            return json_text.joined([*self.mark(source, scan.c.__getitem__), *self.counted(source), *found])

        return self.select(found, scan).where(scan.c.id == key, *conditions).scalar_subquery()

    def _predicates(self, scans: Iterable[FromClause]) -> list[ColumnElement[bool]]:
        if self.family is not None:
            return [family.Predicate(scan) for scan in scans]
        return [_Predicate(scan, self._placement) for scan in scans if self._placement.predicate("any") is not None]

    def _guarded(self, expression: T, *outer: FromClause, within: T | None = None) -> T:
        """A condition or a value, with the placement's predicate added to all tables in its sub-selects."""

        def replace(element: Any, **_: Any) -> Any:
            if self.family is not None and _is_page(element):
                # What it reads is guarded already. A copy of it would be of no place.
                return element
            if not isinstance(element, Select) or element is within:
                return None
            read = [each for each in element.get_final_froms() if each not in outer and _is_of_table(each)]
            return self._guarded(element, *outer, *read, within=element).where(*self._predicates(read))

        return replacement_traverse(expression, {}, replace)  # type: ignore[return-value]  # of the same type


def _is_by_key(one: One, source: Source) -> bool:
    """Whether a relation leads to at most one row, by its key, in a table without a visibility rule."""
    by_key = one.join is not None and one.join.through is None and one.join.child == "id"
    return by_key and isinstance(source, Table) and "visible" not in source.info


def _is_page(element: object) -> bool:
    return isinstance(element, Subquery) and element.name.startswith(PAGE)


def _reads_tables(expression: Any) -> bool:
    """Whether an expression has a sub-select, besides that of the page with its row."""
    if _is_page(expression):
        return False
    return isinstance(expression, Select) or any(map(_reads_tables, expression.get_children()))


def _is_of_table(source: FromClause) -> bool:
    return isinstance(source, Alias) and isinstance(source.element, Table)


class _Predicate(ColumnElement[bool]):
    """The placement's predicate on a scan, with the scan's name in the statement."""

    inherit_cache = False
    type = Boolean()

    def __init__(self, scan: FromClause, placement: caller.Placement) -> None:
        self.scan = scan
        self.placement = placement


@compiles(_Predicate)
def _write_predicate(element: _Predicate, compiler: SQLCompiler, **options: Any) -> str:
    column = compiler.process(next(iter(element.scan.c)), **options)
    return element.placement.predicate(column.rpartition(".")[0]) or "true"


class PlacedCompiler(PGCompiler_asyncpg):
    """Writes constants as literals, and tables with the schema of the place, if there is one."""

    place: family.Place | None = None

    def at(self, place: family.Place) -> AbstractContextManager[None]:
        return family.placed(self, place)

    def visit_table(self, table: Table, asfrom: bool = False, **options: Any) -> str:  # type: ignore[override]  # noqa: FBT001, FBT002  fewer names
        name = str(super().visit_table(table, asfrom=asfrom, **options))  # type: ignore[no-untyped-call]  # SQLAlchemy's
        return self.place.table(name) if asfrom and self.place is not None else name

    def visit_select(self, select_stmt: Any, *positional: Any, **options: Any) -> str:
        place = select_stmt.get_execution_options().get(family.PLACE)
        with nullcontext() if place is None else self.at(place):
            return str(super().visit_select(select_stmt, *positional, **options))  # type: ignore[no-untyped-call]  # SQLAlchemy's

    def visit_bindparam(self, bindparam: BindParameter[Any], **options: Any) -> str:  # type: ignore[override]  # fewer names
        if bindparam.value is not None:
            options["literal_binds"] = True
        return str(super().visit_bindparam(bindparam, **options))  # type: ignore[no-untyped-call]  # SQLAlchemy's


class _Dialect(PGDialect_asyncpg):
    statement_compiler = PlacedCompiler
    supports_statement_cache = False


_DIALECT = _Dialect()  # type: ignore[no-untyped-call]  # SQLAlchemy's


def sub_select(what: ColumnElement[Any], source: FromClause) -> Select[Any]:
    """A select from one source; it correlates all other tables with the enclosing statement."""
    return select(what).select_from(source).correlate_except(source)
