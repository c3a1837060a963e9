"""The command that executes orders of the platform's staff."""

from typing import TYPE_CHECKING, Annotated

import typer

from isola.commands.common import act, err

if TYPE_CHECKING:
    from isola.server.installation import Installation


def operate(
    *,
    once: Annotated[
        bool, typer.Option("--once", help="execute the waiting orders and exit; with status 1 if any fails")
    ] = False,
) -> None:
    """Execute orders of the platform's staff: create and move tenants. Several processes can run at the same time."""
    from isola.platform.migrations import refuse_behind
    from isola.server import operator

    async def run(installed: "Installation") -> None:
        async with await installed.owner(operator.CONNECTIONS) as owner:
            async with owner.unbound() as transaction:
                await refuse_behind(transaction)
            if not once:
                err.print("waiting for orders — press Ctrl-C to stop")
                await operator.carry_out_for_ever(owner, installed.strategies, _show)
            elif not await operator.carry_out_waiting(owner, installed.strategies, _show):
                raise typer.Exit(1)

    act(run)


def _show(step: str) -> None:
    err.print(f"  {step}", markup=False, highlight=False)
