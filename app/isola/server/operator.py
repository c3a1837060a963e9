"""Carries out what the platform's staff order: for the command ``isola operate``, and as a part of a server."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import NoReturn

import structlog

from isola.database.transactions import Database
from isola.errors import Refusal
from isola.platform import orders
from isola.platform.moves import Progress
from isola.server.installation import Installation
from isola_strategies.base import Strategy

INTERVAL = 1.0
"""Seconds between two looks whether there is an order."""

CONNECTIONS = 3
"""That the owner has for it."""

_log = structlog.get_logger(__name__)


async def carry_out_waiting(owner: Database, strategies: Mapping[str, Strategy], progress: Progress) -> bool:
    """Do what waits now; whether all of it went well. Raises Unavailable."""
    well = True
    while (order := await orders.carry_out(owner, strategies, progress)) is not None:
        well = well and order.state is not orders.State.FAILED
        result = f"{order.state}: {order.message}" if order.message else order.state
        progress(f"{order.kind} {order.slug}, ordered by {order.ordered_by}: {result}")
    return well


async def carry_out_for_ever(owner: Database, strategies: Mapping[str, Strategy], progress: Progress) -> NoReturn:
    while True:
        try:
            await carry_out_waiting(owner, strategies, progress)
        except Refusal as refusal:
            _log.warning("orders cannot be carried out now", reason=refusal.message)
        except Exception:  # noqa: BLE001  or nobody would carry out what is ordered later
            _log.exception("orders cannot be carried out now")
        await asyncio.sleep(INTERVAL)


@asynccontextmanager
async def operating(installed: Installation) -> AsyncIterator[None]:
    """Carry orders out in the background, as long as this context is entered.

    For servers on the embedded PostgreSQL, which have the owner's address; on any other database this does nothing.
    """
    if installed.settings.database_url is not None or installed.addresses.owner is None:
        yield
        return
    async with await installed.owner(CONNECTIONS) as owner:
        task = asyncio.create_task(carry_out_for_ever(owner, installed.strategies, lambda _: None))
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
