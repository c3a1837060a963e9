"""Takes shares that have ended by their date out of the indexes by which partners read.

A share ends at its moment, whether or not a server has come by: reads compare ``expires_at`` with the clock. But each
share that has ended and is still in the index costs every read an entry. So every server marks them as lapsed, a
bounded number at a time. Sharing again takes the mark away.
"""

from contextlib import AbstractAsyncContextManager
from functools import partial

from isola.database.transactions import Database
from isola.platform.background import repeating

INTERVAL = 5.0
"""Seconds between two passes."""
AT_ONCE = 2000
"""Shares that a pass marks at most: none holds locks for long."""

# Other servers pass over what one of them is marking. The array keeps the look-up by id on the primary key.
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
    """Mark shares that have ended by their date, and return how many. Raises Unavailable."""
    async with control.unbound() as work:
        marked: int = await work.value(LAPSE, most)
    return marked


def lapsing(control: Database, interval: float = INTERVAL) -> AbstractAsyncContextManager[None]:
    """Marks every ``interval`` seconds what has ended, as long as the context is open."""
    return repeating(partial(lapse, control), interval, "expired shares cannot be marked")
