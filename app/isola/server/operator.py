"""Carries out orders of the platform's staff: for the command ``isola operate``, and as part of a server."""

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
"""Seconds between two polls for orders."""

CONNECTIONS = 3
"""The owner's connections that this needs."""

_log = structlog.get_logger(__name__)


async def carry_out_waiting(owner: Database, strategies: Mapping[str, Strategy], progress: Progress) -> bool:
    """Carry out all waiting orders; whether all of them succeeded. Raises Unavailable."""
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
            _log.warning("orders cannot be executed", reason=refusal.message)
        except Exception:  # noqa: BLE001  otherwise later orders would never be carried out
            _log.exception("orders cannot be executed")
        await asyncio.sleep(INTERVAL)


@asynccontextmanager
async def operating(installed: Installation) -> AsyncIterator[None]:
    """Carry out orders in the background, as long as this context is entered.

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
