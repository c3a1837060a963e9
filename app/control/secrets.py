"""What all servers of an installation know and nobody has to configure. Tenant traffic cannot read it."""

from sqlalchemy import Column, LargeBinary, Table, Text

from app.control.tenants import metadata
from app.database import Transaction

secrets = Table(
    "secrets", metadata, Column("name", Text, primary_key=True), Column("value", LargeBinary, nullable=False)
)


async def cursor_secret(control: Transaction) -> bytes:
    """The key that cursors are signed with, made when the database was first migrated."""
    key: bytes = await control.value("SELECT value FROM control.secrets WHERE name = 'cursors'")
    return key
