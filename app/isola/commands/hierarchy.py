"""The command for the tenant hierarchy."""

from typing import TYPE_CHECKING, Annotated

import typer

from isola.commands.common import act

if TYPE_CHECKING:
    from isola.server.installation import Installation


def set_parent(
    slug: Annotated[str, typer.Argument(help="the tenant's slug")],
    *,
    under: Annotated[str | None, typer.Option(help="the slug of the new parent")] = None,
    top: Annotated[bool, typer.Option("--top", help="without a parent")] = False,
) -> None:
    """Move a tenant and all its descendants below another tenant, or to the top."""
    from isola.platform import hierarchy

    if (under is None) is not top:
        raise typer.BadParameter("expected either --under or --top")

    async def run(installed: "Installation") -> None:
        async with await installed.control() as control:
            await hierarchy.place(control, slug, under=under)
        typer.echo(f"tenant {slug} is at the top" if under is None else f"tenant {slug} is below {under}")

    act(run)
