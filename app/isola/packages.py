"""Packages of applications that commands write: files from the template, and the first revision of their tables."""

import keyword
import os
import subprocess
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from shutil import rmtree
from string import Template
from tempfile import mkdtemp

from isola.errors import OperatorError
from isola.shipped import shipped
from isola.subjects.declaration import MAX_NAME, PLAIN

# Packages that every installation has, or that every application has beside its own.
_TAKEN = {"graphql", "isola", "tests"}


def refusal(name: str) -> str | None:
    """Why no new application can have a name; None if it can."""
    from isola.installed import APPLICATIONS  # noqa: PLC0415  loading all applications takes a second

    if not PLAIN.fullmatch(name) or len(name) > MAX_NAME or keyword.iskeyword(name):
        return (
            f"an application cannot be called {name[:80]!r}: expected lower case with underscores, "
            f"at most {MAX_NAME} characters, and no word of Python's"
        )
    if name in APPLICATIONS:
        return f"an application {name!r} is installed already: expected another name"
    if name in _TAKEN or name in sys.stdlib_module_names or _is_module(name):
        return f"there is a Python module {name!r} already: expected another name"
    return None


def _is_module(name: str) -> bool:
    """Whether what Python finds by a name is more than a folder without code."""
    spec = find_spec(name)
    return spec is not None and spec.origin is not None


def rendered(kind: str, name: str, **more: object) -> Mapping[str, str]:
    """The files, by their paths, that every package has, and those of a kind: ``new`` or ``adopted``."""
    names = {"name": name, "title": name.replace("_", " ").capitalize(), **more}
    files = {}
    for folder in (shipped("template") / "package", shipped("template") / kind):
        for path in sorted(folder.rglob("*.txt")):
            inside = str(path.relative_to(folder)).replace("application", name).removesuffix(".txt")
            files[inside] = Template(path.read_text(encoding="utf-8")).substitute(names)
    return files


def write(folder: Path, name: str, files: Mapping[str, str], message: str) -> None:
    """Write the package of an application into a new folder: all of it, its first revision included, or nothing.

    Raises OperatorError.
    """
    if folder.exists():
        raise OperatorError(f"{folder} is there already: expected the name of a new folder")
    try:
        being_made = Path(mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    except OSError as error:
        raise OperatorError(f"{folder.parent}: {error.strerror}") from error
    try:
        for path, text in files.items():
            (being_made / path).parent.mkdir(parents=True, exist_ok=True)
            (being_made / path).write_text(text, encoding="utf-8")
        _make_revision(name, being_made, message)
        being_made.chmod(0o755)
        being_made.rename(folder)
    except BaseException:
        rmtree(being_made, ignore_errors=True)
        raise


# Another process has the application among its own: it makes all its types, and then the revision of its tables.
_MAKE = (
    "import sys, isola.api.schema; from isola.commands.main import main; "
    "sys.argv = ['isola', 'revision', '--application', sys.argv[1], '-m', sys.argv[2]]; main()"
)


def _make_revision(name: str, folder: Path, message: str) -> None:
    """Write the revision of the tables of an application, and see that it loads. Raises OperatorError."""
    environment = {**os.environ, "ISOLA_APPLICATIONS": f"{name}:application", "PYTHONDONTWRITEBYTECODE": "1"}
    tried = subprocess.run(  # noqa: S603  our own interpreter
        [sys.executable, "-c", _MAKE, name, message],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if tried.returncode:
        last_line = (tried.stderr.strip() or tried.stdout.strip()).splitlines()[-1:]
        raise OperatorError(f"the generated application is invalid, which is a bug of isola: {' '.join(last_line)}")
