"""Limits the size of a response in bytes, and makes the database enforce the limit while it builds the response.

JSON is built from the leaves up, and each level copies the levels below it. A plan and its page sizes bound all values
of fixed width. A value without one, a text or a JSON document, is not counted as long as it is short; a longer one is
measured by ``isola.measured()``, which adds up the bytes that a transaction has built and raises an error above the
limit, before they are copied further. If many short values could exceed the limit together, lists are measured too.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Text, and_, case, cast, func, literal_column

from isola.query import groups
from isola.query.arguments import Ids, Shape
from isola.query.read_plan import (
    Connection,
    ConnectionPart,
    Constant,
    Found,
    Grouped,
    Leaf,
    Object,
    ReadPlan,
    Selected,
    Selection,
    enum_names,
)

# The longest JSON of a value, by its GraphQL type. Other types have no fixed limit.
_WIDTHS = {"ID": 50, "Int": 11, "BigInt": 20, "Float": 25, "Boolean": 5, "DateTime": 36, "Date": 12, "UUID": 38}
# A key's quotes, colon and comma; an object's braces, and the mark of its type.
_PUNCTUATION = 4
_OBJECT = 64
# Base64 of a row's sort keys, whose size is limited because an index holds them.
_CURSOR = 4096
# The unmeasured bytes that each value of variable length may have, however many values there are.
_LEAST_FREE = 1024
# The JSON of a text has at most six bytes for a character or a byte: \u0001. That of a document has at most ten for
# each byte as it is stored uncompressed, and a hundred more: see ``json_document`` in isola.subjects.metadata.
_OF_TEXT, _OF_DOCUMENT, _MORE = 6, 10, 100


class _Size(NamedTuple):
    """The maximum of a selection: bytes of fixed width, number of values of variable length, depth of nested lists."""

    fixed: int = 0
    values: int = 0
    lists: int = 0

    def beside(self, other: "_Size") -> "_Size":
        return _Size(self.fixed + other.fixed, self.values + other.values, max(self.lists, other.lists))

    def times(self, count: int) -> "_Size":
        return _Size(self.fixed * count, self.values * count, self.lists)


@dataclass(frozen=True, slots=True)
class Budget:
    """The size limits of one plan's statement. ``most`` is the limit of the response in bytes."""

    most: int
    free: int
    """A value of at most this many bytes of JSON is not measured."""
    lists: int
    """The depth of nested lists if lists are measured; else 0."""

    def value(self, value: ColumnElement[Any], json: ColumnElement[Any], place: str) -> ColumnElement[Any]:
        """The JSON of a value as a text. NULL if the value is NULL."""
        text = cast(json, Text)
        return case((self._short(value), text), else_=self._measured(text, place))

    def list(self, items: ColumnElement[Any], place: str) -> ColumnElement[Any]:
        """The text of a list; NULL if it has no items."""
        return self._measured(items, place) if self.lists else items

    def _short(self, expression: ColumnElement[Any]) -> ColumnElement[bool]:
        if isinstance(expression.type, Text):
            return func.octet_length(expression) <= _number(self.free // _OF_TEXT)
        # A compressed value can be long although it is stored in few bytes.
        stored = func.pg_column_size(expression) <= _number((self.free - _MORE) // _OF_DOCUMENT)
        return and_(stored, func.pg_column_compression(expression).is_(None))

    def _measured(self, text: ColumnElement[Any], place: str) -> ColumnElement[Any]:
        # Values in nested lists are counted again by each enclosing list.
        total = self.most * (self.lists + 1)
        path = literal_column(f"'{place}'", Text())
        return func.isola.measured(text, _number(self.most), _number(total), path, type_=Text)


def of(plan: ReadPlan, shapes: Sequence[Shape], most: int) -> Budget:
    """The budget of a plan's statement."""
    size = _selection(plan.root, shapes)
    # A quarter of the limit is reserved for unmeasured values.
    free = max(most // 4 // max(size.values, 1), _LEAST_FREE)
    return Budget(most, free, size.lists if size.fixed + size.values * free > most // 2 else 0)


def width(leaf: Leaf) -> int | None:
    """The most bytes of a value's JSON; None if it is unlimited."""
    if leaf.listed:
        return None
    if names := enum_names(leaf.type):
        return max(map(len, names.values())) + 2
    if leaf.longest is not None:
        return leaf.longest * _OF_TEXT + 2
    return _WIDTHS.get(leaf.type.name)


def _selection(selection: Selection, shapes: Sequence[Shape]) -> _Size:
    size = _Size(_OBJECT)
    for each in selection.fields:
        size = size.beside(_Size(len(each.key) + _PUNCTUATION)).beside(_selected(each, shapes))
    return size


def _selected(selected: Selected, shapes: Sequence[Shape]) -> _Size:
    match selected:
        case Constant():
            return _Size(len(selected.text) + 2)
        case Leaf():
            most = width(selected)
            return _Size(values=1) if most is None else _Size(most)
        case Object():
            return _selection(selected.selection, shapes)
        case Connection():
            return _parts(selected.parts, shapes, shapes[selected.site].size)
        case Found():
            shape = shapes[selected.site]
            types = shape.types if isinstance(shape, Ids) else ()
            sizes = [_selection(selected.choices[each], shapes) for each in types]
            largest = _Size(*(max(figures) for figures in zip(*sizes, strict=True))) if sizes else _Size()
            return _list(largest, shape.size) if selected.many else largest
    raise TypeError(f"{selected} has no size")


def _parts(parts: Sequence[ConnectionPart], shapes: Sequence[Shape], rows: int) -> _Size:
    size = _Size(_OBJECT)
    for part in parts:
        match part.name:
            case "node" | "nodes" if part.selection:
                of_part = _selection(part.selection, shapes)
            case "edges" | "pageInfo":
                of_part = _parts(part.parts, shapes, rows)
            case "groups":
                of_part = _groups(part.groups)
            case _:
                of_part = _Size(_CURSOR if "ursor" in part.name else _WIDTHS["BigInt"] + len(part.type))
        size = size.beside(_Size(len(part.key) + _PUNCTUATION))
        size = size.beside(_list(of_part, rows) if part.name in {"nodes", "edges"} else of_part)
    return size


def _groups(selected: Sequence[Grouped | Constant]) -> _Size:
    size = _Size(_OBJECT)
    for each in selected:
        size = size.beside(_Size(len(each.key) + _PUNCTUATION))
        if isinstance(each, Constant):
            size = size.beside(_Size(len(each.text) + 2))
            continue
        # Values that are grouped are in an index, so that all have a limit.
        most = (width(each.value) or _CURSOR) + _WIDTHS["BigInt"] + len(each.group)
        item = _Size(_OBJECT + sum(len(key) + _PUNCTUATION + most for key, _ in each.parts))
        size = size.beside(_list(item, groups.MOST))
    return size


def _list(item: _Size, count: int) -> _Size:
    return item.times(count)._replace(lists=item.lists + 1)


def _number(value: int) -> ColumnElement[int]:
    return literal_column(str(value))
