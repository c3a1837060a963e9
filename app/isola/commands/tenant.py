"""Commands for tenants."""

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from isola.commands.common import JsonOption, act, err, print_json
from isola.commands.hierarchy import set_parent
from isola.commands.plan import give

if TYPE_CHECKING:
    from isola.platform.tenants import Tenant
    from isola.server.installation import Installation

tenant_app = typer.Typer(no_args_is_help=True, help="Make, change and remove tenants.")
tenant_app.command()(set_parent)
tenant_app.command("set-plan")(give)

Slug = Annotated[str, typer.Argument(help="the tenant's slug")]


@tenant_app.command()
def create(
    slug: Slug,
    name: Annotated[str | None, typer.Option(help="what people call it; the slug unless given")] = None,
    strategy: Annotated[str | None, typer.Option(help="where it is placed; ISOLA_STRATEGY unless given")] = None,
    parent: Annotated[str | None, typer.Option(help="the slug of the tenant that it is below")] = None,
    plan: Annotated[str | None, typer.Option(help="how much of everything it may have: a plan's name")] = None,
    *,
    reuse_slug: Annotated[
        bool, typer.Option("--reuse-slug", help="take the slug of a deleted tenant before 90 days are over")
    ] = False,
) -> None:
    """Make a tenant and its home."""
    from isola.platform import plans, provisioning

    async def run(installed: "Installation") -> None:
        async with await installed.owner() as owner:
            chosen = strategy or installed.settings.strategy
            called = slug if name is None else name
            made = await provisioning.create(
                owner,
                installed.strategies,
                slug=slug,
                name=called,
                strategy=chosen,
                parent=parent,
                plan=plan or plans.UNLIMITED,
                reuse_slug=reuse_slug,
            )
        _show(made)

    act(run)


@tenant_app.command("list")
def list_(*, as_json: JsonOption = False) -> None:
    """List all tenants."""
    from rich.console import Console
    from rich.table import Table

    from isola.platform import provisioning

    async def run(installed: "Installation") -> None:
        async with await installed.control() as control:
            tenants = await provisioning.every(control)
        if as_json:
            print_json(list(tenants))
            return
        table = Table("slug", "name", "status", "strategy", "id", box=None)
        for tenant in tenants:
            table.add_row(tenant.slug, tenant.name, tenant.status, tenant.strategy, str(tenant.id))
        Console(width=None if sys.stdout.isatty() else 200).print(table)

    act(run, looking=True)


@tenant_app.command()
def show(slug: Slug, *, as_json: JsonOption = False) -> None:
    """Show one tenant."""
    from isola.platform import provisioning

    async def run(installed: "Installation") -> None:
        async with await installed.control() as control:
            found = await provisioning.named(control, slug)
        if as_json:
            print_json(found)
        else:
            _show(found)

    act(run, looking=True)


@tenant_app.command()
def suspend(slug: Slug) -> None:
    """Refuse all requests of a tenant; its data stays."""
    from isola.platform import provisioning

    async def run(installed: "Installation") -> None:
        async with await installed.control() as control:
            _show(await provisioning.suspend(control, slug))

    act(run)


@tenant_app.command()
def resume(slug: Slug) -> None:
    """Undo a suspension."""
    from isola.platform import provisioning

    async def run(installed: "Installation") -> None:
        async with await installed.control() as control:
            _show(await provisioning.resume(control, slug))

    act(run)


@tenant_app.command()
def move(slug: Slug, *, to: Annotated[str, typer.Option("--to", help="the strategy that is to hold it")]) -> None:
    """Move a tenant, with all that it has, under another strategy. Meanwhile its requests are refused.

    Killed, it can be repeated; or undone, by moving the tenant to where it is.
    """
    from isola.platform import moves

    async def run(installed: "Installation") -> None:
        async with await installed.owner() as owner:
            moved = await moves.move(
                owner,
                installed.strategies,
                slug,
                to=to,
                progress=lambda step: err.print(f"  {step}", markup=False, highlight=False),
            )
        typer.echo(f"tenant {moved.slug} is placed under {moved.strategy}")

    act(run)


@tenant_app.command()
def drop(
    slug: Slug,
    *,
    yes: Annotated[bool, typer.Option("--yes", help="do not ask")] = False,
) -> None:
    """Delete a tenant and erase all its data. There is no way back."""
    from isola.platform import provisioning
    from isola.platform.changes import HEARD_WITHIN

    if not yes:
        typer.confirm(f"Erase the tenant {slug} and all its data?", abort=True)

    async def run(installed: "Installation") -> None:
        # After this time every server knows of the deletion, and requests that began earlier have exceeded the
        # limits on pool wait and statement time, so none of their statements can still be running.
        settings = installed.settings
        notice = min(settings.directory_ttl, HEARD_WITHIN) + settings.pool_wait + settings.statement_timeout
        async with await installed.owner() as owner:
            with err.status(f"waiting {notice:g} s for every server to know"):
                dropped = await provisioning.drop(owner, installed.strategies, slug, notice=notice)
        typer.echo(f"tenant {dropped.slug} and its data are gone")

    act(run)


def _show(tenant: "Tenant") -> None:
    for key, value in asdict(tenant).items():
        typer.echo(f"{key}: {value}")
