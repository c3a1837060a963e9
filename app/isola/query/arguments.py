"""The arguments of one field: their *shape*, which determines the SQL text, and their values, which are parameters.

A shape contains no values, except one that the planner needs: the size of a page.
"""

import sys
from collections.abc import Callable, Mapping, Sequence, Set as AbstractSet
from dataclasses import dataclass, field
from datetime import date, timedelta
from decimal import Decimal
from enum import Enum
from functools import partial
from types import MappingProxyType
from typing import Any, NamedTuple, TypeAlias
from uuid import UUID

from sqlalchemy import Uuid
from sqlalchemy.types import TypeEngine

from isola import exact_json
from isola.errors import BadUserInput
from isola.query import cursor, family, identifiers
from isola.query.limits import Limits
from isola.query.mapping import Comparison, Filter, Order, Related, Searched
from isola.subjects import document
from isola.subjects.folding import MAX_BYTES

Condition: TypeAlias = tuple[Any, ...]
"""``("and"|"or", (condition, …))``, ``("not", condition)``, ``("test", column, operator)``, or
``("some"|"none", filter, field, condition)``: whether related rows, those of a filter's field, satisfy a condition; or
``("search", filter, field)``: whether a row has all words of a text, and a word for each prefix in another text.

The value of ``startsWith`` is a list: the prefix, the first text that sorts after all texts with it, and a pattern. If
there is no such text, the operator becomes ``contains``, with only a pattern as value.
"""

RELATIVE = frozenset({"newerThan", "olderThan"})
"""Operators that compare with a time before the present one."""
_SERVED_INSENSITIVE = frozenset({"eqInsensitive", "startsWithInsensitive"})
_SLOW = frozenset({"containsInsensitive"})
"""Operators that no index serves, so that each row has to be read for them."""
INSENSITIVE = _SERVED_INSENSITIVE | _SLOW
"""Operators that compare without regard to case and accents. The column is the one with the folded texts."""

Nulls: TypeAlias = tuple[bool, ...]
"""Which of a cursor's keys are NULL."""


class Scope(Enum):
    """Whose rows a list has.

    OWN: Those of the tenant of the request.
    DESCENDANTS: Those of all active tenants below it, for users with family:read.
    """

    OWN = "own"
    DESCENDANTS = "descendants"


class Page(NamedTuple):
    """The shape of a connection's arguments. Values: the cursors' key, then ``after``, ``before`` and the filter."""

    size: int
    backward: bool
    order: Order
    after: Nulls | None
    before: Nulls | None
    condition: Condition | None
    types: tuple[str, ...] = ()
    """The type of each relation that the condition compares."""
    flipped: tuple[str, ...] = ()
    """The columns of the order whose NULLs come first in ascending order, and last in descending order."""
    leading: int | None = None
    """The part of the condition whose related rows, or words, lead to the rows."""
    narrowing: str | None = None
    """The compared column whose index finds the rows, if that could be better than to read them in order."""
    descendants: bool = False
    """Whether the rows are those of the tenants below the caller's, instead of the caller's own."""


class Ids(NamedTuple):
    """The shape of a look-up: the types of the ids, and the most ids that there can be.

    Values: the key; or all keys, and the index of each one's type.
    """

    types: tuple[str, ...]
    size: int


Shape: TypeAlias = Page | Ids
_EXACT = frozenset({"eq", "in", "startsWith"})
_BY_ROWS = (
    frozenset({"eq", "eqInsensitive"}),
    frozenset({"in"}),
    frozenset({"startsWith", "startsWithInsensitive"}),
)
"""Operators that an index serves, those that usually find the fewest rows first."""
_HALF = len(_BY_ROWS) + 1
_NOTHING = _HALF + 1
_FROM, _TO = frozenset({"gt", "gte", "newerThan"}), frozenset({"lt", "lte", "olderThan"})
# Of a filter inside of documents: the most keys of a path, characters of a key, and bytes of the value.
_KEYS, _KEY_LENGTH, _DOCUMENT_BYTES = 8, 200, 4096
# Of a search: the most words, and characters.
_WORDS, _SEARCH_LENGTH = 16, 200
_SURROGATES, _AFTER_SURROGATES = 0xD800, 0xE000
Read: TypeAlias = tuple[Shape, tuple[Any, ...]]


class Connection(NamedTuple):
    """How a connection reads its arguments.

    ``place`` names the field, ``filter`` its filter among all ``filters``; ``keyed``: cursors were selected;
    ``joined``: its rows are those of another row.
    """

    place: str
    filters: Mapping[str, Filter]
    filter: str
    order: Order
    types: Mapping[str, TypeEngine[Any]]
    keyed: bool
    limits: Limits
    joined: bool = False
    languages: Mapping[str, Mapping[str, str]] = MappingProxyType({})
    """By column and language, the column that is sorted by the rules of the language."""

    def depends_on_caller(self, arguments: Mapping[str, Any]) -> bool:
        return self.keyed or arguments.get("after") is not None or arguments.get("before") is not None

    def read(self, arguments: Mapping[str, Any], cursor_key: Callable[[object], bytes]) -> Read:
        """Raises BadUserInput, naming the argument, for an invalid argument."""
        size, backward = self._size(arguments)
        order, flipped = self._order(arguments.get("orderBy") or ())
        descendants = arguments.get("scope") is Scope.DESCENDANTS
        if descendants:
            order = (*order, (family.TENANT, order[-1][1]))
        reader = _Reader(self.filters, self.limits)
        condition: Condition | None = None
        if (conditions := arguments.get("filter")) is not None:
            if not self.joined:
                self._refuse_slow(conditions)
            condition = reader.conditions(self.filter, conditions, "filter")
        tests = reader.values
        after, before = arguments.get("after"), arguments.get("before")
        # A cursor is valid only for this field, order and filter, with the same values.
        made = (
            cursor_key((self.place, order, condition, tests, *flipped)) if self.depends_on_caller(arguments) else None
        )
        types = [Uuid() if column == family.TENANT else self.types[column] for column, _ in order]
        values: list[Any] = [made]
        nulls: list[Nulls | None] = []
        for text, name in ((after, "after"), (before, "before")):
            keys = None if text is None else cursor.decode(text, made or b"", types, name)
            nulls.append(None if keys is None else tuple(key is None for key in keys))
            values += keys or ()
        parts = condition[1] if condition and not self.joined else ()
        leading = _leading(parts)
        narrowing = self._narrowing(parts, order, has_leading=leading is not None) if parts else None
        page = Page(
            size,
            backward,
            order,
            nulls[0],
            nulls[1],
            condition,
            tuple(reader.types),
            flipped,
            leading,
            narrowing,
            descendants,
        )
        return page, (*values, *tests)

    def _narrowing(self, parts: Sequence[Condition], order: Order, *, has_leading: bool) -> str | None:
        """The column whose comparisons usually find the fewest rows."""
        compared = [each for each in self.filters[self.filter].values() if isinstance(each, Comparison)]
        indexed = {each.column for each in compared if each.indexed} | {each.folded for each in compared if each.folded}
        operators: dict[str, set[str]] = {}
        for part in parts:
            # The index of a column that comes first in the order serves both.
            if part[0] == "test" and part[1] in indexed and part[1] != order[0][0]:
                operators.setdefault(part[1], set()).add(part[2])
        ranks = {name: _rank(each) for name, each in operators.items()}
        # The planner knows well enough how many rows have one value, and a shorter statement starts sooner.
        if 0 in ranks.values() and not has_leading:
            return None
        # Half of a range usually finds more rows than related rows and words do.
        found = [(rank, name) for name, rank in ranks.items() if rank < (_HALF if has_leading else _NOTHING)]
        return min(found)[1] if found else None

    def _refuse_slow(self, arguments: Mapping[str, Any]) -> None:
        """Raise BadUserInput for a comparison that each row has to be read for, if all rows would be read."""
        filter_ = self.filters[self.filter]
        slow = _slow(self.filters, self.filter, arguments, "filter")
        if slow is not None and not _narrows(filter_, arguments):
            path, of = slow
            served = {name: each for name, each in self.filters[of].items() if _is_indexed(each)}
            has_insensitive = any(getattr(each, "folded", None) for each in served.values())
            operators = _EXACT | (_SERVED_INSENSITIVE if has_insensitive else frozenset())
            raise BadUserInput(
                f"{path}: expected together with a condition that uses an index: {', '.join(sorted(operators))} or "
                f"both ends of a range, of one of {', '.join(sorted(served))}",
                path,
            )

    def _size(self, arguments: Mapping[str, Any]) -> tuple[int, bool]:
        first, last = arguments.get("first"), arguments.get("last")
        if first is not None and last is not None:
            raise BadUserInput("first and last cannot be given together", "last")
        name, size = ("first", first) if last is None else ("last", last)
        most = self.limits.page_size
        if size is not None and not 0 <= size <= most:
            raise BadUserInput(f"{name} must be between 0 and {most}", name)
        return (self.limits.default_page_size if size is None else size), last is not None

    def _order(self, arguments: Sequence[Mapping[str, Any]]) -> tuple[Order, tuple[str, ...]]:
        """The order, and the columns whose NULLs are not where they are by default."""
        if not arguments:
            return self.order, ()
        order: dict[str, bool] = {}
        flipped: list[str] = []
        for index, key in enumerate(arguments):
            column, descends, nulls = self._ordered_by(key, index), key["direction"].value == "DESC", key.get("nulls")
            if column not in order:
                order[column] = descends
                if nulls is not None and (nulls.value == "FIRST") != descends:
                    flipped.append(column)
        # The primary key is the tie-breaker, in the direction of the last key, so that one index serves both.
        order.setdefault("id", next(reversed(order.values())))
        return tuple(order.items()), tuple(flipped)

    def _ordered_by(self, key: Mapping[str, Any], index: int) -> str:
        column: str = key["field"].value
        language = key.get("language")
        if language is None:
            return column
        known, path = self.languages.get(column, {}), f"orderBy.{index}.language"
        if language not in known:
            expected = f"one of {', '.join(sorted(known))}" if known else "none"
            raise BadUserInput(f"{path}: expected {expected}, for the field {key['field'].name}", path)
        return known[language]


_Slow: TypeAlias = tuple[str, str] | None
"""The path of a comparison, and the filter that it is in."""


def _slow(filters: Mapping[str, Filter], of: str, arguments: Mapping[str, Any], path: str) -> _Slow:
    """The first comparison that each row has to be read for."""
    found: _Slow
    for name, value in arguments.items():
        inner = f"{path}.{name}"
        if value is None:
            continue
        if name in {"and", "or"}:
            found = next(filter(None, (_slow(filters, of, each, inner) for each in value)), None)
        elif name == "not":
            found = _slow(filters, of, value, inner)
        else:
            found = _slow_field(filters, of, name, value, inner)
        if found:
            return found
    return None


def _slow_field(filters: Mapping[str, Filter], of: str, name: str, arguments: Mapping[str, Any], path: str) -> _Slow:
    compared = filters[of][name]
    if isinstance(compared, Comparison):
        if compared.slow:
            return path, of
        operator = next((each for each in arguments if each in _SLOW), None)
        return None if operator is None else (f"{path}.{operator}", of)
    if isinstance(compared, Searched):
        return None
    tests = arguments.items() if compared.many else [(None, arguments)]
    for quantifier, value in tests:
        if value is None or _narrows(filters[compared.filter], value):
            continue
        found = _slow(filters, compared.filter, value, path if quantifier is None else f"{path}.{quantifier}")
        if found:
            return found
    return None


def _leading(parts: Sequence[Condition]) -> int | None:
    # A word leads to the rows themselves, and usually to fewer.
    leading = [index for kind in ("search", "some") for index, part in enumerate(parts) if part[0] == kind]
    return leading[0] if leading else None


def _rank(operators: AbstractSet[str]) -> int:
    """By the number of rows that a column with these comparisons usually leads to."""
    for rank, some in enumerate(_BY_ROWS):
        if operators & some:
            return rank
    has_range = bool(operators & _FROM and operators & _TO)
    return _HALF - 1 if has_range else _HALF if operators & (_FROM | _TO) else _NOTHING


def _is_indexed(compared: Comparison | Related | Searched) -> bool:
    return isinstance(compared, Comparison) and (compared.indexed or compared.folded is not None)


def _is_served(compared: Comparison | Related | Searched, operators: AbstractSet[str]) -> bool:
    """Whether an index serves a condition with these operators."""
    if not isinstance(compared, Comparison):
        return False
    if compared.folded is not None and operators & _SERVED_INSENSITIVE:
        return True
    return compared.indexed and bool(operators & _EXACT or (operators & _FROM and operators & _TO))


def _narrows(filter_: Filter, arguments: Mapping[str, Any]) -> bool:
    """Whether an index serves a condition that all rows have to fulfil."""
    for name, value in arguments.items():
        if value is None or name in {"or", "not"}:
            continue
        if name == "and":
            if any(_narrows(filter_, each) for each in value):
                return True
        elif _is_served(filter_[name], value.keys()):
            return True
    return False


class Identified(NamedTuple):
    """How a look-up by id reads its argument. ``prefixes`` are the id prefixes of the types that it can find."""

    prefixes: Mapping[str, str]
    limits: Limits

    def depends_on_caller(self, arguments: Mapping[str, Any]) -> bool:  # noqa: ARG002  required by the interface
        return False

    def read(self, arguments: Mapping[str, Any], cursor_key: Callable[[object], bytes]) -> Read:  # noqa: ARG002  the caller gives it
        """A malformed id, or an id of another type, is read as one that finds nothing."""
        if "ids" not in arguments:
            decoded = self._find(arguments["id"])
            return (Ids((decoded[0],), 1), (decoded[1],)) if decoded else (Ids((), 1), ())
        ids = arguments["ids"]
        if len(ids) > self.limits.page_size:
            raise BadUserInput(f"ids must be at most {self.limits.page_size}, not {len(ids)}", "ids")
        all_decoded = [self._find(text) for text in ids]
        types = tuple(sorted({decoded[0] for decoded in all_decoded if decoded}))
        keys = [decoded[1] if decoded else None for decoded in all_decoded]
        return Ids(types, self.limits.page_size), (
            keys,
            [types.index(decoded[0]) if decoded else None for decoded in all_decoded],
        )

    def _find(self, text: str) -> tuple[str, UUID] | None:
        parts = identifiers.split(text)
        if parts is None or parts[0] not in self.prefixes:
            return None
        return self.prefixes[parts[0]], parts[1]


def read_filter(
    filter_: Filter, arguments: Mapping[str, Any], path: str, limits: Limits
) -> tuple[Condition, Sequence[Any]]:
    """A filter without relations, and the values of its comparisons in sequence. Raises BadUserInput."""
    reader = _Reader({"": filter_}, limits)
    return reader.conditions("", arguments, path), reader.values


@dataclass
class _Reader:
    """Reads a filter. Null is refused: it is neither a value to compare with nor "no condition"."""

    filters: Mapping[str, Filter]
    limits: Limits
    values: list[Any] = field(default_factory=list)
    types: list[str] = field(default_factory=list)
    """The type of each relation that is compared."""
    tests: int = 0

    def conditions(self, of: str, arguments: Mapping[str, Any], path: str, depth: int = 0) -> Condition:
        """Reads a filter ``of`` that name, within ``depth`` relations."""
        parts: list[Condition] = []
        for name, value in arguments.items():
            parts += self._field(of, name, value, f"{path}.{name}", depth)
        return "and", tuple(parts)

    def _field(self, of: str, name: str, arguments: Any, path: str, depth: int) -> Sequence[Condition]:
        """The conditions of one field, all of which must hold."""
        match name:
            case "and" | "or":
                _refuse_null(arguments, path)
                listed = enumerate(arguments)
                parts = tuple(self.conditions(of, each, f"{path}.{index}", depth) for index, each in listed)
                return [inner for _, each in parts for inner in each] if name == "and" else [("or", parts)]
            case "not":
                _refuse_null(arguments, path)
                return [("not", self.conditions(of, arguments, path, depth))]
        compared = self.filters[of][name]
        if isinstance(compared, Related):
            instead = "none" if compared.many else f"{name}Id: {{isNull: true}}"
            _refuse_null(arguments, path, instead)
            return self._related(compared, (of, name), arguments, path, depth + 1)
        _refuse_null(arguments, path)
        if isinstance(compared, Searched):
            return [self._search((of, name), arguments, path)]
        if compared.document:
            return self._document(compared, arguments, path)
        return [self._test(compared, key, value, f"{path}.{key}") for key, value in arguments.items()]

    def _related(
        self, related: Related, place: tuple[str, str], arguments: Mapping[str, Any], path: str, depth: int
    ) -> Sequence[Condition]:
        if depth > self.limits.relations:
            raise BadUserInput(f"{path}: expected at most {self.limits.relations} nested relations", path)
        conditions: list[Condition] = []
        for quantifier, value in arguments.items() if related.many else [("some", arguments)]:
            inner = f"{path}.{quantifier}" if related.many else path
            _refuse_null(value, inner, "{}")
            self.types.append(related.type)
            self._count()
            conditions.append((quantifier, *place, self.conditions(related.filter, value, inner, depth)))
        return conditions

    def _search(self, place: tuple[str, str], arguments: Mapping[str, Any], path: str) -> Condition:
        text = arguments["text"]
        where = f"{path}.text"
        if not storable(text):
            raise BadUserInput(f"{where} contains characters that cannot be stored", where)
        if len(text) > _SEARCH_LENGTH:
            raise BadUserInput(f"{where}: expected at most {_SEARCH_LENGTH} characters", where)
        words = text.split()
        if len(words) > _WORDS:
            raise BadUserInput(f"{where}: expected at most {_WORDS} words", where)
        whole = len(words) - 1 if arguments["prefix"] and words else len(words)
        self.values += [" ".join(words[:whole]), " ".join(words[whole:])]
        self._count()
        return "search", *place

    def _document(self, comparison: Comparison, arguments: Mapping[str, Any], path: str) -> Sequence[Condition]:
        keys = arguments.get("path")
        if "path" in arguments:
            _refuse_null(keys, f"{path}.path")
        for key in keys or ():
            if len(key) > _KEY_LENGTH or not storable(key):
                raise BadUserInput(f"{path}.path: expected keys of at most {_KEY_LENGTH} characters", f"{path}.path")
        if len(keys or ()) > _KEYS:
            raise BadUserInput(f"{path}.path: expected at most {_KEYS} keys", f"{path}.path")
        tests: list[Condition] = []
        for operator, value in arguments.items():
            if operator == "path":
                continue
            inner = f"{path}.{operator}"
            _refuse_null(value, inner)
            self.values.append(list(keys or ()))
            if operator == "isNull":
                tests.append(("test", comparison.column, "json.isNull" if value else "json.isNotNull"))
            else:
                document.check(inner, value, _DOCUMENT_BYTES)
                self.values.append(exact_json.dumps(value))
                tests.append(("test", comparison.column, f"json.{operator}"))
            self._count()
        return tests

    def _test(self, comparison: Comparison, operator: str, arguments: Any, path: str) -> Condition:
        _refuse_null(arguments, path)
        value = partial(_value, comparison)
        match operator:
            case "in":
                if len(arguments) > self.limits.list_values:
                    message = f"{path} takes at most {self.limits.list_values} values, not {len(arguments)}"
                    raise BadUserInput(message, path)
                self.values.append([value(each, f"{path}.{index}") for index, each in enumerate(arguments)])
            case "isNull":
                operator = "isNull" if arguments else "isNotNull"
            case "contains":
                self.values.append(f"%{_escaped(value(arguments, path))}%")
            case "startsWith":
                prefix = value(arguments, path)
                pattern, end = f"{_escaped(prefix)}%", _successor(prefix)
                if end is None:
                    operator = "contains"
                    self.values.append(pattern)
                else:
                    self.values.append([prefix, end, pattern])
            case _ if operator in INSENSITIVE:
                text = value(arguments, path)
                if len(text) > MAX_BYTES:
                    raise BadUserInput(f"{path}: expected at most {MAX_BYTES} characters", path)
                self.values.append(text)
            case _:
                self.values.append(value(arguments, path))
        self._count()
        column = comparison.folded if operator in INSENSITIVE and comparison.folded else comparison.column
        return "test", column, operator

    def _count(self) -> None:
        self.tests += 1
        if self.tests > self.limits.conditions:
            raise BadUserInput(f"a filter holds at most {self.limits.conditions} conditions", "filter")


def _value(comparison: Comparison, arguments: Any, path: str) -> Any:
    _refuse_null(arguments, path)
    match arguments:
        case Enum():
            return arguments.value
        case str() if comparison.prefix:
            return identifiers.decode(arguments, comparison.prefix, path)
        case str() if not storable(arguments):
            raise BadUserInput(f"{path} contains characters that cannot be stored", path)
        case str() | int() | float() | date() | timedelta() | Decimal() | UUID():
            return arguments
    raise BadUserInput(f"{path} cannot be compared", path)


def _refuse_null(arguments: Any, path: str, instead: str = "isNull") -> None:
    if arguments is None:
        raise BadUserInput(f"{path} must not be null; omit it for no condition, or use {instead}", path)


def storable(text: str) -> bool:
    """Whether the database can store a text: it must not contain NUL or a lone surrogate."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in text


def _successor(prefix: str) -> str | None:
    """The first text, by code points, that sorts after all texts with a prefix; None if there is none."""
    kept = prefix.rstrip(chr(sys.maxunicode))
    if not kept:
        return None
    point = ord(kept[-1]) + 1
    # Stored texts contain no surrogates.
    return kept[:-1] + chr(_AFTER_SURROGATES if point == _SURROGATES else point)


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
