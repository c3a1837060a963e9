"""``isola revision``: writes a revision from the difference between an application's tables and its declarations."""

from typing import Annotated

import typer

from isola.commands.common import amount


def revision(
    *,
    application: Annotated[str, typer.Option(help="the name of the application")],
    message: Annotated[str, typer.Option("--message", "-m", help="a short description of the change")],
) -> None:
    """Write the next revision of an application's tables. Needs no database; `isola migrate` applies it."""
    import re

    from isola.errors import OperatorError
    from isola.installed import APPLICATIONS
    from isola.subjects import history
    from isola.subjects.declaration import DeclarationError

    if application not in APPLICATIONS:
        raise typer.BadParameter(f"--application: expected one of {', '.join(APPLICATIONS)}")
    chosen = APPLICATIONS[application]
    if not message.strip() or any(each in message for each in '"\\\n'):
        raise typer.BadParameter("--message: expected a few words, without quotes")
    chosen.migrations.mkdir(parents=True, exist_ok=True)
    try:
        written = history.revisions(chosen)
        operations = history.differences(chosen)
    except DeclarationError as error:
        raise OperatorError(f"the application {application}: {error}") from error
    if not operations:
        typer.echo(f"the history of {application} matches its declarations: there is nothing to write")
        return
    after = written[-1].revision if written else None
    number = f"{int(after or 0) + 1:04}" if (after or "0").isdecimal() else f"{after}_next"
    slug = re.sub(r"[^a-z0-9]+", "_", message.lower()).strip("_")[:40]
    file = chosen.migrations / f"{number}_{slug}.py"
    text = history.source(operations, revision=number, after=after, message=message.strip().rstrip("."))
    file.write_text(text)
    typer.echo(f"{file}: {amount(len(operations), 'operation')}; isola migrate applies them")
