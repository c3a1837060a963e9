"""The command line. Each command does one thing, with the login required for it."""

import asyncio
import gc
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from isola.commands.adopt import adopt
from isola.commands.advise import advise
from isola.commands.audit import audit_app
from isola.commands.bench import bench_app
from isola.commands.common import Commands, JsonOption, TenantOption, act, amount, err, exporter, out
from isola.commands.federation import federation
from isola.commands.incident import incident_app
from isola.commands.isolation import isolation
from isola.commands.metrics import metrics_app
from isola.commands.new import new
from isola.commands.operate import operate
from isola.commands.plan import plan_app
from isola.commands.platform import platform_app
from isola.commands.retention import retention_app
from isola.commands.revision import revision
from isola.commands.revoke import revoke_app
from isola.commands.tenant import tenant_app
from isola.commands.ticket import ticket
from isola.commands.timeline import timeline_app
from isola.commands.user import user_app
from isola.doctor.vocabulary import HOMES, TENANT_COLUMN
from isola.errors import IsolaError, OperatorError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.progress import Progress

    from isola.pages.home import Trial
    from isola.platform import migrations
    from isola.server import listener as server
    from isola.server.installation import Installation
    from isola.telemetry.otlp import Exporter

app = typer.Typer(cls=Commands, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
app.add_typer(tenant_app, name="tenant")
app.add_typer(plan_app, name="plan")
app.add_typer(platform_app, name="platform")
app.add_typer(revoke_app, name="revoke")
app.add_typer(user_app, name="user")
app.add_typer(audit_app, name="audit")
app.add_typer(bench_app, name="bench")
app.add_typer(timeline_app, name="timeline")
app.add_typer(metrics_app, name="metrics")
app.add_typer(retention_app, name="retention")
app.add_typer(incident_app, name="incident")
app.command()(operate)
app.command()(adopt)
app.command()(advise)
app.command()(federation)
app.command()(isolation)
app.command()(new)
app.command()(revision)
app.command()(ticket)

SHOWN_BAD_LINES = 20
SHOWN_RIGHTS = 20

# Role names only: importing the permissions of roles takes longer than all the rest of `isola --help`.
RoleName = Literal["viewer", "editor", "admin", "owner"]


def main() -> None:
    """Run the command line. The exit status is 0; 1, after a line with the error; or 2 for wrong usage."""
    # Imported objects stay alive, and scanning them for garbage takes a seventh of a server's start time. A server
    # that has started collects with Python's default thresholds.
    gc.set_threshold(300_000, 10, 10)
    try:
        app()
    except IsolaError as error:
        err.print(f"isola: {error.explained}", style="red", markup=False, highlight=False, soft_wrap=True)
        sys.exit(1)


def _print_version(requested: bool) -> None:  # noqa: FBT001  Typer calls it
    if requested:
        from importlib.metadata import version

        typer.echo(f"isola {version('isola')}")
        raise typer.Exit


@app.callback()
def about(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="print the version")
    ] = False,
) -> None:
    """Serve a GraphQL API to many tenants, and administer them."""


@app.command()
def serve() -> None:
    """Serve the API. Without a database URL, use the embedded PostgreSQL."""
    from isola.platform import migrations
    from isola.server import listener as server
    from isola.settings import load

    settings = load()

    async def run(installed: "Installation") -> None:
        if installed.settings.database_url is None and installed.addresses.owner is not None:
            # The embedded database has no operator who migrates it.
            async with await installed.owner(4) as owner:
                await migrations.migrate(owner, installed.strategies, installed.addresses)
        await _serve(installed, listener, scraped, sent)

    sent = exporter(settings)
    with server.bound(settings) as listener, server.bound_for_metrics(settings) as scraped:
        act(run, settings=settings, serving=True)


@app.command()
def demo() -> None:
    """Serve the API with three tenants, users and data, on the embedded PostgreSQL."""
    from isola.platform import migrations
    from isola.server import demonstration, listener as server
    from isola.settings import load

    settings = load()
    if settings.database_url or settings.tenant_url or settings.control_url:
        raise OperatorError(
            "the demo starts its own PostgreSQL: unset ISOLA_DATABASE_URL, ISOLA_TENANT_URL and ISOLA_CONTROL_URL"
        )

    async def run(installed: "Installation") -> None:
        with err.status("migrating, and creating three tenants with data"):
            async with await installed.owner(4) as owner, await installed.tenants() as tenants:
                await migrations.migrate(owner, installed.strategies, installed.addresses)
                await demonstration.furnish(owner, tenants, installed.strategies)
        admitting, password = demonstration.admit(settings)
        demonstration.explain(settings, f"{listener.url}/graphql", password)
        await _serve(replace(installed, settings=admitting), listener, scraped, sent, demonstration.trials())

    sent = exporter(settings)
    with server.bound(settings) as listener, server.bound_for_metrics(settings) as scraped:
        act(run, settings=settings, serving=True)


async def _serve(
    installed: "Installation",
    listener: "server.Listener",
    scraped: "server.Listener | None",
    sent: "Exporter | None",
    trials: "Sequence[Trial]" = (),
) -> None:
    from contextlib import nullcontext

    from isola.server.application import application
    from isola.server.operator import operating
    from isola.telemetry.exposition import PATH, Metrics

    metrics = None if sent is None else sent.metrics
    if metrics is None and scraped is not None:
        metrics = Metrics()
    async with (
        nullcontext() if sent is None else sent.running() as traces,
        application(installed, trials, metrics, traces) as served,
        operating(installed),
        nullcontext() if scraped is None or metrics is None else scraped.beside(metrics),
    ):
        listener.listen()
        if scraped is not None:
            typer.echo(f"Metrics on {scraped.url}{PATH}")
        typer.echo(f"Serving on {listener.url}/graphql — press Ctrl-C to stop")
        sys.stdout.flush()
        await listener.serve(served)


@app.command()
def migrate(
    *,
    check: Annotated[bool, typer.Option("--check", help="report what is behind, and change nothing")] = False,
    workers: Annotated[int, typer.Option(min=1, max=64, help="homes to migrate at the same time")] = 4,
    new_passwords: Annotated[
        bool,
        typer.Option("--new-passwords", help="set the logins' passwords, even if other databases use these logins"),
    ] = False,
) -> None:
    """Migrate the platform's tables and every home to the newest revision."""
    from isola.platform import migrations

    async def run(installed: "Installation") -> None:
        async with await installed.owner(workers) as owner:
            if check:
                report = await migrations.check(owner, installed.strategies, installed.addresses)
            else:
                bar = _bar("homes")
                task = bar.add_task("migrating", total=None)

                def progress(done: int, total: int) -> None:
                    bar.start()  # not earlier: an error message may come first
                    bar.update(task, completed=done, total=total)

                try:
                    report = await migrations.migrate(
                        owner,
                        installed.strategies,
                        installed.addresses,
                        workers=workers,
                        progress=progress,
                        new_passwords=new_passwords,
                    )
                finally:
                    if bar.live.is_started:
                        bar.stop()
        _print_report(report, check=check)

    act(run, looking=check)


def _print_report(report: "migrations.Report", *, check: bool) -> None:
    from isola.platform import migrations

    for home, reason in sorted(report.failed.items()):
        err.print(f"{home}: {reason}", style="red", markup=False, highlight=False, soft_wrap=True)
    newest = {"control": migrations.head("control"), "tenant": migrations.head("tenant")}
    outdated = bool(report.behind or report.shut or report.platform or report.control != newest["control"])
    if not check:
        done = len(report.behind.keys() - report.failed)
        typer.echo(
            f"{amount(report.homes, 'home')}, {done} migrated to revision {newest['tenant']}, "
            f"{len(report.shut.keys() - report.failed)} repaired, {len(report.failed)} failed"
        )
    elif report.control != newest["control"]:
        typer.echo(f"the platform's tables are at {report.control or 'nothing'}, not {newest['control']}")
    else:
        for line in report.platform[:SHOWN_RIGHTS]:
            typer.echo(line)
        if len(report.platform) > SHOWN_RIGHTS:
            more = amount(len(report.platform) - SHOWN_RIGHTS, "more difference")
            typer.echo(f"and {more} in the rights of the platform's roles")
        for home, revision in sorted(report.behind.items()):
            typer.echo(f"{home} is {migrations.advice('tenant', revision)}")
        for home, missing in sorted(report.shut.items()):
            typer.echo(f"{home} is not as isola migrate made it: {missing}")
        typer.echo(
            f"{amount(report.homes, 'home')}, {len(report.behind)} behind, {len(report.shut)} not as they were made"
        )
    if report.failed or (check and outdated):
        raise typer.Exit(1)


@app.command()
def token(
    tenant: TenantOption,
    user: Annotated[str, typer.Option(help="the user's subject")],
    role: Annotated[RoleName, typer.Option(help="the role in the token")] = "editor",
    ttl: Annotated[float, typer.Option(min=1, help="seconds until it expires")] = 24 * 3600,
    name: Annotated[str | None, typer.Option(help="the user's name, stored at the first sign-in")] = None,
    email: Annotated[str | None, typer.Option(help="the user's e-mail address, stored at the first sign-in")] = None,
) -> None:
    """Create a token for development, and print it as the only line on standard output."""
    from isola.identity.tokens import mint
    from isola.settings import load
    from isola.subjects.permissions import Role

    typer.echo(mint(load(), tenant, user, Role(role), ttl, name, email))


@app.command()
def password() -> None:
    """Hash a password, for the file of ISOLA_DEVELOPMENT_PASSWORDS."""
    from isola.identity.passwords import hashed

    typer.echo(hashed(typer.prompt("Password", hide_input=True, err=True)))


@app.command()
def schema(
    *, admin: Annotated[bool, typer.Option("--admin", help="the schema of platform administration")] = False
) -> None:
    """Print the GraphQL schema in SDL."""
    if admin:
        from isola.admin.schema import schema as printed
    else:
        from isola.api.schema import schema as printed
    typer.echo(printed.as_str())
    from isola.api.undescribed import undescribed

    for name in undescribed(printed._schema):  # noqa: SLF001  Strawberry has no public access to it
        typer.echo(f"{name} has no description", err=True)


@app.command()
def explain(
    file: Annotated[Path, typer.Argument(help="a document with an operation", exists=True, dir_okay=False)],
    tenant: TenantOption,
    *,
    user: Annotated[str | None, typer.Option(help="execute it as the user with this subject")] = None,
    operation: Annotated[str | None, typer.Option(help="its name, if the document has several")] = None,
    variables: Annotated[str, typer.Option(help="the variables, as a JSON object")] = "{}",
    analyze: Annotated[bool, typer.Option("--analyze", help="execute it, and show times and row counts")] = False,
) -> None:
    """Show how an operation is executed: its plan, its SQL under each strategy, and PostgreSQL's plan."""
    from isola.api import explain as explaining

    try:
        parsed = json.loads(variables)
        text = file.read_text(encoding="utf-8")
    except json.JSONDecodeError as error:
        raise typer.BadParameter(f"--variables: expected JSON ({error.msg})") from None
    except (OSError, UnicodeError) as error:
        raise OperatorError(f"{file}: expected a readable file in UTF-8 ({error})") from None
    if not isinstance(parsed, dict):
        raise typer.BadParameter("--variables: expected a JSON object")

    async def run(installed: "Installation") -> None:
        sections = await explaining.explain(
            installed,
            text,
            tenant=tenant,
            user=user,
            operation_name=operation,
            variables=parsed,
            analyze=analyze,
        )
        for title, body in sections:
            out.rule(title, align="left")
            typer.echo(body)

    act(run, looking=True)


@app.command()
def doctor(
    *,
    database_url: Annotated[str | None, typer.Option(help="the database; by default ISOLA_DATABASE_URL")] = None,
    login: Annotated[str | None, typer.Option(help="the login of tenant traffic; by default Isola's")] = None,
    tenant_column: Annotated[
        str, typer.Option(help="the column of shared tables with the tenant's id")
    ] = TENANT_COLUMN,
    homes: Annotated[
        str, typer.Option(help="a regular expression for the schemas that belong to one tenant each")
    ] = HOMES,
    as_json: JsonOption = False,
) -> None:
    """Report every way in which isolation in a database could be bypassed. Changes nothing.

    The exit status is 1 if a finding is more severe than a note.
    """
    from pydantic import TypeAdapter, ValidationError

    from isola.doctor import report as doctors_report
    from isola.doctor.examination import examine
    from isola.settings import Address, load

    settings = load()
    if database_url is not None:
        try:
            address = TypeAdapter(Address).validate_python(database_url)
        except ValidationError:
            # The library's message would contain the address, and with it the password.
            raise typer.BadParameter("expected postgresql://user:password@host:port/database") from None
        settings = settings.model_copy(update={"database_url": address})

    async def run(installed: "Installation") -> None:
        async with await installed.owner() as database:
            report = await examine(
                database,
                login=login or installed.addresses.tenant_login,
                tenant_column=tenant_column,
                homes=homes,
            )
        if as_json:
            typer.echo(doctors_report.as_json(report))
        else:
            for block in doctors_report.as_text(report):
                out.print(block, soft_wrap=True)
        if not report.healthy:
            raise typer.Exit(1)

    act(run, settings=settings, looking=True)


@app.command("import")
def import_(
    file: Annotated[
        Path, typer.Argument(help="JSON Lines: the input fields of the subject's creation", exists=True, dir_okay=False)
    ],
    tenant: TenantOption,
    *,
    subject: Annotated[str, typer.Option(help="the subject of the rows, such as resource")] = "resource",
    owner: Annotated[str, typer.Option(help="the subject of the user who is to own all rows")] = "import",
    strict: Annotated[bool, typer.Option("--strict", help="load nothing if any line is invalid")] = False,
    from_line: Annotated[int, typer.Option(min=1, help="the line to start at, to resume after an interruption")] = 1,
) -> None:
    """Load rows of a subject from a file into a tenant. Exit status 1 if a line is invalid; all others are loaded."""
    from isola.installed import SUBJECTS
    from isola.platform import importing, migrations, provisioning

    subjects = {each.declaration.name: each for each in SUBJECTS if "create" in each.declaration.mutations}
    if subject not in subjects:
        raise typer.BadParameter(f"--subject: expected one of {', '.join(subjects)}")

    async def run(installed: "Installation") -> None:
        async with await installed.control() as control:
            placed = await provisioning.named(control, tenant)
            async with control.unbound() as work:
                await migrations.refuse_behind(work)
        outcome = importing.Outcome()

        def progress(read: int, so_far: importing.Outcome) -> None:
            nonlocal outcome
            outcome = so_far
            bar.update(task, completed=read, description=amount(so_far.loaded, "row"))

        async with await installed.tenants() as tenants:
            with _bar("bytes") as bar:
                task = bar.add_task("0 rows", total=file.stat().st_size if file.is_file() else None)
                try:
                    outcome = await importing.load(
                        tenants,
                        placed,
                        subjects[subject],
                        file,
                        owner=owner,
                        strict=strict,
                        from_line=from_line,
                        progress=progress,
                    )
                except (IsolaError, asyncio.CancelledError):
                    err.print(
                        f"{amount(outcome.loaded, 'row')} loaded; resume with --from-line {outcome.last_line + 1}"
                    )
                    raise
        for number, reason in outcome.bad[:SHOWN_BAD_LINES]:
            err.print(f"line {number}: {reason}", markup=False, highlight=False, soft_wrap=True)
        if len(outcome.bad) > SHOWN_BAD_LINES:
            err.print(f"and {len(outcome.bad) - SHOWN_BAD_LINES} more")
        typer.echo(f"{amount(outcome.loaded, 'row')} loaded, {amount(len(outcome.bad), 'invalid line')}")
        if strict and outcome.bad:
            raise OperatorError("nothing was loaded, because --strict is set and lines are invalid")
        if outcome.bad:
            raise typer.Exit(1)

    act(run)


def _bar(unit: str) -> "Progress":
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeRemainingColumn,
    )

    count = MofNCompleteColumn() if unit == "homes" else TaskProgressColumn()
    return Progress(TextColumn("{task.description}"), BarColumn(), count, TimeRemainingColumn(), console=err)
