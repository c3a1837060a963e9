"""Rows for an application's tables: generated once for each number of rows, then copied to tenants by SQL."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import asyncpg
from sqlalchemy import Table

from isola import exact_json
from isola.errors import OperatorError
from isola.installed import APPLICATIONS
from isola.lab.population import Size
from isola.subjects.applications import BUILT_IN
from isola.subjects.declaration import Declaration, Member, Reference
from isola.subjects.metadata import DIALECT, quoted
from isola.subjects.rows import Rows, generate, referred
from isola.subjects.subject import Subject
from isola.subjects.table import pair_columns, pairs_table
from isola.subjects.types import JSON
from isola_strategies.base import Home

AT_ONCE = "SET CONSTRAINTS ALL IMMEDIATE"
AT_THE_END = "SET CONSTRAINTS ALL DEFERRED"
"""For rows that refer to each other in a circle."""


class Declared:
    """The tables that an application declares, and those that they reference; empty for the built-in application."""

    def __init__(self, application: str) -> None:
        subjects = [] if application == BUILT_IN else list(referred(APPLICATIONS[application].subjects))
        self._subjects = [each for each in subjects if each.application != BUILT_IN]
        self.shipped = {each.declaration.plural for each in subjects if each.application == BUILT_IN}
        """The tables of nouns that ship and are referred to."""

    @property
    def tables(self) -> Sequence[Table]:
        return [staged.table for staged in self._staged]

    @property
    def _staged(self) -> Sequence["_Staged"]:
        """Join tables come last: the rows that they reference must exist."""
        found = [staged for subject in self._subjects for staged in _staged(subject)]
        return sorted(found, key=lambda staged: staged.key is None)

    def rows(self, rows: int, others: Mapping[str, int], seed: int) -> Mapping[str, Rows]:
        """Rows of a tenant with ``rows`` rows of each subject; ``others`` are its row counts of built-in nouns.

        Raises OperatorError as ``generate``.
        """
        return generate(self._subjects, {**others, **{each.declaration.name: rows for each in self._subjects}}, seed)

    async def stage(self, connection: asyncpg.Connection, generated: Mapping[int, Mapping[str, Rows]]) -> None:
        """Copy the rows, keyed by the tenant's number of rows, into staging tables for ``inserts``."""
        for staged in self._staged:
            await connection.execute(staged.create)
            records = [(number, *record) for number, by_name in generated.items() for record in staged.records(by_name)]
            await connection.copy_records_to_table(staged.name, schema_name="lab", records=records)
            await connection.execute(f"ANALYZE lab.{staged.name}")

    def inserts(self, home: Home, discriminator: str | None) -> Sequence[str]:
        """Statements that fill a home."""
        if not self._subjects:
            return []
        return [AT_THE_END, *(staged.insert(home, discriminator) for staged in self._staged), AT_ONCE]

    async def keys(
        self, connection: asyncpg.Connection, generated: Mapping[int, Mapping[str, Rows]], most: int
    ) -> Mapping[int, Mapping[str, Sequence[UUID]]]:
        """Some ids of each subject that has rows, by resident and subject name."""
        found: dict[int, dict[str, Sequence[UUID]]] = {}
        for subject in self._subjects:
            name = subject.declaration.name
            counts = [(number, len(by_name[name].rows)) for number, by_name in generated.items()]
            rows = await connection.fetch(
                "SELECT number, array_agg(lab.id($1, number, n) ORDER BY n) FROM lab.residents"
                " JOIN unnest($2::int[], $3::int[]) AS made (size, count) ON size = rows"
                " CROSS JOIN LATERAL (SELECT DISTINCT 1 + (k * count - 1) / $4 AS n"
                " FROM generate_series(1, least($4, count)) k) AS chosen GROUP BY number",
                name,
                [size for size, _ in counts],
                [count for _, count in counts],
                most,
            )
            for number, keys in rows:
                found.setdefault(number, {})[name] = keys
        return found


def counted(size: Size, others: Mapping[str, int], seed: int) -> Mapping[str, int]:
    """How many rows a tenant of average size has of each subject and each join table."""
    found: dict[str, int] = {}
    for rows in Declared(size.application).rows(size.rows, others, seed).values():
        found[rows.subject.declaration.plural] = len(rows.rows)
        for member in rows.subject.declaration.pairs:
            found[pairs_table(rows.subject.declaration, member).name] = len(rows.pairs[member.name])
    return found


def refused(error: asyncpg.IntegrityConstraintViolationError) -> OperatorError:
    """The database's error about a generated row, without the row's values."""
    rule = error.constraint_name or error.column_name or type(error).__name__
    return OperatorError(
        f"{error.table_name}: generated rows break the rule {rule}: expected the subject to have samples that keep it"
    )


@dataclass(frozen=True, slots=True)
class _Staged:
    """A staging table of the lab with the rows of one table. Keys are not stored: they are computed from numbers.

    ``types`` are the columns' SQL types; ``kinds`` names what the numbers in some columns count, and ``key`` does so
    for the rows themselves. No column of an application has a name with two underscores.
    """

    table: Table
    types: Mapping[str, str]
    kinds: Mapping[str, str]
    key: str | None
    records: Callable[[Mapping[str, Rows]], Iterable[tuple[Any, ...]]]

    @property
    def name(self) -> str:
        return f"of_{self.table.name}"

    @property
    def create(self) -> str:
        columns = [f"{quoted(name)} {type_}" for name, type_ in self.types.items()]
        return f"CREATE UNLOGGED TABLE lab.{self.name} ({', '.join(['of__rows int', 'row__n int', *columns])})"

    def insert(self, home: Home, discriminator: str | None) -> str:
        values: dict[str, str] = {discriminator: "r.tenant"} if discriminator else {}
        if self.key is not None:
            values["id"] = f"lab.id('{self.key}', r.number, s.row__n)"
        for name in self.types:
            kind = self.kinds.get(name)
            values[name] = f"lab.id('{kind}', r.number, s.{quoted(name)})" if kind else f"s.{quoted(name)}"
        values |= {name: "lab.moment(s.row__n)" for name in Declaration.TIMES if name in self.table.c}
        return (
            f"INSERT INTO {home.schema}.{self.table.name} ({', '.join(map(quoted, values))})"
            f" SELECT {', '.join(values.values())} FROM lab.residents r JOIN lab.{self.name} s ON s.of__rows = r.rows"
            f" WHERE r.home = '{home.schema}' ORDER BY s.row__n, r.number"
        )


def _staged(subject: type[Subject]) -> Iterator[_Staged]:
    declaration = subject.declaration
    columns, table = declaration.columns, declaration.subject.table
    kinds = {each.column: each.target.declaration.name for each in columns if isinstance(each.declared, Reference)}
    types = {
        each.column: "int" if each.column in kinds else table.c[each.column].type.compile(DIALECT) for each in columns
    }

    def own(generated: Mapping[str, Rows]) -> Iterator[tuple[Any, ...]]:
        for number, row in enumerate(generated[declaration.name].rows, start=1):
            yield number, *(_stored(each, row[each.column]) for each in columns)

    yield _Staged(table, types, kinds, declaration.name, own)
    for member in declaration.pairs:
        yield _staged_pairs(declaration, member)


def _staged_pairs(declaration: Declaration, member: Member) -> _Staged:
    near, far = pair_columns(declaration, member)

    def pairs(generated: Mapping[str, Rows]) -> Iterator[tuple[Any, ...]]:
        for number, pair in enumerate(generated[declaration.name].pairs[member.name], start=1):
            yield number, *pair

    kinds = {near: declaration.name, far: member.target.declaration.name}
    return _Staged(pairs_table(declaration, member), dict.fromkeys(kinds, "int"), kinds, None, pairs)


def _stored(member: Member, value: Any) -> Any:
    """A value in the form that the driver's COPY expects."""
    if value is not None and member.annotation.type == JSON:
        return exact_json.dumps(value)
    return value
