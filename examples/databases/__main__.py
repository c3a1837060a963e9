"""``python -m examples.databases``: see README.md."""

import sys
from collections.abc import Callable, Coroutine
from contextlib import ExitStack
from typing import Annotated, Any

import typer
import uvloop

from examples.databases.fleet import Fleet
from isola.database import embedded
from isola.errors import IsolaError
from isola.server import listener as server, logging
from isola.settings import load

commands = typer.Typer(no_args_is_help=True, add_completion=False, help="A database for each tenant.")
Slug = Annotated[str, typer.Argument(help="the tenant's slug")]


@commands.command()
def create(slug: Slug, name: Annotated[str | None, typer.Option(help="the slug unless given")] = None) -> None:
    """Make a tenant and its database. Broken off, a second call goes on."""
    _with_fleet(lambda fleet: fleet.create(slug, name or slug))
    typer.echo(f"tenant {slug} has a database of its own")


@commands.command()
def drop(slug: Slug) -> None:
    """Remove a tenant with its database, at once."""
    _with_fleet(lambda fleet: fleet.drop(slug))
    typer.echo(f"tenant {slug} is gone")


@commands.command()
def migrate() -> None:
    """Bring each tenant's database to the newest revision, as after an upgrade."""
    _with_fleet(lambda fleet: fleet.migrate())
    typer.echo("all databases are at the newest revision")


@commands.command()
def serve(domain: Annotated[str, typer.Option(help="each tenant is a subdomain of it")] = "localhost") -> None:
    """Serve all tenants that have a database now."""

    async def run(fleet: Fleet) -> None:
        async with fleet.application(domain) as application:
            listener.listen()
            for slug in await fleet.slugs():
                port = listener.url.rpartition(":")[2]
                typer.echo(f"http://{slug}.{domain}:{port}/graphql")
            await listener.serve(application)

    with server.bound(load()) as listener:
        _with_fleet(run)


def _with_fleet(act: Callable[[Fleet], Coroutine[Any, Any, None]]) -> None:
    settings = load()
    logging.configure(settings)
    with ExitStack() as held:
        if settings.database_url:
            owner = settings.database_url.get_secret_value()
        else:
            running = embedded.address(settings.data_dir)
            owner = running or held.enter_context(embedded.running(settings.data_dir))
        uvloop.run(act(Fleet(owner, settings)))


if __name__ == "__main__":
    try:
        commands()
    except IsolaError as error:
        typer.echo(error.message, err=True)
        sys.exit(1)
