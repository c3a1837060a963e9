"""Shared by all commands: the installation, clean termination, and common options.

A command imports its dependencies when it runs: importing everything takes a second, and ``--help`` needs none of it.
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
    from isola.telemetry.otlp import Exporter

INTERRUPTED = 130  # the exit status that shells use for Ctrl-C

KnownOption = Annotated[
    str | None,
    typer.Option(
        "--known", metavar="HASH", help="a hash that an earlier run printed; the log must still contain its entry"
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="print JSON")]
TenantOption = Annotated[str, typer.Option("--tenant", help="the tenant's slug")]
Act = Callable[["Installation"], Coroutine[Any, Any, None]]

out = Console()
err = Console(stderr=True)


def amount(number: int, noun: str, plural: str | None = None) -> str:
    """A number of something in words: "1 row", "2 rows"."""
    return f"{number} {noun if number == 1 else plural or f'{noun}s'}"


class Commands(TyperGroup):
    """A command group whose error for an unknown option points out that the option is a setting."""

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


def exporter(settings: "Settings") -> "Exporter | None":
    """What sends traces and metrics, if the settings ask for it. Raises OperatorError if it is not installed."""
    if not settings.otlp:
        return None
    try:
        from isola.telemetry.otlp import Exporter
    except ModuleNotFoundError as error:
        from isola.errors import OperatorError

        raise OperatorError("ISOLA_OTLP needs further packages: pip install isola[otel]") from error
    return Exporter()


def print_json(value: Any) -> None:
    from pydantic_core import to_json

    typer.echo(to_json(value, indent=2))


def act(action: Act, *, settings: "Settings | None" = None, serving: bool = False, looking: bool = False) -> None:
    """Run an action in the installation that the settings describe, and clean up however it ends.

    An interrupted command is incomplete and reports that by its exit status; an interrupted server has ended normally.
    With ``looking``, no database is started.
    """
    # Handle SIGTERM as Ctrl-C: by default it would end this process at once and leave its child processes running.
    # A shell makes background processes ignore Ctrl-C; restore the handler so that SIGTERM ends those, too.
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
            uvloop.run(action(installed))
    except asyncpg.InsufficientPrivilegeError as error:
        raise OperatorError(f"the database does not allow its login to do this: {error}") from error
    except KeyboardInterrupt:
        err.print("isola: interrupted")
        if not serving:
            sys.exit(INTERRUPTED)
