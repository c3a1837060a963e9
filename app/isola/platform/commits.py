"""Waits for transactions that are about to commit: see isola.audit_commit in migrations/control/0001_audit.sql."""

import asyncio
import time
from collections.abc import Sequence

from isola.database.transactions import Database

_COMMITTING = "SELECT virtualtransaction FROM control.committing()"


async def settled(database: Database, patience: float) -> bool:
    """Wait until all transactions that are about to commit now have ended; False if ``patience`` seconds are exceeded.

    Reads after this see everything committed before the call.
    """
    return not await remaining(database, _COMMITTING, [], patience)


async def remaining(database: Database, question: str, values: Sequence[str], patience: float) -> set[str]:
    """Wait up to ``patience`` seconds for the transactions that a query returns now; those that remain."""
    end = time.monotonic() + patience
    async with database.unbound() as transaction:
        running = set(await transaction.texts(question, *values))
    while running and time.monotonic() < end:
        await asyncio.sleep(0.02)
        async with database.unbound() as transaction:
            running &= set(await transaction.texts(question, *values))
    return running
