"""The command that generates an application from a single-customer database, and copies its rows into a tenant."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from isola.commands.common import act, amount, err
from isola.errors import OperatorError

if TYPE_CHECKING:
    from isola.adopting.loading import Loaded
    from isola.adopting.model import Draft
    from isola.database.transactions import Database
    from isola.server.installation import Installation

# In seconds: long enough to read a large table.
READING = 24 * 3600.0


def adopt(
    source: Annotated[str, typer.Argument(help="the database: postgresql://user:password@host:port/database")],
    *,
    schema: Annotated[str, typer.Option(help="the schema with the tables")] = "public",
    application: Annotated[
        str | None, typer.Option(help="the application's name; by default that of the database")
    ] = None,
    load: Annotated[bool, typer.Option("--load", help="copy the rows into a tenant of the application")] = False,
    tenant: Annotated[str | None, typer.Option(help="with --load: the tenant's slug")] = None,
) -> None:
    """Generate an application for a database, in a folder of its name; with --load, copy its rows into a tenant.

    The database is only read.
    """
    address = _address(source)
    if load != (tenant is not None):
        raise typer.BadParameter("--load and --tenant: expected both or neither")
    if tenant is None:
        _write(address, schema, application)
    else:
        _load(address, application, tenant)


def _address(source: str) -> str:
    from pydantic import TypeAdapter, ValidationError

    from isola.settings import Address

    try:
        return str(TypeAdapter(Address).validate_python(source).get_secret_value())
    except ValidationError:
        # The library's message would contain the address, and with it the password.
        raise typer.BadParameter("expected postgresql://user:password@host:port/database") from None


async def _opened(address: str) -> "Database":
    from isola.database.transactions import Database

    return await Database.open(address, size=2, wait=10, statement_timeout=READING)


def _write(address: str, schema: str, application: str | None) -> None:
    import uvloop

    from isola import packages
    from isola.adopting import application as adopted, writing

    async def draft() -> "Draft":
        async with await _opened(address) as source:
            return await adopted.drafted(source, schema, application)

    made = uvloop.run(draft())
    folder = Path.cwd() / made.application
    with err.status(f"writing {folder}"):
        packages.write(folder, made.application, writing.files(made), "adopted")
    for note in made.notes:
        err.print(f"not carried: {note.of}: {note.what}: {note.why}", markup=False, highlight=False, soft_wrap=True)
    typer.echo(
        f"{made.application}/ has {amount(len(made.models), 'subject')} and "
        f"{amount(len(made.pairs), 'many-to-many relation')}; "
        f"not carried over: {amount(len(made.notes), 'object')}: see {made.application}/ADOPTED.md"
    )
    typer.echo(f"{made.application}: cd {made.application} && make demo")


def _load(address: str, application: str | None, tenant: str) -> None:
    from isola.adopting import copying, loading, names
    from isola.installed import APPLICATIONS

    async def run(installed: "Installation") -> None:
        async with await _opened(address) as source, await installed.owner(2) as owner:
            name = application
            if name is None:
                async with source.unbound() as reading:
                    name = names.plain(str(await reading.value("SELECT current_database()")), "adopted")
            if name not in APPLICATIONS:
                listed = ", ".join(sorted(APPLICATIONS))
                raise OperatorError(
                    f"the application {name!r} is not installed: expected one of {listed}, as --application"
                )
            plan = copying.read(APPLICATIONS[name].migrations.parent)
            with err.status("copying") as status:
                loaded = await loading.load(
                    owner,
                    installed.strategies,
                    source,
                    plan,
                    tenant,
                    progress=lambda table, rows: status.update(f"copying {table}: {rows:,} rows"),
                )
        _print_loaded(loaded)

    act(run)


def _print_loaded(loaded: "Loaded") -> None:
    for table, rows in loaded.rows.items():
        typer.echo(f"{table}: {amount(rows, 'row')}, as in the source")
    total, tables = amount(sum(loaded.rows.values()), "row"), amount(len(loaded.rows), "table")
    typer.echo(f"loaded into tenant {loaded.tenant.slug}: {total} of {tables}")
