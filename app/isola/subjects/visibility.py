"""The visibility rules of tables, as the database enforces them: in terms of the user that a transaction has proved.

A rule is the condition of a policy, in every home (isola.platform.visibility). So it holds for every statement, whoever
wrote it, and statements do not repeat it.
"""

from collections.abc import Callable, Sequence, Set as AbstractSet
from functools import cache, lru_cache
from typing import Any, NoReturn

from sqlalchemy import (
    ARRAY,
    Column,
    ColumnElement,
    FromClause,
    Select,
    Table,
    Text,
    Uuid,
    and_,
    exists,
    literal_column,
    select,
)
from sqlalchemy.sql import operators
from sqlalchemy.sql.elements import BinaryExpression, BooleanClauseList
from sqlalchemy.sql.visitors import iterate

from isola.subjects.metadata import DIALECT, Viewer, Visible, metadata
from isola.subjects.permissions import Permission

# Scalar sub-selects: evaluated at most once for each scan, and only if a row makes it necessary.
_USER: ColumnElement[Any] = literal_column("(SELECT isola.current_user_id())", Uuid())
_PERMISSIONS: ColumnElement[Any] = literal_column("(SELECT isola.current_permissions())::text[]", ARRAY(Text()))


def _may(permission: str) -> ColumnElement[bool]:
    return literal_column(f"'{permission}'", Text()) == _PERMISSIONS.any_()


IN_ORDER = "CASE WHEN {first} THEN nullif({rule}, false) ELSE false END"
"""A rule, in SQL, that is evaluated only for rows that satisfy a first condition.

CASE has an order, and costs as much as both; nullif() adds a cost, as a rule that only reads columns has none.
"""
VIEWER = Viewer(_USER, _may)
"""The user and the permissions that the transaction has proved."""


def rule_of(table: Table) -> Visible | None:
    """The visibility rule of a table; None if all users of a tenant may read all its rows."""
    rule: Visible | None = table.info.get("visible")
    return rule


def condition(table: Table) -> ColumnElement[bool] | None:
    """The condition under which the proved user may read a row of a table; None if all users may.

    A pair is visible to users who can see both rows. Policies apply inside of the condition as well: it is enough that
    the rows can be found.
    """
    if (rule := rule_of(table)) is not None:
        return rule(table.c, VIEWER)
    found = [exists().where(other.c.id == table.c[name]) for name, other in hidden_ends(table)]
    return and_(*found) if found else None


def hidden_ends(table: Table) -> Sequence[tuple[str, FromClause]]:
    """The columns of a table of pairs that reference tables with visibility rules, with those tables."""
    return [
        (column.name, key.column.table.alias())
        for column in table.primary_key.columns
        for key in column.foreign_keys
        if rule_of(key.column.table) is not None
    ]


def in_sql(query: Select[Any]) -> str:
    """A query as SQL text with its constants, for a definition."""
    text = str(query.compile(dialect=DIALECT, compile_kwargs={"literal_binds": True}))
    # The star of ``exists()`` would require the right to read all columns.
    return text.replace("EXISTS (SELECT * \nFROM ", "EXISTS (SELECT 1 \nFROM ")


def condition_in_sql(table: Table) -> str | None:
    """The condition of ``condition`` as text, for a policy of the table."""
    made = condition(table)
    if made is None:
        return None
    return within(table, made)


def of_user_in_sql(table: Table) -> Sequence[str]:
    """Those parts of the condition that compare a column with the user, which an index can serve."""
    made = condition(table)
    parts = made.clauses if isinstance(made, BooleanClauseList) and made.operator is operators.and_ else [made]
    return [within(table, part) for part in parts if isinstance(part, BinaryExpression) and _is_of_user(part)]


def _is_of_user(part: BinaryExpression[Any]) -> bool:
    sides = part.left, part.right
    return (
        part.operator is operators.eq
        and any(each is _USER for each in sides)
        and any(isinstance(each, Column) for each in sides)
    )


def within(table: Table, made: ColumnElement[bool]) -> str:
    """A condition on the rows of a table as text, for a policy of the table."""
    # Within a query of the table, sub-selects correlate with it.
    return in_sql(select(literal_column("1")).select_from(table).where(made)).partition("WHERE ")[2]


def columns_read(expression: ColumnElement[Any] | Select[Any]) -> set[tuple[str, str]]:
    """The columns that an expression reads, as names of table and column."""
    found = set()
    for element in iterate(expression):
        if isinstance(element, Column) and element.table is not None:
            table = getattr(element.table, "element", element.table)
            if isinstance(table, Table):
                found.add((table.name, element.name))
    return found


def columns_read_by_rule(table: Table) -> set[tuple[str, str]]:
    """The columns that the condition of a table reads."""
    made = condition(table)
    return set() if made is None else columns_read(made)


@cache
def deciding(table: Table) -> Sequence[str]:
    """The columns that the visibility rule of a table reads, sorted. Every log entry about a row has them."""
    rule = rule_of(table)
    if rule is None:
        return ()
    probe = _Asked(table)
    rule(probe, VIEWER)
    return sorted(probe.names)


class _Asked:
    """A row that records which of its columns are read."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self.names: set[str] = set()

    def __getattr__(self, name: str) -> NoReturn:
        raise AttributeError(f'expected row["{name}"]')

    def __getitem__(self, name: str) -> ColumnElement[Any]:
        self.names.add(name)
        return self._table.c[name]


OF_NOBODY = "isola:"
"""How the names begin that a transaction proves instead of a permission. No user has them, whatever a role says."""
WHOLE_LOG = f"{OF_NOBODY}whole_log"
"""What a transaction proves, instead of a permission, to read the log with the values of all rows."""


def proved(permissions: AbstractSet[str]) -> str:
    """Those of a user's permissions that the database asks for, as a transaction proves them."""
    return _proved(frozenset(permissions))


@lru_cache(1000)
def _proved(permissions: frozenset[str]) -> str:
    return " ".join(sorted(permissions & asked()))


@cache
def asked() -> frozenset[str]:
    """The permissions that the database asks for: the rules of all installed applications, and functions."""
    return frozenset({Permission.FAMILY_READ, Permission.SHARE_MANAGE}).union(
        *(asked_by(table) for table in metadata.sorted_tables)
    )


def asked_by(table: Table) -> AbstractSet[str]:
    """The permissions that the rule of a table asks for, of those that users can have."""
    names: set[str] = set()

    def record(permission: str) -> ColumnElement[bool]:
        names.add(permission)
        return _may(permission)

    if (rule := rule_of(table)) is not None:
        rule(table.c, Viewer(_USER, record))
    return {name for name in names if not name.startswith(OF_NOBODY)}


def clear_caches() -> None:
    """Clear what was derived from rules, after a change of declarations."""
    deciding.cache_clear()
    asked.cache_clear()
    _proved.cache_clear()


def refuse_circle(table: Table, refuse: Callable[[str], None]) -> None:
    """Call ``refuse`` with the reason if the rule of a table reads the table itself, also through other rules."""
    waiting, seen = [table], set[str]()
    while waiting:
        current = waiting.pop()
        made = condition(current)
        for name in _tables_read(made, current) if made is not None else ():
            if name == table.name:
                refuse(f"the rule reads the table {name} itself, which PostgreSQL refuses in a policy")
            elif name not in seen:
                seen.add(name)
                waiting.append(metadata.tables[name])


def _tables_read(expression: ColumnElement[Any], table: Table) -> AbstractSet[str]:
    """The tables that sub-selects of an expression read; the table itself only if it is read again."""
    found = set()
    for element in iterate(expression):
        if isinstance(element, FromClause) and element is not table:
            inner = getattr(element, "element", None)
            if isinstance(inner, Table):
                found.add(inner.name)
            elif isinstance(element, Table):
                found.add(element.name)
    return found
