"""How every command works: in an installation, with a clean end, and with the same words for the same things.

A command imports what it runs when it runs: to import all of it takes a second, which ``--help`` has no use for.
"""

import signal
import sys
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from typer.core import TyperGroup
from typer.exceptions import TyperException

if TYPE_CHECKING:
    from isola.server.installation import Installation
    from isola.settings import Settings

INTERRUPTED = 130  # as shells say it of Ctrl-C

KnownOption = Annotated[
    str | None,
    typer.Option("--known", metavar="HASH", help="a hash that an earlier run printed; its entry must still be there"),
]
JsonOption = Annotated[bool, typer.Option("--json", help="for programs")]
TenantOption = Annotated[str, typer.Option("--tenant", help="the tenant's slug")]
Act = Callable[["Installation"], Coroutine[Any, Any, None]]

out = Console()
err = Console(stderr=True)


class Commands(TyperGroup):
    """Commands whose refusal of an option says so where it is a setting."""

    def make_context(self, *args: Any, **kwargs: Any) -> Any:
        with _settings_named():
            return super().make_context(*args, **kwargs)

    def invoke(self, *args: Any, **kwargs: Any) -> Any:
        with _settings_named():
            return super().invoke(*args, **kwargs)


@contextmanager
def _settings_named() -> Iterator[None]:
    try:
        yield
    except TyperException as error:
        unknown: str | None = getattr(error, "option_name", None)
        if unknown is not None:
            from isola.settings import Settings

            setting = unknown.lstrip("-").replace("-", "_").lower()
            if setting in Settings.model_fields:
                named = f"ISOLA_{setting.upper()} in the environment"
                error.message = f"No such option: {unknown}. It is a setting: {named}."
        raise


def print_json(value: Any) -> None:
    from pydantic_core import to_json

    typer.echo(to_json(value, indent=2))


def act(what: Act, *, settings: "Settings | None" = None, serving: bool = False, looking: bool = False) -> None:
    """Do something in the installation that the settings describe, and end cleanly whatever ends it.

    A command that is interrupted has not done what it was to do, and says so by its exit status; a server has. One that
    is only ``looking`` starts no database.
    """
    # SIGTERM is Ctrl-C: by itself it would end this process at once and leave behind what it has started.
    # A shell that puts a process into the background has it ignore Ctrl-C, and SIGTERM must end that one, too.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    import asyncpg
    import uvloop

    from isola.errors import OperatorError
    from isola.server import logging
    from isola.server.installation import installation
    from isola.settings import load

    settings = settings or load()
    logging.configure(settings)
    try:
        with installation(settings, alone=serving, start=not looking) as installed:
            uvloop.run(what(installed))
    except asyncpg.InsufficientPrivilegeError as error:
        raise OperatorError(f"the database does not allow its login to do this: {error}") from error
    except KeyboardInterrupt:
        err.print("isola: interrupted")
        if not serving:
            sys.exit(INTERRUPTED)
