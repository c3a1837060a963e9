"""The SQL of a connection: one page of rows, with only the selected fields."""

import operator
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

from sqlalchemy import (
    ARRAY,
    ColumnElement,
    FromClause,
    Integer,
    LargeBinary,
    Select,
    Text,
    and_,
    case,
    cast,
    false,
    func,
    literal_column,
    not_,
    or_,
    select as select_,
    true,
    union_all,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.sql.elements import Grouping
from sqlalchemy.sql.selectable import Subquery
from sqlalchemy.types import TypeEngine

from isola.query import cursor, json_text, keyset
from isola.query.arguments import INSENSITIVE, Condition, Nulls, Page
from isola.query.json_text import Part as Json
from isola.query.mapping import Function, Row, columns_of
from isola.query.read_plan import Connection, ConnectionPart

if TYPE_CHECKING:
    from isola.query.statement import Writer

_COMPARISONS: dict[str, Callable[[Any, Any], Any]] = {
    "eq": operator.eq,
    "gt": operator.gt,
    "gte": operator.ge,
    "lt": operator.lt,
    "lte": operator.le,
}
_KEYS = "cursor_keys"
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

    def _scan(self) -> tuple[FromClause, list[ColumnElement[bool]]]:
        """All rows of the connection, regardless of the page."""
        scan, conditions = self.writer.scan(self.source, self.row)
        return scan, conditions + self._conditions(scan)

    def _beginning(self, after: Keys | None, most: ColumnElement[int]) -> tuple[FromClause, list[ColumnElement[bool]]]:
        """The connection's rows after the row with these keys, or from the start: the first ``most``, or all."""
        source, page = self.source, self.page
        if not isinstance(source, Function) or source.page is None or self.selected.field.join:
            return self._scan()
        usual = self.writer.model.entities[self.selected.node].order
        keys = [key for key in after or () if key is not None]
        if page.backward or page.condition or page.order != usual or len(keys) < len(after or ()):
            return self._scan()
        given = [self.row[argument] for argument in source.arguments]
        first = keys or [cast(literal_column("NULL"), self.columns[name].type) for name, _ in usual]
        scan = self.writer.call(source, source.page, [*given, *first, most])
        return scan, self._conditions(scan)

    def _conditions(self, scan: FromClause) -> list[ColumnElement[bool]]:
        field, page = self.selected.field, self.page
        conditions: list[ColumnElement[bool]] = []
        if field.join:
            conditions.append(self.writer.join(field.join, self.row, scan))
        if field.when:
            conditions.append(field.when(self.row))
        if page.condition:
            conditions.append(_Tests(self, scan).write(page.condition))
        return conditions

    def _beyond(
        self, scan: FromClause, keys: Keys, *, forward: bool, inclusive: bool = False
    ) -> list[ColumnElement[bool]]:
        order = self.page.order if forward else keyset.inverse(self.page.order)
        names = [name for name, _ in order]
        nullable = [bool(self.columns[name].nullable) for name in names]
        return keyset.beyond([scan.c[name] for name in names], nullable, order, keys, inclusive=inclusive)

    def _rows(self) -> Subquery:
        """The rows of the page in order, and the spare row."""
        page = self.page
        forward = not page.backward
        start, end = (self.after, self.before) if forward else (self.before, self.after)
        order = page.order if forward else keyset.inverse(page.order)
        names = [name for name, _ in order]
        limit = literal_column(str(page.size + self.spare), Integer)
        scan, conditions = self._beginning(start, limit)
        if end is not None:
            conditions.append(or_(*self._beyond(scan, end, forward=not forward)))
        ranges = [true()] if start is None else self._beyond(scan, start, forward=forward)
        what: list[Any] = [scan]
        if self.keyed:
            what.append(cursor.keys_data([scan.c[name] for name, _ in page.order]).label(_KEYS))
        selects: list[Any] = [
            select_(*what)
            .where(*conditions, each)
            .order_by(*keyset.ordered([scan.c[name] for name in names], order))
            .limit(limit)
            .correlate_except(scan)
            for each in ranges
        ]
        rows = selects[0]
        if len(selects) > 1:
            # Each range is read in order by an index; the page is merged from all ranges.
            rows = union_all(*selects)
            rows = rows.order_by(*keyset.ordered([rows.selected_columns[name] for name in names], order)).limit(limit)
        if page.backward:
            inner = rows.subquery(f"back_{self.selected.site}")
            names = [name for name, _ in page.order]
            rows = select_(inner).order_by(*keyset.ordered([inner.c[name] for name in names], page.order))
        page_rows: Subquery = rows.subquery(f"page_{self.selected.site}")
        return page_rows

    def _object(self, parts: Sequence[ConnectionPart], rows: Subquery | None) -> list[Json]:
        return json_text.object_of([(part.key, self._part(part, rows)) for part in parts])

    def _part(self, part: ConnectionPart, rows: Subquery | None) -> list[Json]:
        match part.name:
            case "__typename":
                return [f'"{part.type}"']
            case "pageInfo":
                return self._object(part.parts, rows)
            case "totalCount":
                return [self._count()]
            case "hasNextPage" | "hasPreviousPage":
                return [self._more(part.name)]
            case "startCursor" | "endCursor" if self.page.size == 0:
                return ["null"]
        return self._of_rows(part, rows)

    def _of_rows(self, part: ConnectionPart, rows: Subquery | None) -> list[Json]:
        if rows is None:
            raise TypeError(f"{part.name} needs rows")
        match part.name:
            case "nodes" if part.selection:
                return self._listed(self.writer.object(part.selection, rows.c))
            case "edges":
                return self._listed(json_text.object_of([(each.key, self._edge(each, rows)) for each in part.parts]))
            case "startCursor" | "endCursor":
                return [json_text.present(self._end_of_page(part.name, rows), nullable=True)]
        raise TypeError(f"connections have no field {part.name}")

    def _edge(self, part: ConnectionPart, rows: Subquery) -> list[Json]:
        match part.name:
            case "node" if part.selection:
                return self.writer.object(part.selection, rows.c)
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
        return case((func.count() > literal_column("0"), func.to_json(self._cursor(keys)).cast(Text)))

    def _cursor(self, keys: ColumnElement[bytes]) -> ColumnElement[str]:
        return cursor.written(keys, self.writer.parameter(self.selected.site, 0, LargeBinary()))

    def _count(self) -> ColumnElement[int]:
        scan, conditions = self._scan()
        counted = select_(func.count()).select_from(scan).where(*conditions)
        return counted.correlate_except(scan).scalar_subquery()

    def _more(self, name: str) -> Json:
        """Whether there are more rows: by the spare row in its direction, by a look-up in the other direction."""
        if (name == "hasNextPage") != self.page.backward:
            return func.to_json(func.count() > literal_column(str(self.page.size), Integer))
        start = self.before if self.page.backward else self.after
        if start is None:
            return "false"
        one = literal_column("1", Integer)
        # If any row comes before the page, the first row of the connection does.
        scan, conditions = self._beginning(None, one)
        forward = self.page.backward
        order = self.page.order if forward else keyset.inverse(self.page.order)
        keys = keyset.ordered([scan.c[name] for name, _ in order], order)
        # One look-up for the first row of each range: an index serves a single range in order, but not several.
        looks: list[Select[Any]] = [
            select_(literal_column("1")).select_from(scan).where(each, *conditions).order_by(*keys).limit(one)
            for each in self._beyond(scan, start, forward=forward, inclusive=True)
        ]
        found = [look.correlate_except(scan).scalar_subquery().is_not(None) for look in looks]
        return func.to_json(or_(*found))


class _Tests:
    """Writes a filter's condition; assigns its parameters in sequence."""

    def __init__(self, writer: _Writer, scan: FromClause) -> None:
        self._writer = writer
        self._scan = scan
        self._next = writer.first_test

    def write(self, condition: Condition) -> ColumnElement[bool]:
        match condition:
            case ("and", parts):
                return and_(true(), *map(self.write, parts))
            case ("or", parts):
                return or_(false(), *map(self.write, parts))
            case ("not", part):
                # A comparison with a NULL column is unknown; "not" treats it as false.
                return not_(func.coalesce(self.write(part), false()))
            case (_, column, comparison):
                return self._test(column, comparison)
        raise TypeError(f"{condition} is not a condition")

    def _test(self, name: str, comparison: str) -> ColumnElement[bool]:
        if comparison.startswith("json."):
            return self._in_document(self._scan.c[name], comparison.removeprefix("json."))
        if comparison in INSENSITIVE:
            return self._insensitive(name, comparison, self._parameter(Text()))
        special = self._writer.writer.model.comparisons.get((self._writer.selected.node, name))
        if special is None:
            return self._of_column(self._scan.c[name], self._writer.columns[name].type, comparison)
        if special.of is not None:
            value = self._writer.writer.expression(special.of, self._scan)
            return self._of_column(value, value.type, comparison)
        if special.visible is None:
            raise TypeError(f"{name} is compared like any column")
        visible = self._writer.writer.expression(special.visible, self._scan)
        if comparison in {"isNull", "isNotNull"}:
            return not_(visible) if comparison == "isNull" else visible
        return and_(self._of_column(self._scan.c[name], self._writer.columns[name].type, comparison), visible)

    def _in_document(self, column: ColumnElement[Any], comparison: str) -> ColumnElement[bool]:
        found: ColumnElement[Any] = column.op("#>", return_type=JSONB())(self._parameter(ARRAY(Text())))
        if comparison in {"isNull", "isNotNull"}:
            return found.is_(None) if comparison == "isNull" else found.is_not(None)
        value = cast(self._parameter(Text()), JSONB())
        condition: ColumnElement[bool] = (
            found == value if comparison == "eq" else found.op("@>", is_comparison=True)(value)
        )
        return condition

    def _parameter(self, type_: TypeEngine[Any]) -> ColumnElement[Any]:
        self._next += 1
        return self._writer.writer.parameter(self._writer.selected.site, self._next - 1, type_)

    def _of_column(self, column: ColumnElement[Any], of: TypeEngine[Any], comparison: str) -> ColumnElement[bool]:
        if comparison in {"isNull", "isNotNull"}:
            return column.is_(None) if comparison == "isNull" else column.is_not(None)
        type_ = json_text.compared(of)
        parameter = partial(self._writer.writer.parameter, self._writer.selected.site, self._next)
        self._next += 1
        if comparison == "in":
            return or_(column == parameter(ARRAY(type_)).any_())
        if comparison == "contains":
            return column.like(parameter(Text()))
        if comparison == "startsWith":
            given = Grouping(parameter(ARRAY(Text())))
            start, end, pattern = (given[literal_column(str(n), Integer)] for n in (1, 2, 3))
            # LIKE is not leakproof, so under row-level security no index serves it.
            return and_(column >= start, column < end) if self._writer.writer.by_code_point else column.like(pattern)
        condition: ColumnElement[bool] = _COMPARISONS[comparison](column, parameter(type_))
        return condition

    def _insensitive(self, name: str, comparison: str, given: ColumnElement[str]) -> ColumnElement[bool]:
        """Compare the column that holds the texts in lower case, sorted by code points.

        The database changes the given text as it does the column. Functions of the column would not be leakproof.
        """
        column, start = self._scan.c[name], func.lower(given, type_=Text)
        if comparison == "eqInsensitive":
            return or_(column == start)
        longest = self._writer.columns[name].info["longest"]
        last = literal_column(f"repeat(chr({sys.maxunicode}), {longest})", Text)
        return and_(column >= start, column <= start.concat(last))
