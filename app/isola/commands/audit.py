"""Commands for the audit logs."""

from typing import TYPE_CHECKING

import typer

from isola.commands.common import KnownOption, TenantOption, act
from isola.errors import OperatorError

if TYPE_CHECKING:
    from isola.platform.audit import Verdict
    from isola.server.installation import Installation


def report_verdict(verdict: "Verdict") -> None:
    """Print the result of a verification."""
    waiting = f"; {verdict.unsealed} of them not sealed yet" if verdict.unsealed else ""
    typer.echo(f"{verdict.entries} entries checked, up to {verdict.head or 'the beginning'}{waiting}")


audit_app = typer.Typer(no_args_is_help=True, help="Verify and seal the audit logs.")


@audit_app.callback()
def about() -> None:
    """Verify and seal the audit logs."""


@audit_app.command()
def verify(tenant: TenantOption, known: KnownOption = None) -> None:
    """Check that no entry of a tenant's log was changed, removed, put in between or cut off.

    Ends with 1 and the first that was. The hash that is printed stands for all that is sealed: keep it elsewhere and
    pass it as --known to a later run, which then notices, too, if all of the log was written anew or cut off.
    """
    from isola.platform import audit, provisioning

    async def run(installed: "Installation") -> None:
        async with await installed.control() as control, await installed.tenants() as tenants:
            verdict = await audit.verify(control, tenants, await provisioning.named(control, tenant), known)
        report_verdict(verdict)
        if verdict.broken:
            raise OperatorError(f"the log of {tenant} is broken: {verdict.broken}")
        typer.echo("OK")

    act(run, looking=True)


@audit_app.command()
def seal() -> None:
    """Number and chain the committed entries. A running server does so itself, ten times a second."""
    from isola.platform import sealing

    async def run(installed: "Installation") -> None:
        async with await installed.control() as control:
            total = 0
            while sealed := await sealing.seal(control):
                total += sealed
            behind = await sealing.lag(control)
        typer.echo(f"{total} entries sealed; {behind.entries} left")

    act(run)
