"""``isola new``: writes a small, complete starter application."""

from pathlib import Path
from typing import Annotated

import typer


def new(
    name: Annotated[str, typer.Argument(help="the name of the application and its package, in lower case")],
) -> None:
    """Write an application of one subject, with its history, tests, Makefile and README, into a new folder."""
    from isola import packages
    from isola.subjects.metadata import metadata

    reason = packages.refusal(name)
    if reason is not None:
        raise typer.BadParameter(reason)
    if "tasks" in metadata.tables:
        typer.echo("another application has a table `tasks`: rename the subject before both are installed", err=True)
    packages.write(Path(name).absolute(), name, packages.rendered("new", name), "First tables")
    typer.echo(f"{name}: cd {name} && make demo")
