"""``isola new``: writes a small, complete application to begin with."""

from pathlib import Path
from string import Template
from typing import Annotated

import typer

MAX_NAME = 30


def new(
    name: Annotated[str, typer.Argument(help="in lower case: the name of the package as well")],
) -> None:
    """Write an application of one subject, with its history, tests, Makefile and README, into a new folder."""
    import os
    import re
    import subprocess
    import sys

    from isola.errors import OperatorError
    from isola.installed import APPLICATIONS
    from isola.shipped import shipped
    from isola.subjects.metadata import metadata

    folder = Path(name)
    if not re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", name) or len(name) > MAX_NAME:
        raise typer.BadParameter(f"expected a-z, 0-9 and '_', beginning with a letter, at most {MAX_NAME} characters")
    if name in APPLICATIONS or name in sys.stdlib_module_names or name in {"graphql", "tests"}:
        raise typer.BadParameter(f"{name} is the name of something that is installed: expected another one")
    if folder.exists():
        raise OperatorError(f"{folder} is there already: expected the name of a new folder")
    if "tasks" in metadata.tables:
        typer.echo("another application has a table `tasks`: rename the subject before both are installed", err=True)
    template = shipped("template")
    for source in sorted(template.rglob("*")):
        if source.is_file() and "__pycache__" not in source.parts:
            inside = str(source.relative_to(template)).replace("application", name).removesuffix(".txt")
            target = folder / inside
            target.parent.mkdir(parents=True, exist_ok=True)
            text = Template(source.read_text()).substitute(name=name, title=name.replace("_", " ").capitalize())
            target.write_text(text)
    # In a process of its own: applications are loaded when a process begins.
    program = [sys.executable, "-c", "from isola.commands.main import main; main()"]
    written = subprocess.run(  # noqa: S603  of this program
        [*program, "revision", "--application", name, "-m", "First tables"],
        cwd=folder,
        env={**os.environ, "ISOLA_APPLICATIONS": f"{name}:application"},
        stdout=subprocess.DEVNULL,
        check=False,
    )
    if written.returncode:
        raise OperatorError(f"{folder} is written, but its first revision is not: make revision there says why")
    typer.echo(f"{folder}: cd {folder} && make demo")
