"""Commands for security incidents."""

import sys
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from isola.commands.common import JsonOption, act, print_json

if TYPE_CHECKING:
    from isola.platform.incidents import Step
    from isola.server.installation import Installation

incident_app = typer.Typer(
    no_args_is_help=True, help="Open, note and close security incidents. See docs/administration.md."
)

Id = Annotated[str, typer.Argument(help="the incident's id")]
Entries = Annotated[
    list[str] | None, typer.Option("--entry", help="the id of an entry of a log that the note is about; repeatable")
]
Shown = Annotated[bool, typer.Option("--shown", help="let the tenants that see the incident see the note")]
Tenants = Annotated[list[str] | None, typer.Option("--tenant", help="the slug of a tenant concerned; repeatable")]
ShowTo = Annotated[
    list[str] | None, typer.Option("--show-to", help="the slug of a tenant that sees the incident; repeatable")
]


@incident_app.command("open")
def open_(
    title: Annotated[str, typer.Argument(help="what happened")],
    *,
    severity: Annotated[Literal["low", "medium", "high", "critical"], typer.Option("--severity", help="how severe")],
    text: Annotated[str, typer.Option("--note", help="a first note")] = "",
    entry: Entries = None,
    shown: Shown = False,
    tenant: Tenants = None,
    show_to: ShowTo = None,
) -> None:
    """Open an incident, and print its id."""
    from isola.platform import incidents, platform_log
    from isola.platform.incidents import IncidentSeverity

    step = _step(text, entry, tenant, show_to, shown=shown)

    async def run(installed: "Installation") -> None:
        async with await installed.control() as control:
            made = await incidents.start(control, platform_log.operator(), title, IncidentSeverity(severity), step)
        typer.echo(made.id)

    act(run)


@incident_app.command()
def note(
    incident: Id,
    text: Annotated[str, typer.Argument(help="the note")] = "",
    *,
    entry: Entries = None,
    shown: Shown = False,
    tenant: Tenants = None,
    show_to: ShowTo = None,
) -> None:
    """Add a note, or tenants, to an incident, also to a closed one."""
    from isola.platform import incidents, platform_log

    key, step = incidents.key_of(incident), _step(text, entry, tenant, show_to, shown=shown)

    async def run(installed: "Installation") -> None:
        async with await installed.control() as control:
            await incidents.note(control, platform_log.operator(), key, step)
        typer.echo(f"noted on incident {key}")

    act(run)


@incident_app.command()
def close(
    incident: Id,
    text: Annotated[str, typer.Argument(help="a last note")] = "",
    *,
    entry: Entries = None,
    shown: Shown = False,
) -> None:
    """Close an incident."""
    from isola.platform import incidents, platform_log

    key, step = incidents.key_of(incident), _step(text, entry, None, None, shown=shown)

    async def run(installed: "Installation") -> None:
        async with await installed.control() as control:
            await incidents.close(control, platform_log.operator(), key, step)
        typer.echo(f"closed incident {key}")

    act(run)


@incident_app.command("list")
def list_(
    *,
    only_open: Annotated[bool, typer.Option("--open", help="only those that are open")] = False,
    first: Annotated[int, typer.Option(min=1, max=1000, help="how many to show")] = 50,
    as_json: JsonOption = False,
) -> None:
    """List incidents, the newest first; with --json also their notes."""
    from rich.console import Console
    from rich.table import Table

    from isola.platform import incidents

    async def run(installed: "Installation") -> None:
        async with await installed.control() as control:
            found = await incidents.page(control, is_open=True if only_open else None, after=None, first=first)
        if as_json:
            print_json(list(found))
            return
        table = Table("id", "severity", "title", "opened", "closed", "tenants", "shown to", "notes", box=None)
        for each in found:
            closed = "" if each.closed_at is None else f"{each.closed_at:%Y-%m-%d %H:%M}"
            table.add_row(
                str(each.id),
                each.severity,
                each.title,
                f"{each.opened_at:%Y-%m-%d %H:%M}",
                closed,
                ", ".join(each.tenants),
                ", ".join(each.shown_to),
                str(len(each.notes)),
            )
        Console(width=None if sys.stdout.isatty() else 200).print(table, markup=False)

    act(run, looking=True)


def _step(
    text: str, entries: list[str] | None, tenants: list[str] | None, show_to: list[str] | None, *, shown: bool
) -> "Step":
    from isola.platform.incidents import Step, entries_of

    return Step(text, entries_of(entries or ()), shown, tenants or (), show_to or ())
