"""Writes an application for a database: the whole folder, once it has been tried, or nothing."""

import keyword
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp

from graphql import GraphQLObjectType, build_schema

from isola.adopting import catalogue, model, names, writing
from isola.adopting.model import Draft, Taken
from isola.database.transactions import Database
from isola.errors import OperatorError
from isola.subjects.applications import BUILT_IN
from isola.subjects.declaration import PLAIN, Registry

# What ids of other things than subjects begin with.
PREFIXES = {"dom", "key", "ses", "shr", "ten"}


async def drafted(source: Database, schema: str, name: str | None) -> Draft:
    """What becomes of a schema of a database. Raises OperatorError."""
    async with source.unbound() as transaction:
        await catalogue.isolate(transaction)
        found = await catalogue.read(transaction, schema)
    if not found.tables:
        raise OperatorError(f"the schema {schema!r} of the source has no tables: expected some to adopt")
    application = name if name is not None else names.plain(found.database, "adopted")
    refuse_name(application)
    return model.draft(application, found, _taken())


def refuse_name(name: str) -> None:
    """Raise OperatorError for a name that no new application can have."""
    from isola.installed import APPLICATIONS  # noqa: PLC0415  loading all applications takes a second

    if not PLAIN.fullmatch(name) or keyword.iskeyword(name) or name == BUILT_IN:
        raise OperatorError(
            f"an application cannot be called {name[:80]!r}: expected lower case with underscores, as --application"
        )
    if name in APPLICATIONS:
        raise OperatorError(f"an application {name!r} is installed already: expected another name, as --application")
    if find_spec(name) is not None and not _is_folder(name):
        raise OperatorError(f"there is a Python module {name!r} already: expected another name, as --application")


def _is_folder(name: str) -> bool:
    """Whether what Python finds by a name is a folder without code."""
    spec = find_spec(name)
    return spec is not None and spec.origin is None


def _taken() -> Taken:
    from isola.api.schema import schema  # noqa: PLC0415  as above

    built = build_schema(schema.as_str())
    fields = {"id", "node", "nodes"}
    for root in (built.query_type, built.mutation_type):
        if isinstance(root, GraphQLObjectType):
            fields |= {_snake(each) for each in root.fields}
    subjects = list(Registry.subjects())
    fields |= {name for each in subjects for name in (each.name, each.plural)}
    fields |= set(_tables())
    return Taken(
        classes=frozenset({*built.type_map, *writing.RESERVED}),
        fields=frozenset(fields),
        prefixes=frozenset({*PREFIXES, *(each.prefix for each in subjects)}),
    )


def _tables() -> list[str]:
    from isola.installed import metadata  # noqa: PLC0415  as above

    return list(metadata.tables)


def _snake(field: str) -> str:
    return names.plain(field, "field")


def write(draft: Draft, folder: Path) -> None:
    """Write an application into a folder that is not there yet. Raises OperatorError."""
    if folder.exists():
        raise OperatorError(
            f"{folder} is there already: expected a folder that is not, or another name, as --application"
        )
    try:
        being_made = Path(mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    except OSError as error:
        raise OperatorError(f"{folder.parent}: {error.strerror}") from error
    try:
        for path, text in writing.files(draft).items():
            (being_made / path).parent.mkdir(parents=True, exist_ok=True)
            (being_made / path).write_text(text, encoding="utf-8")
        _make_revision(draft.application, being_made)
        being_made.chmod(0o755)
        being_made.rename(folder)
    except BaseException:
        rmtree(being_made, ignore_errors=True)
        raise


# Another process has the application among its own: it makes all its types, and then the revision of its tables.
_MAKE = (
    "import sys, isola.api.schema; from isola.commands.main import main; "
    "sys.argv = ['isola', 'revision', '--application', sys.argv[1], '-m', 'adopted']; main()"
)


def _make_revision(application: str, folder: Path) -> None:
    """Write the revision of the tables of an application, and see that it loads. Raises OperatorError."""
    environment = {**os.environ, "ISOLA_APPLICATIONS": f"{application}:application", "PYTHONDONTWRITEBYTECODE": "1"}
    tried = subprocess.run(  # noqa: S603  our own interpreter
        [sys.executable, "-c", _MAKE, application],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if tried.returncode:
        said = (tried.stderr.strip() or tried.stdout.strip()).splitlines()[-1:]
        raise OperatorError(f"what was written for this database is no application, an error of isola: {said}")
