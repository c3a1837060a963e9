"""What all servers of an installation know and nobody has to configure. Tenant traffic cannot read it."""

import asyncio

from sqlalchemy import ARRAY, Column, LargeBinary, Table, Uuid, select, text

from isola.database.binding import BindingKey
from isola.database.transactions import Database, Transaction
from isola.errors import Unavailable
from isola.platform.platform_log import Action, Author, note
from isola.platform.tenants import metadata
from isola.subjects.metadata import indexed_text

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

# Who is in a tenant has read the key, and keeps a lock for that. While somebody waits for theirs to end, nobody else
# comes in, so it is not waited for long.
_LOCK = "SET LOCAL lock_timeout TO '500ms'; LOCK TABLE control.binding_key IN ACCESS EXCLUSIVE MODE"
_ATTEMPTS, _PAUSE = 60, 1.0
# Made by the database, so that it is neither sent nor logged. Two random UUIDs hold 244 random bits.
_REPLACE = """
UPDATE control.binding_key SET
    "inner" = uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()),
    "outer" = uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid())
"""


async def cursor_secret(control: Transaction) -> bytes:
    """The key that cursors are signed with, made when the database was first migrated."""
    key: bytes = await control.value("SELECT value FROM control.secrets WHERE name = 'cursors'")
    return key


async def binding_key(control: Transaction) -> BindingKey:
    """The key that transactions prove their tenant with, made when the database was first migrated."""
    rows = await control.rows(select(binding_keys))
    return BindingKey(rows[0]["inner"], rows[0]["outer"])


async def rotate_binding_key(owner: Database, by: Author) -> None:
    """Replace the key that transactions prove their tenant with. Servers read the new one by themselves.

    No transaction is in a tenant while it is replaced, so none is cut off. Raises Unavailable where some are so long
    that there is never a moment without one.
    """
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            async with owner.unbound() as transaction:
                await transaction.script(_LOCK)
                await transaction.script(_REPLACE)
                await note(transaction, by.actor, Action.BINDING_KEY_ROTATE, "platform:binding_key", request=by.request)
        except Unavailable:
            if attempt == _ATTEMPTS:
                raise
            await asyncio.sleep(_PAUSE)
        else:
            return
