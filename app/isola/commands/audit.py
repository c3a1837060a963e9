"""Commands about the logs of what was done."""

from typing import TYPE_CHECKING

import typer

from isola.commands.common import KnownOption, TenantOption, act
from isola.errors import OperatorError

if TYPE_CHECKING:
    from isola.server.installation import Installation

audit_app = typer.Typer(no_args_is_help=True, help="Verify the logs of what was done.")


@audit_app.callback()
def about() -> None:
    """Verify the logs of what was done."""


@audit_app.command()
def verify(tenant: TenantOption, known: KnownOption = None) -> None:
    """Check that no entry of a tenant's log was changed, removed, put in between or cut off.

    Ends with 1 and the first that was. The hash of the last entry stands for the whole log: keep it elsewhere and pass
    it as --known to a later run, which then notices, too, if all of the log was written anew or cut off with its head.
    """
    from isola.platform import audit, provisioning

    async def run(installed: "Installation") -> None:
        async with await installed.control() as control, await installed.tenants() as tenants:
            verdict = await audit.verify(control, tenants, await provisioning.named(control, tenant), known)
        typer.echo(f"{verdict.entries} entries checked, up to {verdict.head or 'the beginning'}")
        if verdict.broken:
            raise OperatorError(f"the log of {tenant} is broken: {verdict.broken}")
        typer.echo("OK")

    act(run, looking=True)
