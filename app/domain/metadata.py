"""The declared shape of the data. Every table here is written as if there were one customer only.

How a table lies in the database is decided elsewhere, from this declaration.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Column, DateTime, MetaData, Uuid, text

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
    }
)


def identifier() -> Column[object]:
    """A UUIDv7 key that the database makes, on PostgreSQL 15 too."""
    return Column("id", Uuid, primary_key=True, server_default=text("isola.uuid_v7()"))


def moment(name: str) -> Column[object]:
    """A time that is the transaction's own unless given."""
    return Column(name, DateTime(timezone=True), nullable=False, server_default=text("now()"))


@dataclass(frozen=True, slots=True)
class Audited:
    """What the log of changes calls a table's rows: see app.domain.audit. In a table's ``info`` as ``audited``.

    ``key`` maps each column of the key to what goes before its value. ``left_out`` are columns whose values are kept
    out of the log.
    """

    subject: str
    key: Mapping[str, str]
    left_out: Sequence[str] = ()
