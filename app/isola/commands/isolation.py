"""The command that runs the isolation attacks against strategies."""

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from isola.errors import OperatorError

NEEDED = ("pytest", "httpx", "hypothesis", "pytest_timeout", "xdist")

MODES = ("direct", "uncached", "pgbouncer")


def isolation(
    more: Annotated[list[str] | None, typer.Argument(help="options of pytest after --, such as -n 2 or -x")] = None,
    *,
    strategy: Annotated[
        str | None,
        typer.Option(metavar="PACKAGE.MODULE:CLASS", help="the strategy to test; by default all installed ones"),
    ] = None,
    mode: Annotated[
        list[str] | None, typer.Option(metavar="|".join(MODES), help="the connection modes to test; by default all")
    ] = None,
    also: Annotated[
        list[Path] | None, typer.Option(help="further tests, run once with direct connections", exists=True)
    ] = None,
) -> None:
    """Run the isolation suite against the installed strategies or a new one, on a separate PostgreSQL.

    The exit status is 1 if a test fails.
    """
    if not set(mode or ()) <= set(MODES):
        raise typer.BadParameter(f"--mode: expected any of {', '.join(MODES)}")
    missing = [package for package in NEEDED if find_spec(package) is None]
    if missing:
        raise OperatorError(f"the suite needs the package {missing[0]}: install isola[testing]")
    from isola.testing import conformance
    from isola.testing.modes import Mode

    if conformance.run(strategy, [Mode(each) for each in mode or ()] or list(Mode), more or (), also or ()):
        raise typer.Exit(1)
