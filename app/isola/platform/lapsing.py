"""Removes expired shares from the indexes that partners read by.

A share expires at its date even before a server has marked it: reads compare ``expires_at`` with the clock. But each
expired share that is still in the index costs every read an entry. So every server marks them as lapsed, a bounded
number at a time. Sharing again removes the mark.
"""

from contextlib import AbstractAsyncContextManager
from functools import partial

from isola.database.transactions import Database
from isola.platform.background import repeating

INTERVAL = 5.0
"""Seconds between two passes."""
AT_ONCE = 2000
"""Shares that a pass marks at most: none holds locks for long."""

# SKIP LOCKED: servers skip the rows that another is marking. The array keeps the look-up by id on the primary key.
LAPSE = """
WITH lapsed AS (
    UPDATE control.shares SET lapsed = true
    WHERE id = ANY (ARRAY(
        SELECT id FROM control.shares
        WHERE revoked_at IS NULL AND NOT lapsed AND expires_at <= statement_timestamp()
        ORDER BY expires_at LIMIT $1 FOR UPDATE SKIP LOCKED
    ))
    RETURNING id
)
SELECT count(*) FROM lapsed
"""


async def lapse(control: Database, most: int = AT_ONCE) -> int:
    """Mark expired shares, and return how many. Raises Unavailable."""
    async with control.unbound() as work:
        marked: int = await work.value(LAPSE, most)
    return marked


def lapsing(control: Database, interval: float = INTERVAL) -> AbstractAsyncContextManager[None]:
    """Marks expired shares every ``interval`` seconds, as long as the context is open."""
    return repeating(partial(lapse, control), interval, "expired shares cannot be marked")
