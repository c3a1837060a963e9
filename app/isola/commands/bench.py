"""Commands of the lab, which compares strategies by measurement."""

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from isola.commands.common import INTERRUPTED, err
from isola.errors import OperatorError

bench_app = typer.Typer(help="Measure strategies beside each other, and report what the figures say.")


@bench_app.callback(invoke_without_command=True)
def bench(context: typer.Context) -> None:
    """Measure strategies beside each other, and report what the figures say. Alone: the quick profile."""
    if context.invoked_subcommand is None:
        run()


@bench_app.command()
def run(
    *,
    application: Annotated[
        str | None, typer.Option(help="whose tables it is about: an installed one; the nouns that ship unless given")
    ] = None,
    subject: Annotated[
        str | None, typer.Option(help="of the application, whom the usual operations ask; its most connected one")
    ] = None,
    operations: Annotated[
        Path | None, typer.Option(help="a folder of the application's own .graphql documents", file_okay=False)
    ] = None,
    profile: Annotated[Literal["quick", "standard", "full"], typer.Option(help="how much is measured")] = "quick",
    scenario: Annotated[list[str] | None, typer.Option(help="only these")] = None,
    strategy: Annotated[list[str] | None, typer.Option(help="only these, beside the baselines")] = None,
    tenants: Annotated[list[int] | None, typer.Option(min=1, help="instead of the profile's")] = None,
    rows: Annotated[
        list[int] | None,
        typer.Option(min=1, help="a tenant's resources, or rows of each subject, instead of the profile's"),
    ] = None,
    tables: Annotated[list[int] | None, typer.Option(min=1, help="of a home, instead of the profile's")] = None,
    connections: Annotated[list[int] | None, typer.Option(min=1, help="instead of the profile's")] = None,
    database_url: Annotated[
        str | None, typer.Option(help="an owner's address; a PostgreSQL of the lab's own unless given")
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="JSON Lines; a rerun goes on where it ends", dir_okay=False)
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="also on a server whose database holds data")] = False,
    seed: Annotated[int, typer.Option(help="of rows and of the order of requests")] = 1,
) -> None:
    """Measure, and write the report beside the results. Interrupted, it goes on when it is run again.

    Ends with 1 if a measurement failed.
    """
    from isola.lab import command, report
    from isola.settings import load
    from isola.subjects.applications import BUILT_IN

    asked = command.Asked(
        profile,
        scenario or (),
        strategy or (),
        {"tenants": tenants or (), "rows": rows or (), "tables": tables or (), "connections": connections or ()},
        None if database_url is None else address(database_url),
        output,
        force,
        seed,
        application or BUILT_IN,
        subject,
        operations,
    )
    try:
        file, failed = command.run(asked, load().data_dir.resolve() / "bench")
    except KeyboardInterrupt:
        err.print("isola: interrupted; run it again to go on")
        sys.exit(INTERRUPTED)
    html, markdown = file.with_suffix(".html"), file.with_suffix(".md")
    report.write(file, html=html, markdown=markdown)
    for path in (file, html, markdown):
        typer.echo(path)
    if failed:
        raise OperatorError(f"{failed} measurements failed: {file} says why")


@bench_app.command()
def report(
    file: Annotated[Path, typer.Argument(help="results of a run", exists=True, dir_okay=False)],
    *,
    html: Annotated[Path | None, typer.Option(help="beside the results unless given", dir_okay=False)] = None,
    markdown: Annotated[Path | None, typer.Option(help="beside the results unless given", dir_okay=False)] = None,
) -> None:
    """Write the report of a run: one HTML file that needs nothing else, and Markdown."""
    from isola.lab.report import write

    pages = html or file.with_suffix(".html"), markdown or file.with_suffix(".md")
    write(file, html=pages[0], markdown=pages[1])
    for path in pages:
        typer.echo(path)


@bench_app.command()
def compare(
    before: Annotated[Path, typer.Argument(help="results of a run", exists=True, dir_okay=False)],
    after: Annotated[Path, typer.Argument(help="results of another", exists=True, dir_okay=False)],
) -> None:
    """Say what changed from one run to another, and whether that is more than noise."""
    from isola.lab.report import compare

    typer.echo(compare(before, after))


def address(text: str) -> str:
    from pydantic import TypeAdapter, ValidationError

    from isola.settings import Address

    try:
        return TypeAdapter(Address).validate_python(text).get_secret_value()
    except ValidationError:
        # The library's message would contain the address, and with it the password.
        raise typer.BadParameter("expected postgresql://user:password@host:port/database") from None
