"""Commands for limits, rates, features and retention of single tenants."""

import sys
from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from isola.commands.common import JsonOption, act, print_json
from isola.commands.plan import parse_keeps, parse_limits, parse_quotas, parse_rates

if TYPE_CHECKING:
    from isola.platform.overrides import Override
    from isola.server.installation import Installation

override_app = typer.Typer(
    no_args_is_help=True, help="Give single tenants other limits, rates, features and retention than their plans."
)


class OverrideKind(StrEnum):
    """The kinds of overrides, without an import of the platform."""

    QUOTA = "quota"
    METER = "meter"
    FEATURE = "feature"
    RATE = "rate"
    RETENTION = "retention"


Slug = Annotated[str, typer.Argument(help="the tenant's slug")]
Until = Annotated[
    datetime | None,
    typer.Option(formats=["%Y-%m-%dT%H:%M:%S%z", "%Y-%m-%dT%H:%M%z", "%Y-%m-%d"], help="the end; by default none"),
]


@override_app.command("set")
def put(
    slug: Slug,
    *,
    quota: Annotated[
        list[str] | None, typer.Option("--quota", help="a limit, such as resources=9 or resources=none")
    ] = None,
    limit: Annotated[
        list[str] | None, typer.Option("--limit", help="a meter's limit, such as executions=9 or executions=none")
    ] = None,
    feature: Annotated[
        list[str] | None, typer.Option("--feature", help="a feature, such as data-export=on, or =off")
    ] = None,
    rate: Annotated[
        list[str] | None, typer.Option("--rate", help="a rate, such as requests=100/minute or requests=none")
    ] = None,
    keep: Annotated[
        list[str] | None, typer.Option("--keep", help="for how long something is kept, such as spans=30d or spans=none")
    ] = None,
    reason: Annotated[str, typer.Option("--reason", help="the reason, for the logs; the tenant sees it")],
    until: Until = None,
) -> None:
    """Give a tenant a limit, a rate or a feature, or take it away, whatever its plan or its last override says.

    Data that exceeds a limit stays. What is older than --keep is deleted within ten minutes.
    """
    from datetime import UTC

    from isola.platform import overrides, platform_log, provisioning
    from isola.platform.overrides import Kind

    if len([*(quota or ()), *(limit or ()), *(feature or ()), *(rate or ()), *(keep or ())]) != 1:
        raise typer.BadParameter("expected one of --quota, --limit, --rate, --feature and --keep")
    parsed: dict[Kind, Mapping[str, Any]] = {
        Kind.QUOTA: parse_quotas(quota),
        Kind.METER: parse_limits(limit),
        Kind.FEATURE: _parse_features(feature),
        Kind.RATE: parse_rates(rate),
        Kind.RETENTION: parse_keeps(keep),
    }
    [(kind, name, value)] = [(kind, *each) for kind, values in parsed.items() for each in values.items()]
    ends_at = until and (until if until.tzinfo else until.replace(tzinfo=UTC))

    async def run(installed: "Installation") -> None:
        async with await installed.control() as control:
            tenant, by = await provisioning.named(control, slug), platform_log.operator()
            made = await overrides.put(control, by, tenant, kind, name, value=value, reason=reason, ends_at=ends_at)
        end = "" if made.ends_at is None else f" until {made.ends_at.isoformat()}"
        typer.echo(f"tenant {slug} has the {made.kind} {made.name}={_value(made)}{end}")

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
        table = Table("kind", "name", "value", "until", "reason", box=None)
        for each in every:
            until = "its removal" if each.ends_at is None else each.ends_at.isoformat()
            ends = f"{until} (ended)" if each.ended else until
            table.add_row(each.kind, each.name, _value(each), ends, each.reason)
        Console(width=None if sys.stdout.isatty() else 200).print(table, markup=False)

    act(run, looking=True)


@override_app.command()
def remove(
    slug: Slug,
    name: Annotated[str, typer.Argument(help="the name of the quota, meter, rate, feature or what is kept")],
    *,
    kind: Annotated[
        OverrideKind | None, typer.Option("--kind", help="where overrides of several kinds have the name")
    ] = None,
) -> None:
    """End an override of a tenant: what its plan says applies again. Data that exceeds its limit stays."""
    from isola.platform import overrides, platform_log, provisioning

    async def run(installed: "Installation") -> None:
        async with await installed.control() as control:
            tenant = await provisioning.named(control, slug)
            of_kind = None if kind is None else overrides.Kind(kind.value)
            await overrides.remove(control, platform_log.operator(), tenant, name, of_kind)
        typer.echo(f"tenant {slug} has what its plan says of {name}")

    act(run)


def _parse_features(options: list[str] | None) -> dict[str, bool]:
    features: dict[str, bool] = {}
    for option in options or ():
        name, _, value = option.partition("=")
        if value not in {"on", "off"}:
            raise typer.BadParameter(f"--feature {option[:80]!r}: expected <name>=on or <name>=off")
        features[name] = value == "on"
    return features


def _value(override: "Override") -> str:
    if override.kind == "feature":
        return "on" if override.value else "off"
    if override.value is None:
        return "none"
    return f"{override.value}d" if override.kind == "retention" else str(override.value)
