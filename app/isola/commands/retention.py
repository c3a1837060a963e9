"""Commands for what plans keep for a time."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

import typer

from isola.commands.common import act

if TYPE_CHECKING:
    from isola.server.installation import Installation

retention_app = typer.Typer(no_args_is_help=True, help="Delete what plans do not keep any more.")


@retention_app.callback()
def about() -> None:
    """Delete what plans do not keep any more."""


@retention_app.command()
def run(
    slug: Annotated[str | None, typer.Argument(metavar="[TENANT]", help="the tenant's slug; by default all")] = None,
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="only count what is older than it is kept")] = False,
) -> None:
    """Delete what plans do not keep any more. A running server does so itself, every ten minutes."""
    from isola.platform import provisioning, retention

    async def work(installed: "Installation") -> None:
        async with await installed.control() as control, await installed.tenants() as tenants:
            every = await retention.concerned(control)
            of = every if slug is None else [await provisioning.named(control, slug)]
            if dry_run:
                for tenant in of:
                    _print(f"{tenant.slug} would lose", await retention.expired(tenants, tenant))
            else:
                _print("deleted", await retention.run(tenants, of))

    act(work, looking=dry_run)


def _print(what: str, counted: Mapping[str, int]) -> None:
    typer.echo(f"{what}: {', '.join(f'{number} {name}' for name, number in counted.items() if number) or 'nothing'}")
