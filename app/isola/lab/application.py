"""Extra tables of a larger application, which make a home of 40 tables from one of 8.

Measurements do not read them. But they enlarge the system catalogue and the backends' caches of it, and they add
work when a home is created, migrated, vacuumed or dropped.
"""

from collections.abc import Sequence

from sqlalchemy import BigInteger, Column, ForeignKey, Index, MetaData, Table, Text, Uuid
from sqlalchemy.schema import CreateIndex, CreateTable

from isola.installed import metadata
from isola.subjects.metadata import DIALECT, identifier, moment
from isola_strategies.base import Home, Strategy


def further(count: int) -> Sequence[Table]:
    """``count`` tables without a tenant column, like the product's: a key, a reference, and two indexes."""
    declared = MetaData(naming_convention=metadata.naming_convention)
    for table in metadata.sorted_tables:
        table.to_metadata(declared)
    return [
        Table(
            f"further_{number:03}",
            declared,
            identifier(),
            Column("resource_id", Uuid, ForeignKey("resources.id", ondelete="CASCADE"), nullable=False),
            Column("name", Text, nullable=False),
            Column("amount", BigInteger, nullable=False),
            moment("created_at"),
            Index(None, "resource_id", "id"),
            Index(None, "created_at", "id"),
        )
        for number in range(1, count + 1)
    ]


def making(strategy: Strategy, home: Home, tables: Sequence[Table]) -> str:
    """Statements that create the extra tables in a home, with the strategy's columns, policies and grants."""
    physical = MetaData(naming_convention=metadata.naming_convention)
    for table in metadata.sorted_tables:
        strategy.shape(table, physical)
    statements = [f"SET LOCAL search_path TO {home.schema}"]
    for table in tables:
        shaped = strategy.shape(table, physical)
        statements.append(str(CreateTable(shaped).compile(dialect=DIALECT)))
        indexes = sorted(shaped.indexes, key=lambda index: str(index.name))
        statements += [str(CreateIndex(index).compile(dialect=DIALECT)) for index in indexes]
        statements += strategy.guard(table.name)
    return ";\n".join([*statements, *strategy.admit(home, tables)])
