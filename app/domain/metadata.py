"""The declared shape of the data. Every table here is written as if there were one customer only.

How a table lies in the database is decided elsewhere, from this declaration.
"""

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
