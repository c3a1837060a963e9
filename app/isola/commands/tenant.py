"""Commands for tenants."""

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from isola.commands.common import JsonOption, act, err, print_json
from isola.commands.hierarchy import set_parent
from isola.commands.override import override_app
from isola.commands.plan import give

if TYPE_CHECKING:
    from isola.platform.tenants import Tenant
    from isola.server.installation import Installation

tenant_app = typer.Typer(no_args_is_help=True, help="Create, change and delete tenants.")
tenant_app.command()(set_parent)
tenant_app.command("set-plan")(give)
tenant_app.add_typer(override_app, name="override")

Slug = Annotated[str, typer.Argument(help="the tenant's slug")]


@tenant_app.command()
def create(
    slug: Slug,
    name: Annotated[str | None, typer.Option(help="the displayed name; by default the slug")] = None,
    strategy: Annotated[str | None, typer.Option(help="the isolation strategy; by default ISOLA_STRATEGY")] = None,
    parent: Annotated[str | None, typer.Option(help="the slug of the parent tenant")] = None,
    plan: Annotated[str | None, typer.Option(help="the name of the tenant's plan")] = None,
    *,
    reuse_slug: Annotated[
        bool, typer.Option("--reuse-slug", help="accept the slug of a tenant that was deleted less than 90 days ago")
    ] = False,
) -> None:
    """Create a tenant and its home."""
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
            print_json([_described(each) for each in tenants])
            return
        table = Table("slug", "name", "status", "strategy", "id", "remote", box=None)
        for tenant in tenants:
            remote = "yes" if tenant.remote else ""
            table.add_row(tenant.slug, tenant.name, tenant.status, tenant.strategy, str(tenant.id), remote)
        Console(width=None if sys.stdout.isatty() else 200).print(table)

    act(run, looking=True)


@tenant_app.command()
def show(slug: Slug, *, as_json: JsonOption = False) -> None:
    """Show one tenant."""
    from isola.platform import provisioning

    async def run(installed: "Installation") -> None:
        async with await installed.control() as control:
            shown = await provisioning.named(control, slug, remote=True)
        if as_json:
            print_json(_described(shown))
        else:
            _show(shown)

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
def move(slug: Slug, *, to: Annotated[str, typer.Option("--to", help="the new strategy")]) -> None:
    """Move a tenant with all its data to another strategy. Its requests are refused during the move.

    If the move is interrupted, repeat it, or cancel it by moving the tenant to its current strategy.
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
    yes: Annotated[bool, typer.Option("--yes", help="do not ask for confirmation")] = False,
) -> None:
    """Delete a tenant and erase all its data. This cannot be undone."""
    from isola.platform import provisioning
    from isola.platform.changes import EFFECTIVE_WITHIN

    if not yes:
        typer.confirm(f"Erase the tenant {slug} and all its data?", abort=True)

    async def run(installed: "Installation") -> None:
        # After this time every server knows of the deletion, and requests that began earlier have exceeded the
        # limits on pool wait and statement time, so none of their statements can still be running.
        settings = installed.settings
        notice = min(settings.directory_ttl, EFFECTIVE_WITHIN) + settings.pool_wait + settings.statement_timeout
        async with await installed.owner() as owner:
            with err.status(f"waiting {notice:g} s until all servers have the change"):
                dropped = await provisioning.drop(owner, installed.strategies, slug, notice=notice)
        typer.echo(f"tenant {dropped.slug} and its data are deleted")

    act(run)


def _show(tenant: "Tenant") -> None:
    for key, value in _described(tenant).items():
        typer.echo(f"{key}: {value}")


def _described(tenant: "Tenant") -> dict[str, Any]:
    """The values to show, with the features that the tenant has now."""
    values = {key: value for key, value in asdict(tenant).items() if key != "entitlements"}
    return {**values, "features": sorted(tenant.entitlements.now())}
