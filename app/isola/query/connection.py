"""The SQL of a connection: one page of rows, with only the selected fields."""

import itertools
import operator
from collections.abc import Sequence
from functools import cached_property, reduce
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from sqlalchemy import (
    ARRAY,
    ColumnElement,
    FromClause,
    Integer,
    LargeBinary,
    Select,
    Text,
    case,
    cast,
    func,
    literal_column,
    not_,
    or_,
    select as select_,
    true,
    union_all,
)
from sqlalchemy.sql.elements import UnaryExpression
from sqlalchemy.sql.selectable import Subquery

from isola.errors import BadUserInput
from isola.query import caller, cursor, family, few, groups, json_text, keyset
from isola.query.arguments import Condition, Nulls, Page
from isola.query.conditions import ConditionWriter, Lead, Source, by_key
from isola.query.family import TENANT, TENANT_COLUMN, OfEach, OfPlace
from isola.query.json_text import Part as Json
from isola.query.mapping import Function, Order, Row, columns_of
from isola.query.read_plan import Connection, ConnectionPart, Selection

if TYPE_CHECKING:
    from isola.query.statement import Writer

_KEYS = "cursor_keys"
PAGE = "page_"
"""How the names of pages begin, in a statement."""
Keys: TypeAlias = list[ColumnElement[Any] | None]


def write(writer: "Writer", selected: Connection, row: Row) -> list[Json]:
    """The JSON of a connection of the object in ``row``."""
    page = writer.shapes[selected.site]
    if not isinstance(page, Page):
        raise TypeError(f"{selected.key} is not a connection")
    return _Writer(writer, selected, row, page).write()


class _Writer:
    def __init__(self, writer: "Writer", selected: Connection, row: Row, page: Page) -> None:
        self.writer = writer
        self.selected = selected
        self.row = row
        self.page = page
        self.source = writer.model.source(selected.field, selected.node)
        self.columns = columns_of(self.source)
        self.family = writer.family if page.descendants else None
        if page.descendants:
            if self.family is None:
                raise BadUserInput("scope: the rows of descendants cannot be read here", "scope")
            self.columns = {**self.columns, TENANT: TENANT_COLUMN}
        names = {part.name for each in selected.parts for part in (each, *each.parts)}
        # One spare row beyond the page shows whether there is another page.
        self.spare = ("hasPreviousPage" if page.backward else "hasNextPage") in names
        # Everything computed from the rows is an aggregate, which returns one row even for an empty page.
        bounded = page.size > 0 and not names.isdisjoint({"startCursor", "endCursor"})
        self.keyed = "cursor" in names
        self.reads_rows = self.spare or bounded or not names.isdisjoint({"edges", "nodes"})
        # In the order of the values from isola.query.arguments.
        index = 1
        self.after, index = self._keys(page.after, index)
        self.before, index = self._keys(page.before, index)
        self.first_test = index

    def write(self) -> list[Json]:
        if not self.reads_rows:
            return self._object(self.selected.parts, None)
        rows = self._rows()
        made = self.writer.select(lambda: json_text.joined(self._object(self.selected.parts, rows)), rows, is_page=True)
        return [made.scalar_subquery()]

    def _keys(self, nulls: Nulls | None, index: int) -> tuple[Keys | None, int]:
        if nulls is None:
            return None, index
        keys: Keys = []
        for offset, ((name, _), null) in enumerate(zip(self.page.order, nulls, strict=True)):
            parameter = self.writer.parameter(self.selected.site, index + offset, self.columns[name].type)
            keys.append(None if null else parameter)
        return keys, index + len(keys)

    def _all(self) -> "Source":
        """All rows of the connection, regardless of the page and of the filter."""
        scan, conditions = self.writer.scan(self.source, self.row)
        return Source(scan, scan, conditions + self._conditions(scan))

    def _alternatives(self) -> "Sequence[Source]":
        """All rows of the connection, of which only one source has any: copies of rows, or else the rows themselves."""
        every = self._all()
        copied = self.writer.copies(self.source) if isinstance(self.source, Function) else None
        if copied is None:
            return [every]
        scan, is_uncopied = copied
        return [Source(scan, scan, [not_(is_uncopied), *self._conditions(scan)]), every.where(is_uncopied)]

    def _sources(self, after: Keys | None, most: ColumnElement[int]) -> "Sequence[Source]":
        """The rows that satisfy the filter, of which only one source has any.

        They come after the row with these keys, or from the start: the first ``most``, or all.
        """
        source, page = self.source, self.page
        if page.condition is not None:
            return self._filtered(page.condition)
        if not isinstance(source, Function) or source.page is None or self.selected.field.join:
            return self._alternatives()
        usual = self.writer.model.entities[self.selected.node].order
        keys = [key for key in after or () if key is not None]
        if page.backward or page.order != usual or len(keys) < len(after or ()):
            return [self._all()]
        given = [self.row[argument] for argument in source.arguments]
        first = keys or [cast(literal_column("NULL"), self.columns[name].type) for name, _ in usual]
        scan = self.writer.call(source, source.page, [*given, *first, most])
        return [Source(scan, scan, self._conditions(scan))]

    def _filtered(self, condition: Condition) -> "Sequence[Source]":
        """The rows that satisfy the filter, of which only one source has any.

        If an index, related rows or words lead to few rows, these are read by their keys. Otherwise rows are read in
        order, and each is tested: a page is complete soon. The planner cannot know which is better: it knows neither
        the tenant nor the values.
        """
        return self._unless_few(self._led(condition))

    def _led(self, condition: Condition) -> "Sequence[Source]":
        """The same, without what an index leads to."""
        if self.page.leading is None or not self._is_table:
            narrowed = self.page.leading is None
            return [
                each.where(self._tests(each.scan, narrowed=narrowed).write(condition)) for each in self._alternatives()
            ]
        every = self._all()
        if self._is_searched:
            rows, is_few = self._found
            tested = self._tests(every.scan, probing=True).write(condition)
            return [rows.where(is_few), every.where(not_(is_few), tested)]
        led = self._few
        return [led.rows, every.where(not_(led.are_few), *self._tested(every.scan, led))]

    def _unless_few(self, rest: "Sequence[Source]") -> "Sequence[Source]":
        """What an index leads to if that is few, otherwise the rest."""
        ranged = self._ranged
        if ranged is None:
            return rest
        return [ranged.rows, *(each._replace(conditions=[not_(ranged.are_few), *each.conditions]) for each in rest)]

    def _tested(self, scan: FromClause, led: few.Related) -> list[ColumnElement[bool]]:
        """Tests of each row. Whether related rows lead to it is looked up among their keys, if these are few."""
        condition, leading = self.page.condition, self.page.leading
        if condition is None or leading is None:
            raise TypeError(f"nothing leads to the rows of {self.selected.key}")
        tests = self._tests(scan, probing=True)
        written = [tests.write(part) for part in condition[1]]
        is_among = scan.c[led.column].in_(led.keys)
        written[leading] = case((led.has_few_keys, is_among), else_=written[leading])
        return written

    @property
    def _is_table(self) -> bool:
        """Whether rows can be read by their keys. What a function returns can depend on the row around it."""
        return not isinstance(self.source, Function) and self.family is None

    @property
    def _is_searched(self) -> bool:
        """Whether words lead to the rows."""
        condition, leading = self.page.condition, self.page.leading
        if condition is None or leading is None or not self._is_table:
            return False
        return bool(condition[1][leading][0] == "search")

    @cached_property
    def _found(self) -> "tuple[Source, ColumnElement[bool]]":
        """The rows to which words lead, and whether one of these is in few rows."""
        every, lead = self._lead
        keys = lead.keys.distinct().cte(f"found_{self.selected.site}")
        row = by_key(every.where(*lead.others), keys.c.key, f"found_rows_{self.selected.site}")
        return Source(keys.join(row, true()), row, []), lead.is_few

    def _filtered_page(
        self, condition: Condition, stretch: "_Stretch", limit: ColumnElement[int]
    ) -> "Sequence[Source]":
        """The same as ``_filtered``, for a page.

        If no word is in few rows, or an index finds many rows, a bounded number of rows is read in order first. Only if
        that does not complete the page, all rows are found: words that are each in many rows can be together in few,
        and those of a range can be the last ones in the order.
        """
        ranged = self._ranged if self.page.leading is None else None
        if ranged is None and not self._is_searched:
            return self._filtered(condition)
        other = self._all()
        [first, *others] = self._between(other.scan, stretch)
        if others:
            return self._filtered(condition)
        found, is_few = self._found if ranged is None else (self._led(condition)[0], ranged.are_few)
        site, most = self.selected.site, literal_column(str(self.writer.few), Integer)
        bounded = self._first(other.where(*first), stretch, most).subquery(f"read_{site}")
        read = Source(bounded, bounded, [not_(is_few), self._tests(bounded, probing=True).write(condition)])
        page = self._first(read, stretch, limit).cte(f"page_in_order_{site}")
        is_complete = select_(func.count() >= limit).select_from(page.alias(f"complete_{site}")).scalar_subquery()
        return self._unless_few([found.where(not_(is_complete)), Source(page, page, [is_complete])])

    @property
    def _lead(self) -> "tuple[Source, Lead]":
        """A scan of all rows, and what leads to those that satisfy the filter."""
        if self.page.condition is None or self.page.leading is None:
            raise TypeError(f"nothing leads to the rows of {self.selected.key}")
        every = self._all()
        return every, self._tests(every.scan, narrowed=True).leading(self.page.condition[1], self.page.leading)

    @cached_property
    def _few(self) -> few.Related:
        """What related rows lead to."""
        every, lead = self._lead
        return few.related(self.writer, self.selected.site, every, lead, self._names)

    @cached_property
    def _ranged(self) -> few.Few | None:
        """What an index of a compared column leads to, if there is one to try first."""
        page = self.page
        if page.narrowing is None or page.condition is None or not self._is_table:
            return None
        every, parts = self._all(), page.condition[1]
        tests = self._tests(every.scan, probing=True)
        written = [(tests.write(part), part[0] == "test" and part[1] == page.narrowing) for part in parts]
        ranged = every.where(*(test for test, is_own in written if is_own))
        others = [test for test, is_own in written if not is_own]
        return few.ranged(self.writer, self.selected.site, ranged, page.narrowing, others, self._names)

    @property
    def _names(self) -> list[str]:
        """The id, and what orders the page."""
        return [*dict.fromkeys(["id", *(name for name, _ in self.page.order)])]

    def _conditions(self, scan: FromClause) -> list[ColumnElement[bool]]:
        field = self.selected.field
        conditions: list[ColumnElement[bool]] = []
        if field.join:
            conditions.append(self.writer.join(field.join, self.row, scan))
        if field.when:
            conditions.append(field.when(self.row))
        return conditions

    def _tests(self, scan: FromClause, *, probing: bool = False, narrowed: bool = False) -> ConditionWriter:
        numbers = itertools.count(self.first_test)
        selected, columns = self.selected, self.columns
        return ConditionWriter(
            self.writer,
            selected.site,
            selected.node,
            columns,
            scan,
            numbers,
            probing=probing,
            narrowed=narrowed,
            opaque=self.page.narrowing is not None,
        )

    def _beyond(
        self, scan: FromClause, keys: Keys, *, forward: bool, inclusive: bool = False
    ) -> list[ColumnElement[bool]]:
        order = self.page.order if forward else keyset.inverse(self.page.order)
        names = [name for name, _ in order]
        nullable = [bool(self.columns[name].nullable) for name in names]
        columns = [self._key(scan, name) for name in names]
        return keyset.beyond(columns, nullable, order, keys, self.page.flipped, inclusive=inclusive)

    def _key(self, scan: FromClause, name: str) -> ColumnElement[Any]:
        return OfPlace(TENANT) if name == TENANT else scan.c[name]

    def _ranges(self, scan: FromClause) -> list[ColumnElement[bool]]:
        """All rows, as ranges each of which an index reads in order."""
        first, _ = self.page.order[0]
        if first not in self.page.flipped or not self.columns[first].nullable:
            return [true()]
        return [scan.c[first].is_(None), scan.c[first].is_not(None)]

    def _ordered(self, rows: FromClause, order: Order, *, in_range: bool = False) -> list[UnaryExpression[Any]]:
        """``in_range``: the first column is NULL in all rows or in none, so that an index serves the default order."""
        flipped = self.page.flipped
        if in_range:
            flipped = tuple(name for name in flipped if name != order[0][0])
        return keyset.ordered([rows.c[name] for name, _ in order], order, flipped)

    def _between(self, scan: FromClause, stretch: "_Stretch") -> list[list[ColumnElement[bool]]]:
        """The conditions of each range of the rows of a stretch."""
        start, end, forward = stretch.start, stretch.end, stretch.forward
        ranges = self._ranges(scan) if start is None else self._beyond(scan, start, forward=forward)
        until = [] if end is None else [or_(*self._beyond(scan, end, forward=not forward))]
        return [[each, *until] for each in ranges]

    def _first(
        self, source: "Source", stretch: "_Stretch", most: ColumnElement[int], *more: ColumnElement[Any]
    ) -> Select[Any]:
        """The first rows of a range."""
        ordered = self._ordered(source.scan, _within_tenant(stretch.order), in_range=True)
        rows = select_(source.scan, *more).select_from(source.rows).where(*source.conditions)
        return rows.order_by(*ordered).limit(most).correlate_except(source.scan)

    def _rows(self) -> Subquery:
        """The rows of the page in order, and the spare row."""
        page = self.page
        forward = not page.backward
        start, end = (self.after, self.before) if forward else (self.before, self.after)
        order = page.order if forward else keyset.inverse(page.order)
        limit = literal_column(str(page.size + self.spare), Integer)
        stretch = _Stretch(order, start, end, forward)
        if page.condition is None:
            sources = self._sources(start, limit)
        else:
            sources = self._filtered_page(page.condition, stretch, limit)
        selects: list[Any] = []
        for source in sources:
            more: list[ColumnElement[Any]] = []
            if self.keyed:
                more.append(cursor.keys_data([self._key(source.scan, name) for name, _ in page.order]).label(_KEYS))
            if self.family is not None:
                more += family.constants()
            selects += [
                self._whole(source, self._first(source.where(*each), stretch, limit, *more))
                for each in self._between(source.scan, stretch)
            ]
        rows = selects[0]
        if self.family is not None:
            rows = self._merged(selects, order, limit)
        elif len(selects) > 1:
            # Each range of each source is read in order by an index; the page is merged from all.
            rows = union_all(*selects)
            columns = [rows.selected_columns[name] for name, _ in order]
            rows = rows.order_by(*keyset.ordered(columns, order, page.flipped)).limit(limit)
        if page.backward:
            inner = rows.subquery(f"back_{self.selected.site}")
            rows = select_(inner).order_by(*self._ordered(inner, page.order))
        page_rows: Subquery = rows.subquery(f"{PAGE}{self.selected.site}")
        return page_rows

    def _whole(self, source: "Source", rows: Select[Any]) -> Select[Any]:
        """The rows with all columns."""
        if not source.is_of_keys:
            return rows
        first = rows.subquery(f"first_{self.selected.site}")
        row = by_key(self._all(), first.c.id, f"row_of_few_{self.selected.site}")
        keys = [first.c[_KEYS]] if self.keyed else []
        return select_(row, *keys).select_from(first.join(row, true()))

    def _merged(self, selects: Sequence[Select[Any]], order: Order, limit: ColumnElement[int]) -> Select[Any]:
        """The first rows of all tenants. Each tenant's rows are read in order by an index, as far as they are needed.

        A row's id is unique in its tenant only. No index has the tenant at its end, so rows that differ in nothing else
        are read together, and then sorted by tenant.
        """
        at_places = [
            each.execution_options(**{family.PLACE: place}) for place in family.places(self._of()) for each in selects
        ]
        within = _within_tenant(order)
        if len(at_places) == 1:
            rows = at_places[0].subquery(f"only_{self.selected.site}")
        else:
            union = union_all(*at_places)
            columns = [union.selected_columns[name] for name, _ in within]
            merged = union.order_by(*keyset.ordered(columns, within, self.page.flipped)).fetch(limit, with_ties=True)
            rows = merged.subquery(f"merged_{self.selected.site}")
        return select_(rows).order_by(*self._ordered(rows, order)).limit(limit)

    def _of(self) -> family.Family:
        if self.family is None:
            raise TypeError(f"{self.selected.key} has rows of one tenant")
        return self.family

    def _object(self, parts: Sequence[ConnectionPart], rows: Subquery | None) -> list[Json]:
        return json_text.object_of([(part.key, self._part(part, rows)) for part in parts])

    def _part(self, part: ConnectionPart, rows: Subquery | None) -> list[Json]:
        match part.name:
            case "__typename":
                return [f'"{part.type}"']
            case "pageInfo":
                return self._object(part.parts, rows)
            case "totalCount" | "groups":
                return self._of_all(part)
            case "hasNextPage" | "hasPreviousPage":
                return [self._more(part.name)]
            case "startCursor" | "endCursor" if self.page.size == 0:
                return ["null"]
        return self._of_rows(part, rows)

    def _of_all(self, part: ConnectionPart) -> list[Json]:
        if part.name == "groups":
            if self.family is not None:
                raise BadUserInput("scope: groups cannot be counted with the scope DESCENDANTS", "scope")
            return groups.written(self.writer, part.groups, self._satisfying)
        return [self._count()]

    def _of_rows(self, part: ConnectionPart, rows: Subquery | None) -> list[Json]:
        if rows is None:
            raise TypeError(f"{part.name} needs rows")
        mark = self.writer.mark(self.source, rows.c.__getitem__)
        match part.name:
            case "nodes" if part.selection:
                return self._listed([*mark, *self.writer.counted(self.source), *self._node(part.selection, rows)])
            case "edges":
                edge = json_text.object_of([(each.key, self._edge(each, rows)) for each in part.parts])
                return self._listed([*mark, *self.writer.counted(self.source), *edge])
            case "startCursor" | "endCursor":
                return [json_text.present(self._end_of_page(part.name, rows), nullable=True)]
        raise TypeError(f"connections have no field {part.name}")

    def _node(self, selection: Selection, rows: Subquery) -> list[Json]:
        return self.writer.page_object(selection, rows, descendants=self.page.descendants)

    def _edge(self, part: ConnectionPart, rows: Subquery) -> list[Json]:
        match part.name:
            case "node" if part.selection:
                return self._node(part.selection, rows)
            case "tenant" if part.selection:
                own = {"slug": caller.PARAMETERS["tenant_slug"], "name": caller.PARAMETERS["tenant_name"]}
                return self.writer.object(part.selection, own if self.family is None else family.tenant_of(rows))
            case "cursor":
                return ['"', self._cursor(rows.c[_KEYS]), '"']
        return [f'"{part.type}"']

    def _listed(self, item: list[Json]) -> list[Json]:
        text = json_text.joined(item)
        if self.spare:
            start, end = self._bounds()
            items = func.array_agg(text, type_=ARRAY(Text))[start:end]
            listed: ColumnElement[str] = func.array_to_string(items, literal_column("','"), type_=Text)
        else:
            listed = func.string_agg(text, literal_column("','"), type_=Text)
        return ["[", self.writer.budget.list(listed, self.selected.place), "]"]

    def _bounds(self) -> tuple[ColumnElement[int], ColumnElement[int]]:
        """The first and last index of the page among the rows: the spare row is at the end, or first if backward."""
        count = cast(func.count(), Integer)
        one, size = literal_column("1", Integer), literal_column(str(self.page.size), Integer)
        if not self.spare:
            return one, count
        if self.page.backward:
            return func.greatest(count - size, literal_column("0"), type_=Integer) + one, count
        return one, func.least(count, size, type_=Integer)

    def _end_of_page(self, name: str, rows: Subquery) -> ColumnElement[str]:
        start, end = self._bounds()
        place = start if name == "startCursor" else end

        def at_the_end(column: ColumnElement[Any]) -> ColumnElement[Any]:
            return func.array_agg(column, type_=ARRAY(column.type))[place]

        if self.keyed:
            keys = at_the_end(rows.c[_KEYS])
        else:
            keys = cursor.keys_data([at_the_end(rows.c[column]) for column, _ in self.page.order])
        # A cursor has values of its row.
        mark = self.writer.mark(self.source, lambda name: at_the_end(rows.c[name]))
        text: ColumnElement[str] = func.to_json(self._cursor(keys)).cast(Text)
        text = json_text.joined([*mark, text]) if mark else text
        return case((func.count() > literal_column("0"), text))

    def _cursor(self, keys: ColumnElement[bytes]) -> ColumnElement[str]:
        return cursor.written(keys, self.writer.parameter(self.selected.site, 0, LargeBinary()))

    def _satisfying(self, every: "Source | None" = None) -> "Source":
        """All rows that satisfy the filter, regardless of the page."""
        every, condition = every or self._all(), self.page.condition
        if condition is None:
            return every
        narrowed = self.page.leading is None or self.page.narrowing is not None
        return every.where(self._tests(every.scan, narrowed=narrowed).write(condition))

    def _count(self) -> ColumnElement[int]:
        numbers = [
            select_(func.count())
            .select_from(each.scan)
            .where(*each.conditions)
            .correlate_except(each.scan)
            .scalar_subquery()
            for each in map(self._satisfying, self._alternatives())
        ]
        number: ColumnElement[int] = reduce(operator.add, numbers)
        return number if self.family is None else OfEach(number, self.family, "+")

    def _more(self, name: str) -> Json:
        """Whether there are more rows: by the spare row in its direction, by a look-up in the other direction."""
        if (name == "hasNextPage") != self.page.backward:
            return func.to_json(func.count() > literal_column(str(self.page.size), Integer))
        start = self.before if self.page.backward else self.after
        if start is None:
            return "false"
        one = literal_column("1", Integer)
        # If any row comes before the page, the first row of the connection does.
        forward = self.page.backward
        order = self.page.order if forward else keyset.inverse(self.page.order)
        # One look-up for the first row of each range: an index serves a single range in order, but not several.
        looks: list[Select[Any]] = [
            select_(literal_column("1"))
            .select_from(source.rows)
            .where(each, *source.conditions)
            .order_by(*self._ordered(source.scan, _within_tenant(order), in_range=True))
            .limit(one)
            .correlate_except(source.scan)
            for source in self._sources(None, one)
            for each in self._beyond(source.scan, start, forward=forward, inclusive=True)
        ]
        found = or_(*(look.scalar_subquery().is_not(None) for look in looks))
        return func.to_json(found if self.family is None else OfEach(found, self.family, "OR"))


def _within_tenant(order: Order) -> Order:
    """The order of the rows of one tenant."""
    return tuple([each for each in order if each[0] != TENANT])


class _Stretch(NamedTuple):
    """The rows in this order after those with the keys ``start``, and before those with the keys ``end``."""

    order: Order
    start: Keys | None
    end: Keys | None
    forward: bool
