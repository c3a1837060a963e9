"""Commands for the requests of tenants, as servers have recorded them."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from isola.commands.common import JsonOption, act, print_json
from isola.commands.platform import Moment

if TYPE_CHECKING:
    from isola.server.installation import Installation

metrics_app = typer.Typer(
    no_args_is_help=True, help="Show the requests of tenants, and what their plans bring in. See docs/metrics.md."
)

Slug = Annotated[str, typer.Argument(help="the tenant's slug")]
First = Annotated[int, typer.Option(min=1, max=10_000, help="how many to show")]
DAY = timedelta(days=1)


@metrics_app.command()
def tenants(*, since: Moment = None, until: Moment = None, first: First = 50, as_json: JsonOption = False) -> None:
    """Show all tenants with requests in a period, by default the last day, those with most requests first."""
    from isola.platform import request_records

    async def run(installed: "Installation") -> None:
        async with await installed.control() as control:
            rows = await request_records.totals(control, *_period(since, until), first)
        _print([dict(row) for row in rows], as_json=as_json)

    act(run, looking=True)


@metrics_app.command()
def hours(slug: Slug, *, since: Moment = None, until: Moment = None, as_json: JsonOption = False) -> None:
    """Show the requests in a tenant by hour, by default of the last day."""
    from isola.platform import provisioning, request_records

    async def run(installed: "Installation") -> None:
        async with await installed.control() as control:
            tenant = await provisioning.named(control, slug)
            found = await request_records.hours(control, tenant.id, *_period(since, until))
        _print([asdict(each) for each in found], as_json=as_json)

    act(run, looking=True)


@metrics_app.command()
def requests(slug: Slug, *, first: First = 50, as_json: JsonOption = False) -> None:
    """Show the latest requests in a tenant, the newest first."""
    from isola.platform import provisioning, request_records

    async def run(installed: "Installation") -> None:
        async with await installed.control() as control:
            tenant = await provisioning.named(control, slug)
            rows = await request_records.latest(control, tenant.id, first)
        _print([{name: value for name, value in row.items() if name != "tenant_id"} for row in rows], as_json=as_json)

    act(run, looking=True)


@metrics_app.command()
def revenue(*, as_json: JsonOption = False) -> None:
    """Show how many active tenants each plan has, and what they pay together for a period."""
    from isola.platform import plans

    async def run(installed: "Installation") -> None:
        async with await installed.control() as control:
            rows = await plans.revenue(control)
        _print([dict(row) for row in rows], as_json=as_json)

    act(run, looking=True)


def _period(since: datetime | None, until: datetime | None) -> tuple[datetime, datetime]:
    """The beginning and the end; a day that is given without a time begins in UTC."""
    end = _in_utc(until) if until else datetime.now(UTC)
    return _in_utc(since) if since else end - DAY, end


def _in_utc(moment: datetime) -> datetime:
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _print(rows: Sequence[Mapping[str, Any]], *, as_json: bool) -> None:
    from rich.console import Console
    from rich.table import Table

    if as_json:
        print_json(rows)
        return
    table = Table(*(rows[0] if rows else ()), box=None)
    for row in rows:
        table.add_row(*("" if value is None else str(value) for value in row.values()))
    Console(width=None if sys.stdout.isatty() else 200).print(table)
