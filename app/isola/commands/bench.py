"""Commands of the lab, which compares strategies by measurement."""

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from isola.commands.common import INTERRUPTED, err
from isola.errors import OperatorError

bench_app = typer.Typer(help="Measure and compare strategies.")


@bench_app.callback(invoke_without_command=True)
def bench(context: typer.Context) -> None:
    """Measure and compare strategies. Without a subcommand: the quick profile."""
    if context.invoked_subcommand is None:
        run()


@bench_app.command()
def run(
    *,
    application: Annotated[
        str | None,
        typer.Option(help="the installed application to measure; by default the one that is part of the package"),
    ] = None,
    subject: Annotated[
        str | None,
        typer.Option(help="the subject that the standard operations query; by default the one with most relations"),
    ] = None,
    operations: Annotated[
        Path | None, typer.Option(help="a folder of the application's own .graphql documents", file_okay=False)
    ] = None,
    profile: Annotated[Literal["quick", "standard", "full"], typer.Option(help="the amount of measurements")] = "quick",
    scenario: Annotated[list[str] | None, typer.Option(help="measure only these scenarios")] = None,
    strategy: Annotated[list[str] | None, typer.Option(help="measure only these strategies and the baselines")] = None,
    tenants: Annotated[list[int] | None, typer.Option(min=1, help="numbers of tenants")] = None,
    rows: Annotated[
        list[int] | None,
        typer.Option(min=1, help="numbers of resources of a tenant, or of rows of each subject"),
    ] = None,
    tables: Annotated[list[int] | None, typer.Option(min=1, help="numbers of tables of a home")] = None,
    connections: Annotated[list[int] | None, typer.Option(min=1, help="numbers of connections")] = None,
    database_url: Annotated[
        str | None, typer.Option(help="the address of a database owner; by default the lab starts a PostgreSQL")
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="results in JSON Lines; a rerun resumes at the end of the file", dir_okay=False)
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="accept a database that holds data")] = False,
    seed: Annotated[int, typer.Option(help="the random seed of rows and of the order of requests")] = 1,
) -> None:
    """Measure, and write the report beside the results. Interrupted, it goes on when it is run again.

    Ends with 1 if a measurement failed.
    """
    from isola.lab import command, report
    from isola.settings import load
    from isola.subjects.applications import BUILT_IN

    options = command.Asked(
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
        file, failed = command.run(options, load().data_dir.resolve() / "bench")
    except KeyboardInterrupt:
        err.print("isola: interrupted; run it again to resume")
        sys.exit(INTERRUPTED)
    html, markdown = file.with_suffix(".html"), file.with_suffix(".md")
    report.write(file, html=html, markdown=markdown)
    for path in (file, html, markdown):
        typer.echo(path)
    if failed:
        raise OperatorError(f"{failed} measurements failed; the reasons are in {file}")


@bench_app.command()
def report(
    file: Annotated[Path, typer.Argument(help="results of a run", exists=True, dir_okay=False)],
    *,
    html: Annotated[
        Path | None, typer.Option(help="the HTML file; by default next to the results", dir_okay=False)
    ] = None,
    markdown: Annotated[
        Path | None, typer.Option(help="the Markdown file; by default next to the results", dir_okay=False)
    ] = None,
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
    after: Annotated[Path, typer.Argument(help="results of another run", exists=True, dir_okay=False)],
) -> None:
    """Compare two runs, and report which changes exceed the noise."""
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
