"""The command that carries out what the platform's staff order, and the same as a part of a server."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from isola.commands.common import act, err
from isola.errors import Refusal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from isola.database.transactions import Database
    from isola.platform.moves import Progress
    from isola.server.installation import Installation
    from isola_strategies.base import Strategy

INTERVAL = 1.0
"""Seconds between two looks whether there is an order."""

CONNECTIONS = 3


def operate(
    *, once: Annotated[bool, typer.Option("--once", help="do what waits now, and end; 1 if any of it failed")] = False
) -> None:
    """Carry out what the platform's staff order: make tenants, move tenants. Any number of these can run at once."""
    from isola.platform.migrations import refuse_behind

    async def run(installed: "Installation") -> None:
        async with await installed.owner(CONNECTIONS) as owner:
            async with owner.unbound() as transaction:
                await refuse_behind(transaction)
            if not once:
                err.print("waiting for orders — Ctrl-C ends it")
                await _carry_out_for_ever(owner, installed.strategies, _show)
            elif not await carry_out_waiting(owner, installed.strategies, _show):
                raise typer.Exit(1)

    act(run)


def _show(step: str) -> None:
    err.print(f"  {step}", markup=False, highlight=False)


async def carry_out_waiting(owner: "Database", strategies: "Mapping[str, Strategy]", progress: "Progress") -> bool:
    """Do what waits now; whether all of it went well. Raises Unavailable."""
    from isola.platform import orders

    well = True
    while (order := await orders.carry_out(owner, strategies, progress)) is not None:
        well = well and order.state is not orders.State.FAILED
        result = f"{order.state}: {order.message}" if order.message else order.state
        progress(f"{order.kind} {order.slug}, ordered by {order.ordered_by}: {result}")
    return well


async def _carry_out_for_ever(
    owner: "Database", strategies: "Mapping[str, Strategy]", progress: "Progress"
) -> NoReturn:
    import structlog

    log = structlog.get_logger()
    while True:
        try:
            await carry_out_waiting(owner, strategies, progress)
        except Refusal as refusal:
            log.warning("orders cannot be carried out now", reason=refusal.message)
        except Exception:
            # Nobody would carry out what is ordered later.
            log.exception("orders cannot be carried out now")
        await asyncio.sleep(INTERVAL)


@asynccontextmanager
async def operating(installed: "Installation") -> AsyncIterator[None]:
    """Carry orders out in the background, as long as this context is entered.

    For servers on the embedded PostgreSQL, which have the owner's address; on any other database this does nothing.
    """
    if installed.settings.database_url is not None or installed.addresses.owner is None:
        yield
        return
    async with await installed.owner(CONNECTIONS) as owner:
        task = asyncio.create_task(_carry_out_for_ever(owner, installed.strategies, lambda _: None))
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
