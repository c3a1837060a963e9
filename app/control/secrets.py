"""What all servers of an installation know and nobody has to configure. Tenant traffic cannot read it."""

from sqlalchemy import ARRAY, Column, LargeBinary, Table, Uuid, select, text

from app.binding import BindingKey
from app.control.tenants import metadata
from app.database import Transaction
from app.domain.metadata import indexed_text

secrets = Table(
    "secrets", metadata, indexed_text("name", 100, primary_key=True), Column("value", LargeBinary, nullable=False)
)
binding_keys = Table(
    "binding_key",
    metadata,
    Column("inner", LargeBinary, nullable=False),
    Column("outer", LargeBinary, nullable=False),
    # The tenants that were moved lately: whoever reads the key sees them, too.
    Column("moved", ARRAY(Uuid), nullable=False, server_default=text("'{}'")),
)


async def cursor_secret(control: Transaction) -> bytes:
    """The key that cursors are signed with, made when the database was first migrated."""
    key: bytes = await control.value("SELECT value FROM control.secrets WHERE name = 'cursors'")
    return key


async def binding_key(control: Transaction) -> BindingKey:
    """The key that transactions prove their tenant with, made when the database was first migrated."""
    rows = await control.rows(select(binding_keys))
    return BindingKey(rows[0]["inner"], rows[0]["outer"])
