"""Commands for limits of single tenants."""

import sys
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from isola.commands.common import JsonOption, act, print_json
from isola.commands.plan import parse_quotas

if TYPE_CHECKING:
    from isola.server.installation import Installation

override_app = typer.Typer(no_args_is_help=True, help="Give single tenants other limits than their plans.")

Slug = Annotated[str, typer.Argument(help="the tenant's slug")]
Until = Annotated[
    datetime | None,
    typer.Option(formats=["%Y-%m-%dT%H:%M:%S%z", "%Y-%m-%dT%H:%M%z", "%Y-%m-%d"], help="the end; by default none"),
]


@override_app.command("set")
def put(
    slug: Slug,
    *,
    quota: Annotated[str, typer.Option("--quota", help="the limit, such as resources=1000 or resources=none")],
    reason: Annotated[str, typer.Option("--reason", help="the reason, for the logs; the tenant sees it")],
    until: Until = None,
) -> None:
    """Give a tenant a limit instead of its plan's, or instead of its last override. Data that exceeds it stays."""
    from datetime import UTC

    from isola.platform import overrides, platform_log, provisioning

    [(name, most)] = parse_quotas([quota]).items()
    ends_at = until and (until if until.tzinfo else until.replace(tzinfo=UTC))

    async def run(installed: "Installation") -> None:
        async with await installed.control() as control:
            tenant, by = await provisioning.named(control, slug), platform_log.operator()
            made = await overrides.put(control, by, tenant, name, most, reason=reason, ends_at=ends_at)
        end = "" if made.ends_at is None else f" until {made.ends_at.isoformat()}"
        typer.echo(f"tenant {slug} has the limit {name}={'none' if most is None else most}{end}")

    act(run)


@override_app.command("list")
def list_(slug: Slug, *, as_json: JsonOption = False) -> None:
    """List the overrides of a tenant, including those that have ended and were not removed."""
    from rich.console import Console
    from rich.table import Table

    from isola.platform import overrides, provisioning

    async def run(installed: "Installation") -> None:
        async with await installed.control() as control:
            every = await overrides.every(control, await provisioning.named(control, slug))
        if as_json:
            print_json(list(every))
            return
        table = Table("quota", "limit", "until", "reason", box=None)
        for each in every:
            until = "its removal" if each.ends_at is None else each.ends_at.isoformat()
            limit = "none" if each.at_most is None else str(each.at_most)
            table.add_row(each.quota, limit, f"{until} (ended)" if each.ended else until, each.reason)
        Console(width=None if sys.stdout.isatty() else 200).print(table, markup=False)

    act(run, looking=True)


@override_app.command()
def remove(slug: Slug, quota: Annotated[str, typer.Argument(help="the name of the quota")]) -> None:
    """End an override of a tenant: the limit of its plan applies again. Data that exceeds it stays."""
    from isola.platform import overrides, platform_log, provisioning

    async def run(installed: "Installation") -> None:
        async with await installed.control() as control:
            tenant = await provisioning.named(control, slug)
            await overrides.remove(control, platform_log.operator(), tenant, quota)
        typer.echo(f"tenant {slug} has the limit of its plan for {quota}")

    act(run)
