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
    no_args_is_help=True, help="See what was done to the platform; decide about proofs and their key."
)

Moment = Annotated[datetime | None, typer.Option(formats=["%Y-%m-%dT%H:%M:%S%z", "%Y-%m-%dT%H:%M%z", "%Y-%m-%d"])]


@platform_app.command()
def log(
    *,
    actor: Annotated[str | None, typer.Option(help="staff:<subject> or operator:<name>")] = None,
    action: Annotated[str | None, typer.Option(help="such as tenant:suspend")] = None,
    about: Annotated[str | None, typer.Option("--object", help="tenant:<slug>, plan:<name> or platform:<what>")] = None,
    since: Moment = None,
    until: Moment = None,
    first: Annotated[int, typer.Option(min=1, max=10_000, help="how many")] = 20,
) -> None:
    """Show what was done, newest first, each entry as an object of JSON on a line of its own."""
    from datetime import UTC

    from isola.platform import platform_log

    async def run(installed: "Installation") -> None:
        async with await installed.control() as control:
            found = await platform_log.page(
                control,
                actor=actor,
                action=action,
                object=about,
                since=since and (since if since.tzinfo else since.replace(tzinfo=UTC)),
                until=until and (until if until.tzinfo else until.replace(tzinfo=UTC)),
                first=first,
            )
        for entry in found:
            told = {
                "at": entry.at.isoformat(),
                "actor": entry.actor,
                "action": entry.action,
                "object": entry.object,
                "old": entry.old,
                "new": entry.new,
                "request": entry.request,
                "id": str(entry.id),
            }
            typer.echo(json.dumps(told))

    act(run, looking=True)


@platform_app.command()
def proofs(
    *,
    demand: Annotated[bool | None, typer.Option("--demand/--believe", help="decide it; unless given, say it")] = None,
) -> None:
    """Say or decide whether transactions have to prove in which tenant they are: docs/decisions/0008."""
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
    """Replace the key with which transactions prove their tenant. Servers that run go on: docs/decisions/0008."""
    from isola.platform import platform_log, secrets

    async def run(installed: "Installation") -> None:
        async with await installed.owner() as owner:
            await secrets.rotate_binding_key(owner, platform_log.operator())
        typer.echo("the binding key is another one")

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
