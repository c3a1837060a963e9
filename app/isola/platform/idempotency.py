"""The first answers to mutations with an idempotency key, which transactions keep by functions of the schema ``isola``.

They expire after a day. Servers delete expired ones, a bounded number at a time. See docs/idempotency.md.
"""

from contextlib import AbstractAsyncContextManager
from functools import partial

from sqlalchemy import Boolean, Column, Index, Integer, LargeBinary, Table, Text, Uuid

from isola.database.transactions import Database
from isola.platform.background import repeating
from isola.platform.tenants import metadata
from isola.subjects.metadata import moment

LIFETIME = 24 * 60 * 60.0
"""Seconds. The functions of the database have the same figure."""
INTERVAL = 60.0
"""Seconds between two passes."""
MAX_KEY = 255
"""Characters."""
AT_ONCE = 2000
"""Answers that one statement deletes at most: none holds locks for long."""
PASSES = 100
"""Statements of a pass at most."""

first_answers = Table(
    "first_answers",
    metadata,
    # No foreign keys: each write would pay for them. Only a function writes rows.
    # Keyed BLAKE2b of the tenant, the user and the key.
    Column("digest", LargeBinary, primary_key=True),
    # Which root field of the mutation.
    Column("place", Integer, primary_key=True),
    Column("tenant_id", Uuid, nullable=False),
    Column("user_id", Uuid, nullable=False),
    # SHA-256.
    Column("request", LargeBinary, nullable=False),
    Column("permissions", Text, nullable=False),
    Column("refusal", Boolean, nullable=False),
    Column("answer", Text, nullable=False),
    moment("kept_at"),
    Index(None, "kept_at"),
)

_EXPIRED = """
WITH expired AS (
    DELETE FROM control.first_answers WHERE (digest, place) IN (
        SELECT digest, place FROM control.first_answers
        WHERE kept_at <= now() - interval '24 hours' ORDER BY kept_at LIMIT $1
    ) AND kept_at <= now() - interval '24 hours'
    RETURNING place
)
SELECT count(*) FROM expired
"""


async def forget(control: Database, most: int = AT_ONCE) -> int:
    """Delete expired answers, and return how many. Raises Unavailable."""
    deleted = 0
    for _ in range(PASSES):
        async with control.unbound() as work:
            count: int = await work.value(_EXPIRED, most)
        deleted += count
        if count < most:
            break
    return deleted


def forgetting(control: Database, interval: float = INTERVAL) -> AbstractAsyncContextManager[None]:
    """Deletes expired answers every ``interval`` seconds, as long as the context is open."""
    return repeating(partial(forget, control), interval, "expired answers to mutations cannot be deleted")
