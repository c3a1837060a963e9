"""Commands for plans."""

import re
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from isola.commands.common import JsonOption, act, print_json

if TYPE_CHECKING:
    from isola.platform.plans import Plan
    from isola.platform.rates import Rate
    from isola.server.installation import Installation
    from isola.subjects.prices import Price

plan_app = typer.Typer(
    no_args_is_help=True, help="Create and change plans: what tenants pay, their quotas, their rates, and what is kept."
)

Name = Annotated[str, typer.Argument(help="the plan's name")]
Quotas = Annotated[
    list[str] | None,
    typer.Option(
        "--quota", help="a quota such as resources=1000, storage=10GB or users=none; isola plan list shows all names"
    ),
]
Limits = Annotated[
    list[str] | None,
    typer.Option("--limit", help="a meter's limit such as executions=1000 or executions=none; see isola plan meters"),
]
Rates = Annotated[
    list[str] | None,
    typer.Option("--rate", help="a rate such as requests=50/minute, user.rows=9000/hour or requests=none"),
]
Keeps = Annotated[
    list[str] | None,
    typer.Option("--keep", help="for how long something is kept, such as spans=30d, log=365d or spans=none for ever"),
]
Features = Annotated[
    str | None,
    typer.Option(
        "--features", help="all features that it has, separated by commas; all, or none; see isola plan features"
    ),
]
Listed = Annotated[
    bool | None,
    typer.Option("--listed/--unlisted", help="whether tenants that lack a feature are told that this plan has it"),
]
PriceOption = Annotated[
    str | None, typer.Option("--price", help="a price such as '99 USD/month' or '990.50 EUR/year', or none")
]


@plan_app.command("list")
def list_(*, as_json: JsonOption = False) -> None:
    """List all plans with their prices, quotas and rates. A missing limit or price is shown as none."""
    from rich.console import Console
    from rich.table import Table

    from isola.platform import plans
    from isola.subjects import meters, quotas

    async def run(installed: "Installation") -> None:
        async with await installed.control() as control:
            every = await plans.every(control)
        if as_json:
            print_json(list(every))
            return
        measured = sorted(meters.known().values(), key=lambda each: each.name)
        limited = [f"{each.name} a {each.period}" for each in measured]
        table = Table(
            "name", "title", "price", *quotas.names(), *limited, "rates", "kept", "features", "retired", box=None
        )
        for plan in every:
            allowed = [str(plan.quotas.get(quota, "none")) for quota in quotas.names()]
            allowed += [str(plan.limits.get(meter.name, "none")) for meter in measured]
            table.add_row(
                plan.name,
                plan.title,
                str(plan.price or "none"),
                *allowed,
                ", ".join(f"{rate}={most}" for rate, most in plan.rates.items()) or "none",
                ", ".join(f"{name}={days}d" for name, days in plan.retention.items()) or "for ever",
                _shown(plan.features),
                "retired" if plan.retired_at else "",
            )
        Console(width=None if sys.stdout.isatty() else 200).print(table)

    act(run, looking=True)


@plan_app.command()
def create(
    name: Name,
    title: Annotated[str | None, typer.Option(help="the displayed name; by default the name")] = None,
    quota: Quotas = None,
    limit: Limits = None,
    rate: Rates = None,
    keep: Keeps = None,
    price: PriceOption = None,
    features: Features = None,
    listed: Listed = None,
) -> None:
    """Create a plan. What has no quota, limit or rate is not limited; without --features, it has all of them.

    What is not in --keep is kept for ever.

    The price is stored and shown, not charged.
    """
    from isola.platform import plans, platform_log

    quotas = {each: most for each, most in parse_quotas(quota).items() if most is not None}
    limits = {each: most for each, most in parse_limits(limit).items() if most is not None}
    paid = None if price is None else _parse_price(price)
    more: Any = {"features": None if features is None else _parse_features(features), "listed": bool(listed)}
    more["rates"] = {each: most for each, most in parse_rates(rate).items() if most is not None}
    more["retention"] = {each: days for each, days in parse_keeps(keep).items() if days is not None}

    async def run(installed: "Installation") -> None:
        async with await installed.control() as control:
            by = platform_log.operator()
            called = name if title is None else title
            made = await plans.create(
                control, by, name=name, title=called, quotas=quotas, limits=limits, price=paid, **more
            )
        _show(made)

    act(run)


@plan_app.command()
def change(
    name: Name,
    title: Annotated[str | None, typer.Option(help="the displayed name")] = None,
    quota: Quotas = None,
    limit: Limits = None,
    rate: Rates = None,
    keep: Keeps = None,
    price: PriceOption = None,
    features: Features = None,
    listed: Listed = None,
) -> None:
    """Change a plan for all tenants that have it. Data that exceeds the new quotas stays.

    What is older than a new --keep is deleted by the servers within ten minutes.
    """
    from isola.platform import plans, platform_log

    quotas, limits = parse_quotas(quota), parse_limits(limit)
    paid: Price | Literal["unchanged"] | None = "unchanged" if price is None else _parse_price(price)
    more: Any = {"features": "unchanged" if features is None else _parse_features(features), "listed": listed}
    more["rates"] = parse_rates(rate)
    more["retention"] = parse_keeps(keep)

    async def run(installed: "Installation") -> None:
        async with await installed.control() as control:
            by = platform_log.operator()
            changed = await plans.change(
                control, by, name, title=title, quotas=quotas, limits=limits, price=paid, **more
            )
        _show(changed)

    act(run)


@plan_app.command("features")
def features_() -> None:
    """List all features, and what requires each of them here. No database is needed."""
    from rich.console import Console
    from rich.table import Table

    from isola.api.schema import model
    from isola.subjects import features

    table = Table("feature", "description", "required by", box=None)
    for name, description in sorted(features.known().items()):
        places = sorted(place for place, needs in model.requires.items() if name in needs)
        table.add_row(name, description, ", ".join(places) or "nothing here")
    Console(width=None if sys.stdout.isatty() else 200).print(table)


@plan_app.command("meters")
def meters_() -> None:
    """List all meters: what plans limit by the hour, day or month. No database is needed."""
    from rich.console import Console
    from rich.table import Table

    from isola.installed import metadata
    from isola.subjects import meters

    table = Table("meter", "kind", "period", "description", "consumed by", box=None)
    for name, meter in sorted(meters.known().items()):
        rows = sorted(each.name for each in metadata.tables.values() if each.info.get("consumes") == name)
        table.add_row(name, meter.kind, meter.period, meter.description, ", ".join(rows) or "calls only")
    Console(width=None if sys.stdout.isatty() else 200).print(table)


@plan_app.command()
def retire(name: Name) -> None:
    """Retire a plan: no other tenant can get it. Tenants that have it keep it."""
    from isola.platform import plans, platform_log

    async def run(installed: "Installation") -> None:
        async with await installed.control() as control:
            _show(await plans.retire(control, platform_log.operator(), name))

    act(run)


@plan_app.command()
def delete(name: Name) -> None:
    """Delete a plan that no tenant has or had. Others can be retired."""
    from isola.platform import plans, platform_log

    async def run(installed: "Installation") -> None:
        async with await installed.control() as control:
            await plans.remove(control, platform_log.operator(), name)
        typer.echo(f"the plan {name} is deleted")

    act(run)


def give(
    slug: Annotated[str, typer.Argument(help="the tenant's slug")],
    plan: Annotated[str, typer.Argument(help="the plan's name")],
) -> None:
    """Change the plan of a tenant. Data that exceeds the new quotas stays."""
    from isola.platform import plans, platform_log, provisioning

    async def run(installed: "Installation") -> None:
        async with await installed.control() as control:
            await plans.give(control, platform_log.operator(), await provisioning.named(control, slug), plan)
        typer.echo(f"tenant {slug} has the plan {plan}")

    act(run)


def parse_quotas(options: list[str] | None) -> dict[str, int | None]:
    """The limits in options such as ``users=3``; None for no limit. Raises typer.BadParameter."""
    from isola.subjects import quotas

    return _parse("--quota", [_in_bytes(option) for option in options or ()], quotas.names())


def _in_bytes(option: str) -> str:
    """``storage=1000000000`` for ``storage=1GB``; all others as they are."""
    found = re.fullmatch(r"storage=([0-9]{1,6})(kB|MB|GB|TB)", option)
    return option if found is None else f"storage={int(found[1]) * 1000 ** (' kMGT'.index(found[2][0]))}"


def parse_limits(options: list[str] | None) -> dict[str, int | None]:
    """As ``parse_quotas``, for limits of meters."""
    from isola.installed import metadata  # noqa: F401  it loads the applications, which declare meters
    from isola.subjects import meters

    return _parse("--limit", options, sorted(meters.known()))


def _parse(flag: str, options: list[str] | None, known: Sequence[str]) -> dict[str, int | None]:
    limits: dict[str, int | None] = {}
    for option in options or ():
        name, _, most = option.partition("=")
        if name not in known or name in limits:
            raise typer.BadParameter(f"{flag} {option[:80]!r}: expected one of {', '.join(known)}, each once")
        if most != "none" and not re.fullmatch(r"[0-9]{1,16}", most):
            raise typer.BadParameter(f"{flag} {option[:80]!r}: expected {name}=<number> or {name}=none")
        limits[name] = None if most == "none" else int(most)
    return limits


def parse_rates(options: Sequence[str] | None) -> "dict[str, Rate | None]":
    """The rates by name, as options give them. Raises BadParameter; the names are checked by the plan."""
    from isola.errors import BadUserInput
    from isola.platform.rates import Rate

    rates: dict[str, Rate | None] = {}
    for option in options or ():
        name, _, most = option.partition("=")
        if name in rates:
            raise typer.BadParameter(f"--rate {option[:80]!r}: expected each name once")
        try:
            rates[name] = None if most == "none" else Rate.parse(most)
        except BadUserInput as error:
            raise typer.BadParameter(f"--rate {option[:80]!r}: {error.message.removeprefix('rates: ')}") from None
    return rates


def parse_keeps(options: Sequence[str] | None) -> dict[str, int | None]:
    """The days in options such as ``spans=30d``; None for ever. Raises typer.BadParameter."""
    from isola.installed import metadata  # noqa: F401  it loads the applications, which declare what is kept
    from isola.subjects import retention

    known, kept = retention.names(), {}
    for option in options or ():
        name, _, days = option.partition("=")
        if name not in known or name in kept:
            raise typer.BadParameter(f"--keep {option[:80]!r}: expected one of {', '.join(known)}, each once")
        if days != "none" and not re.fullmatch(r"[0-9]{1,6}d", days):
            raise typer.BadParameter(f"--keep {option[:80]!r}: expected {name}=<days>d or {name}=none")
        kept[name] = None if days == "none" else int(days[:-1])
    return kept


def _parse_features(option: str) -> list[str] | None:
    """Their names; None for all. What is no feature is refused by the plan."""
    if option in {"all", "none"}:
        return None if option == "all" else []
    return option.split(",")


def _parse_price(option: str) -> "Price | None":
    from isola.errors import BadUserInput
    from isola.subjects.prices import Price

    try:
        return None if option == "none" else Price.parse(option)
    except BadUserInput as error:
        raise typer.BadParameter(f"--price {option[:80]!r}: {error.message.removeprefix('price: ')}") from None


def _shown(features: Sequence[str] | None) -> str:
    return "all" if features is None else ", ".join(features) or "none"


def _show(plan: "Plan") -> None:
    from isola.subjects import meters, quotas

    typer.echo(f"name: {plan.name}")
    typer.echo(f"title: {plan.title}")
    typer.echo(f"price: {plan.price or 'none'}")
    for quota in quotas.names():
        typer.echo(f"{quota}: {plan.quotas.get(quota, 'none')}")
    for name, meter in sorted(meters.known().items()):
        typer.echo(f"{name} a {meter.period}: {plan.limits.get(name, 'none')}")
    for rate, most in plan.rates.items():
        typer.echo(f"{rate}: {most}")
    for name, days in plan.retention.items():
        typer.echo(f"{name} kept for: {days} days")
    typer.echo(f"features: {_shown(plan.features)}")
    typer.echo(f"listed: {plan.listed}")
    if plan.retired_at is not None:
        typer.echo(f"retired_at: {plan.retired_at}")
