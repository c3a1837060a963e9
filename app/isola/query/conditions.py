"""The SQL of filters: conditions on rows, and what leads to the rows that satisfy them."""

import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import (
    ARRAY,
    BindParameter,
    Column,
    ColumnElement,
    FromClause,
    Integer,
    Interval,
    Select,
    Text,
    and_,
    any_,
    cast,
    exists,
    false,
    func,
    literal_column,
    not_,
    or_,
    select as select_,
    true,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.sql.elements import Grouping
from sqlalchemy.sql.selectable import LateralFromClause
from sqlalchemy.types import TypeEngine

from isola.query import json_text, words
from isola.query.arguments import INSENSITIVE, RELATIVE, Condition
from isola.query.mapping import Related, Searched
from isola.subjects.folding import end, fold

if TYPE_CHECKING:
    from isola.query.statement import Writer

_COMPARISONS: dict[str, Callable[[Any, Any], Any]] = {
    "eq": operator.eq,
    "gt": operator.gt,
    "gte": operator.ge,
    "lt": operator.lt,
    "lte": operator.le,
}


class Lead(NamedTuple):
    """What leads to rows: their ``column`` equals the ``key`` of related rows or words.

    These satisfy one part of a filter, the rows themselves satisfy the ``others``. ``is_few``: there are few keys.
    """

    column: str
    keys: Select[tuple[Any]]
    others: Sequence[ColumnElement[bool]]
    is_few: ColumnElement[bool]


class Source(NamedTuple):
    """Rows that ``rows`` joins, with the columns of ``scan``: all columns, or only their ids and what orders them."""

    rows: FromClause
    scan: FromClause
    conditions: Sequence[ColumnElement[bool]]
    is_of_keys: bool = False

    def where(self, *conditions: ColumnElement[bool]) -> "Source":
        return self._replace(conditions=[*self.conditions, *conditions])


def by_key(source: Source, key: ColumnElement[Any], name: str, column: str = "id") -> LateralFromClause:
    """The rows with a key of a preceding item of FROM. The planner joins it in this order: it has an offset."""
    rows = select_(source.scan).where(source.scan.c[column] == key, *source.conditions)
    return rows.offset(literal_column("0")).correlate_except(source.scan).lateral(name)


class ConditionWriter:
    """Writes a filter's condition on the rows of a scan; takes its parameters in sequence from ``numbers``."""

    def __init__(
        self,
        writer: "Writer",
        site: int,
        type_: str,
        columns: Mapping[str, Column[Any]],
        scan: FromClause,
        numbers: Iterator[int],
        *,
        probing: bool = False,
        narrowed: bool = False,
        opaque: bool = False,
    ) -> None:
        """``probing``: related rows are looked up for each row, whatever the planner would prefer.

        ``narrowed``: something else decides which rows are read, so that words do not need to lead to them.

        ``opaque``: the planner does not read the values, so that it keeps one plan for all of them.
        """
        self._writer = writer
        self._site = site
        self._type = type_
        self._columns = columns
        self._scan = scan
        self._numbers = numbers
        self._probing = probing
        self._narrowed = narrowed or probing
        self._opaque = opaque

    def write(self, condition: Condition) -> ColumnElement[bool]:
        match condition:
            case ("and", parts):
                return and_(true(), *map(self.write, parts))
            case ("or", parts):
                return or_(false(), *map(self.write, parts))
            case ("not", part):
                # A comparison with a NULL column is unknown; "not" treats it as false.
                return not_(func.coalesce(self.write(part), false()))
            case ("some", of, name, inner):
                return self._some(of, name, inner)
            case ("none", of, name, inner):
                return not_(self._some(of, name, inner))
            case ("search", _, _) | ("test", _, _):
                return self._single(condition)
        raise TypeError(f"{condition} is not a condition")

    def _single(self, condition: Condition) -> ColumnElement[bool]:
        kind, of, name = condition
        if kind == "test":
            return self._test(of, name)
        searched = self._words(of, name)
        # What is evaluated once is of no place.
        narrowed = self._narrowed or self._writer.family is not None
        return searched.of(self._scan) if narrowed else searched.among(self._scan)

    def leading(self, parts: Sequence[Condition], leading: int) -> Lead:
        """What the part at this index leads to."""
        before = [self.write(part) for part in parts[:leading]]
        column, keys, is_few = self._leading(parts[leading])
        return Lead(column, keys, [*before, *map(self.write, parts[leading + 1 :])], is_few)

    def _leading(self, part: Condition) -> tuple[str, Select[tuple[Any]], ColumnElement[bool]]:
        if part[0] == "search":
            searched = self._words(*part[1:])
            return "id", searched.keys(), searched.is_few
        _, of, name, condition = part
        related = self._relation(of, name)
        return related.join.parent, self._keys(related, condition), true()

    def _words(self, of: str, name: str) -> words.Words:
        searched = self._writer.model.filters[of][name]
        if not isinstance(searched, Searched):
            raise TypeError(f"{of}.{name} searches no words")
        return words.Words(self._writer, searched, self._bound(Text()), self._bound(Text()))

    def _some(self, of: str, name: str, condition: Condition) -> ColumnElement[bool]:
        """Whether a related row satisfies a condition."""
        related = self._relation(of, name)
        own = self._scan.c[related.join.parent]
        if self._probing:
            return self._probed(related, own, condition)
        keys = self._keys(related, condition)
        [key] = keys.selected_columns
        return exists(keys.where(key == own))

    def _probed(self, related: Related, own: ColumnElement[Any], condition: Condition) -> ColumnElement[bool]:
        """The same, with each related row read by its key.

        The planner could instead read all related rows that satisfy the condition, for each row.
        """
        join, source = related.join, self._source(related)
        if join.through is None:
            row = by_key(source, own, f"probed_{source.scan.description}", join.child)
            rows: FromClause = row
            conditions: list[ColumnElement[bool]] = []
        else:
            pairs, conditions = self._writer.scan(join.through, None)
            conditions.append(pairs.c[join.near] == own)
            row = by_key(source, pairs.c[join.far], f"probed_{source.scan.description}", join.child)
            rows = pairs.join(row, true())
        found: Select[Any] = (
            select_(literal_column("1")).select_from(rows).where(*conditions, self._tested(related, row, condition))
        )
        return found.limit(literal_column("1")).correlate_except(rows).scalar_subquery().is_not(None)

    def _keys(self, related: Related, condition: Condition) -> Select[tuple[Any]]:
        """The ``key`` of each related row that satisfies a condition: that of the row to which it is related."""
        join, source = related.join, self._source(related)
        sources, conditions = [source.scan], list(source.conditions)
        key = source.scan.c[join.child]
        if join.through is not None:
            pairs, more = self._writer.scan(join.through, None)
            sources.append(pairs)
            conditions += [*more, pairs.c[join.far] == key]
            key = pairs.c[join.near]
        keys = select_(key.label("key")).select_from(*sources)
        return keys.where(*conditions, self._tested(related, source.scan, condition)).correlate_except(*sources)

    def _relation(self, of: str, name: str) -> Related:
        related = self._writer.model.filters[of][name]
        if not isinstance(related, Related):
            raise TypeError(f"{of}.{name} compares no related rows")
        return related

    def _source(self, related: Related) -> Source:
        scan, conditions = self._writer.scan(self._writer.model.entities[related.type].source, None)
        return Source(scan, scan, conditions)

    def _tested(self, related: Related, rows: FromClause, condition: Condition) -> ColumnElement[bool]:
        columns = self._writer.model.columns[related.type]
        tests = ConditionWriter(
            self._writer,
            self._site,
            related.type,
            columns,
            rows,
            self._numbers,
            probing=self._probing,
            opaque=self._opaque,
        )
        return tests.write(condition)

    def _test(self, name: str, comparison: str) -> ColumnElement[bool]:
        if comparison.startswith("json."):
            return self._in_document(self._scan.c[name], comparison.removeprefix("json."))
        if comparison in INSENSITIVE:
            return self._insensitive(name, comparison, self._parameter(Text()))
        special = self._writer.model.comparisons.get((self._type, name))
        if special is None:
            return self._of_column(self._scan.c[name], self._columns[name].type, comparison)
        if special.of is not None:
            value = self._writer.expression(special.of, self._scan)
            return self._of_column(value, value.type, comparison)
        if special.visible is None:
            raise TypeError(f"{name} is compared like any column")
        visible = self._writer.expression(special.visible, self._scan)
        if comparison in {"isNull", "isNotNull"}:
            return not_(visible) if comparison == "isNull" else visible
        return and_(self._of_column(self._scan.c[name], self._columns[name].type, comparison), visible)

    def _in_document(self, column: ColumnElement[Any], comparison: str) -> ColumnElement[bool]:
        found: ColumnElement[Any] = column.op("#>", return_type=JSONB())(self._parameter(ARRAY(Text())))
        if comparison in {"isNull", "isNotNull"}:
            return found.is_(None) if comparison == "isNull" else found.is_not(None)
        value = cast(self._parameter(Text()), JSONB())
        condition: ColumnElement[bool] = (
            found == value if comparison == "eq" else found.op("@>", is_comparison=True)(value)
        )
        return condition

    def _bound(self, type_: TypeEngine[Any]) -> BindParameter[Any]:
        return self._writer.parameter(self._site, next(self._numbers), type_)

    def _parameter(self, type_: TypeEngine[Any]) -> ColumnElement[Any]:
        bound = self._bound(type_)
        return cast(select_(bound).scalar_subquery(), type_) if self._opaque else bound

    def _of_column(self, column: ColumnElement[Any], of: TypeEngine[Any], comparison: str) -> ColumnElement[bool]:
        if comparison in {"isNull", "isNotNull"}:
            return column.is_(None) if comparison == "isNull" else column.is_not(None)
        if comparison in RELATIVE:
            time = func.now() - self._parameter(Interval())
            later: ColumnElement[bool] = column > time if comparison == "newerThan" else column < time
            return later
        type_ = json_text.compared(of)
        if comparison == "in":
            return or_(column == any_(self._parameter(ARRAY(type_))))
        if comparison == "contains":
            return column.like(self._parameter(Text()))
        if comparison == "startsWith":
            given = Grouping(self._parameter(ARRAY(Text())))
            start, end, pattern = (given[literal_column(str(n), Integer)] for n in (1, 2, 3))
            # LIKE is not leakproof, so under row-level security no index serves it.
            return and_(column >= start, column < end) if self._writer.by_code_point else column.like(pattern)
        condition: ColumnElement[bool] = _COMPARISONS[comparison](column, self._parameter(type_))
        return condition

    def _insensitive(self, name: str, comparison: str, given: ColumnElement[str]) -> ColumnElement[bool]:
        """Compare the column that holds the folded texts, sorted by code points."""
        column, folded = self._scan.c[name], fold(given)
        match comparison:
            case "eqInsensitive":
                return or_(column == folded)
            case "startsWithInsensitive":
                return and_(column >= folded, column < end(folded))
        # Not LIKE: folding can make its wildcards of other characters. As a query of its own, the text is folded once.
        once = select_(folded).scalar_subquery()
        return or_(func.strpos(column, once, type_=Integer) > literal_column("0", Integer))
