"""The declared tables. They are tenant-blind: each is written as if there were only one tenant.

The strategies derive the physical tables from these declarations.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Protocol, TypeAlias
from uuid import UUID

from sqlalchemy import (
    CheckConstraint,
    Column,
    ColumnElement,
    DateTime,
    ForeignKeyConstraint,
    MetaData,
    Table,
    Text,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.dialects.postgresql.base import PGDialect
from sqlalchemy.event import listens_for

MAX_IDENTIFIER = 63
"""The length to which PostgreSQL truncates names."""


def fitting(name: str) -> str:
    """A name that PostgreSQL does not truncate: a longer one becomes its beginning with a digest of the whole name."""
    if len(name) <= MAX_IDENTIFIER:
        return name
    digest = sha256(name.encode()).hexdigest()[:8]
    return f"{name[: MAX_IDENTIFIER - len(digest) - 1]}_{digest}"


def _by_columns(kind: str) -> Callable[[Any, Table], str]:
    def name(item: Any, table: Table) -> str:
        columns = [each.parent for each in item.elements] if isinstance(item, ForeignKeyConstraint) else item.columns
        return fitting("_".join([kind, table.name, *(each.name for each in columns)]))

    return name


def _by_name(check: Any, table: Table) -> str:
    return fitting(f"ck_{table.name}_{check.name}")


metadata = MetaData(
    naming_convention={
        "pk": "%(pk_columns)s",
        "fk": "%(fk_columns)s",
        "uq": "%(uq_columns)s",
        "ix": "%(ix_columns)s",
        "ck": "%(ck_constraint_name)s",
        **{f"{kind}_columns": _by_columns(kind) for kind in ("pk", "fk", "uq", "ix")},
        "ck_constraint_name": _by_name,
    }
)

DIALECT = PGDialect()  # type: ignore[no-untyped-call]  # SQLAlchemy's dialects have no annotations here
quoted = DIALECT.identifier_preparer.quote
"""A name, quoted for SQL if needed."""

MAX_DOCUMENT_BYTES = 4 * 1024 * 1024


def verbatim(sql: str) -> str:
    """SQL escaped for SQLAlchemy's ``text``, so that nothing in it is parsed as a parameter."""
    return _PARAMETER.sub(r"\\:", sql)


_PARAMETER = re.compile(r"(?<![:\w\\]):(?=\w+(?!:))")


def identifier() -> Column[object]:
    """A UUIDv7 key that the database generates, also on PostgreSQL 15."""
    return Column("id", Uuid, primary_key=True, server_default=text("isola.uuid_v7()"))


def moment(
    name: str, *, nullable: bool = False, default: str | None = "now()", primary_key: bool = False
) -> Column[object]:
    """A time that ISO 8601 can express: neither infinite, nor before year 1, nor after 9999.

    ``default`` is an SQL expression; if not given, it is the start of the transaction.
    """
    column: Column[object] = Column(
        name,
        DateTime(timezone=True),
        nullable=nullable,
        primary_key=primary_key,
        server_default=None if default is None else text(verbatim(default)),
    )
    in_sql = quoted(name)
    return _checked(column, "range", f"{in_sql} >= '0001-01-01 00:00:00+00' AND {in_sql} < '10000-01-01 00:00:00+00'")


def indexed_text(
    name: str, most: int, *, least: int = 0, nullable: bool = False, primary_key: bool = False
) -> Column[object]:
    """A text of ``least`` to ``most`` characters. A text in an index or a key needs such a limit.

    The column's ``info`` has the limit as ``longest``.
    """
    column: Column[object] = Column(name, Text, nullable=nullable, primary_key=primary_key, info={"longest": most})
    return _checked(column, "length", f"length({quoted(name)}) BETWEEN {least} AND {most}")


def json_document(
    name: str, default: str | None, *, nullable: bool = False, most: int = MAX_DOCUMENT_BYTES
) -> Column[object]:
    """A JSON document of at most ``most`` bytes in PostgreSQL's text form.

    The text of a number can be far longer than its stored bytes: so the stored size limits the length, too. Reads rely
    on that: see isola.query.budget.
    """
    column: Column[object] = Column(
        name,
        JSONB(none_as_null=True),
        nullable=nullable,
        server_default=None if default is None else text(verbatim(default)),
    )
    in_sql = quoted(name)
    return _checked(
        column,
        "size",
        f"octet_length({in_sql}::text) <= least({most}, 10 * pg_column_size({in_sql} #> '{{}}') + 100)",
    )


def _checked(column: Column[object], rule: str, condition: str) -> Column[object]:
    """A column that adds a check to its table. A check on the column itself would be lost in the physical tables."""

    @listens_for(column, "after_parent_attach")
    def attach(_: object, table: Table) -> None:
        table.append_constraint(CheckConstraint(condition, name=f"{column.name}_{rule}"))

    return column


@dataclass(frozen=True, slots=True)
class Audited:
    """The audit log's name of a table's rows: see isola.subjects.audit. In a table's ``info`` as ``audited``.

    ``key`` maps each column of the key to the prefix of its value. ``left_out`` are columns whose values the log omits.
    """

    subject: str
    key: Mapping[str, str]
    left_out: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Counted:
    """The quota that a table's rows count towards. In a table's ``info`` as ``counted``.

    If only some rows count, ``where`` is the condition in SQL, and ``columns`` are those that it reads.
    """

    quota: str
    where: str | None = None
    columns: Sequence[str] = ()


class Row(Protocol):
    """The columns of a row, by name: of a scanned table, or of a row's values in the audit log."""

    def __getitem__(self, name: str, /) -> ColumnElement[Any]: ...


@dataclass(frozen=True, slots=True)
class Viewer:
    """The user who reads, in SQL: their id, and whether they have a permission."""

    id: ColumnElement[UUID]
    may: Callable[[str], ColumnElement[bool]]


Visible: TypeAlias = Callable[[Row, Viewer], ColumnElement[bool]]
"""Whether a user may see a row. In a table's ``info`` as ``visible``: see isola.subjects.visibility."""
