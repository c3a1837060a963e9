"""Commands for the platform itself."""

import json
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from isola.commands.audit import report_verdict
from isola.commands.common import KnownOption, act
from isola.errors import OperatorError

if TYPE_CHECKING:
    from isola.server.installation import Installation

platform_app = typer.Typer(
    no_args_is_help=True, help="Show and verify the platform's log; configure proofs of bindings and their key."
)

Moment = Annotated[
    datetime | None,
    typer.Option(
        formats=["%Y-%m-%dT%H:%M:%S%z", "%Y-%m-%dT%H:%M%z", "%Y-%m-%d"],
        help="a moment such as 2026-01-31T12:00Z, or a day, which begins at 00:00 UTC",
    ),
]


@platform_app.command()
def log(
    *,
    actor: Annotated[str | None, typer.Option(help="staff:<subject> or operator:<name>")] = None,
    action: Annotated[str | None, typer.Option(help="an action, such as tenant:suspend")] = None,
    about: Annotated[str | None, typer.Option("--object", help="tenant:<slug>, plan:<name> or platform:<what>")] = None,
    since: Moment = None,
    until: Moment = None,
    first: Annotated[int, typer.Option(min=1, max=10_000, help="the number of entries")] = 20,
) -> None:
    """Print the platform's log in JSON Lines, newest entries first."""
    from datetime import UTC

    from isola.platform import platform_log

    async def run(installed: "Installation") -> None:
        async with await installed.control() as control:
            entries = await platform_log.page(
                control,
                actor=actor,
                action=action,
                object=about,
                since=since and (since if since.tzinfo else since.replace(tzinfo=UTC)),
                until=until and (until if until.tzinfo else until.replace(tzinfo=UTC)),
                first=first,
            )
        for entry in entries:
            record = {
                "at": entry.at.isoformat(),
                "actor": entry.actor,
                "action": entry.action,
                "object": entry.object,
                "old": entry.old,
                "new": entry.new,
                "request": entry.request,
                "id": str(entry.id),
            }
            typer.echo(json.dumps(record))

    act(run, looking=True)


@platform_app.command()
def proofs(
    *,
    demand: Annotated[
        bool | None, typer.Option("--demand/--believe", help="change the setting; by default print it")
    ] = None,
) -> None:
    """Print or change whether transactions must prove their tenant: see docs/decisions/0008."""
    from isola.platform import platform_log, proofs

    async def run(installed: "Installation") -> None:
        async with await installed.owner() as owner:
            if demand is not None:
                await (proofs.demand if demand else proofs.believe)(owner, platform_log.operator())
            async with owner.unbound() as work:
                demanded = await proofs.demanded(work)
        typer.echo("proofs are demanded" if demanded else f"proofs are not demanded: {proofs.DANGER}")

    act(run, looking=demand is None)


@platform_app.command()
def rotate_key() -> None:
    """Replace the key with which transactions prove their tenant, while servers run: see docs/decisions/0008."""
    from isola.platform import platform_log, secrets

    async def run(installed: "Installation") -> None:
        async with await installed.owner() as owner:
            await secrets.rotate_binding_key(owner, platform_log.operator())
        typer.echo("the binding key is replaced")

    act(run)


@platform_app.command()
def verify(known: KnownOption = None) -> None:
    """Check that no entry of the platform's log was changed, removed, put in between or cut off. See isola audit."""
    from isola.platform import audit

    async def run(installed: "Installation") -> None:
        async with await installed.control() as control:
            verdict = await audit.verify_platform(control, known)
        report_verdict(verdict)
        if verdict.broken:
            raise OperatorError(f"the log of the platform is broken: {verdict.broken}")
        typer.echo("OK")

    act(run, looking=True)
