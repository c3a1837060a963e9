"""Commands for the timeline."""

from typing import TYPE_CHECKING

import typer

from isola.commands.common import TenantOption, act
from isola.errors import OperatorError

if TYPE_CHECKING:
    from isola.server.installation import Installation

SHOWN = 20

timeline_app = typer.Typer(no_args_is_help=True, help="Verify the signatures of spans.")


@timeline_app.callback()
def about() -> None:
    """Verify the signatures of spans."""


@timeline_app.command()
def verify(tenant: TenantOption) -> None:
    """Verify all signed spans of a tenant, and store which are VERIFIED and which FAILED.

    Ends with 1 and the ids of the first that failed. A running server does so by itself, once an hour.
    """
    from isola.platform import provisioning, span_verification

    async def run(installed: "Installation") -> None:
        async with await installed.control() as control, await installed.tenants() as tenants:
            found = await span_verification.verify(tenants, await provisioning.named(control, tenant))
        typer.echo(f"{found.spans} signed spans: {found.verified} verified, {len(found.failed)} failed")
        for key in found.failed[:SHOWN]:
            typer.echo(f"  spn_{key}")
        if found.failed:
            raise OperatorError(f"{tenant}: {len(found.failed)} of the signed spans are not as they were signed")
        typer.echo("OK")

    act(run)
