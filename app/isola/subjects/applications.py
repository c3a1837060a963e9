"""Applications declare the tenants' data: packages with subjects, and a migration history of their tables."""

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pydantic_settings import BaseSettings, SettingsConfigDict
from sqlalchemy import DateTime, Table
from sqlalchemy.schema import sort_tables_and_constraints

from isola.errors import OperatorError
from isola.subjects import features, meters, permissions, retention, visibility
from isola.subjects.actions import actions_of
from isola.subjects.checks import check, check_expressions
from isola.subjects.declaration import PLAIN, Column, Declaration, DeclarationError
from isola.subjects.metadata import metadata
from isola.subjects.meters import Meter, MeterKind
from isola.subjects.routes import Route
from isola.subjects.search import words_of
from isola.subjects.subject import Subject
from isola.subjects.table import pairs_table
from isola.subjects.usage import MAX_CUSTOMER

GROUP = "isola.applications"
BUILT_IN = "isola"
"""The name of the built-in application, whose subjects all others can refer to."""


@dataclass(frozen=True, slots=True)
class Application:
    """The declarations of a package, under a unique name.

    ``migrations`` is the folder of its revisions. ``features`` are those that its subjects and fields require, with
    descriptions. ``meters`` are what it measures. ``queries`` and ``mutations`` are Strawberry types whose fields are
    added to those generated from the subjects. ``routes`` are HTTP paths besides ``/graphql``.
    """

    name: str
    subjects: Sequence[type[Subject]]
    migrations: Path
    queries: Sequence[Any] = ()
    mutations: Sequence[Any] = ()
    routes: Sequence[Route] = ()
    features: Mapping[str, str] = field(default_factory=dict)
    meters: Sequence[Meter] = ()

    @property
    def tables(self) -> Sequence[Table]:
        """The tables of its subjects and of pairs, parents first."""
        return [table for table in metadata.sorted_tables if table.info.get("application", BUILT_IN) == self.name]


class _Setting(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="ISOLA_", extra="ignore")

    applications: str | None = None
    """The applications to load, separated by commas: names of entry points, or ``package.module:attribute``."""


def load(built_in: Application) -> Mapping[str, Application]:
    """The applications that ISOLA_APPLICATIONS names, or all that are installed, by name.

    They may refer to the subjects of the ``built_in`` application. Raises OperatorError for an application that cannot
    be imported, is invalid, or has the name of another.
    """
    loaded: dict[str, Application] = {}
    for point in _selected():
        application = _imported(point)
        if application.name in {BUILT_IN, *loaded} or not PLAIN.fullmatch(application.name):
            raise OperatorError(
                f"the application {point.value} is called {application.name!r}: expected a name in lower case that no "
                "other one has"
            )
        if ":" not in point.name and application.name != point.name:
            raise OperatorError(f"{point.value} is offered as {point.name!r} but calls itself {application.name!r}")
        for subject in application.subjects:
            subject.application = application.name
        loaded[application.name] = application
    try:
        for application in (built_in, *loaded.values()):
            _declare(application)
            for subject in application.subjects:
                _complete(subject)
    except DeclarationError as error:
        raise OperatorError(f"the application {application.name}: {error}") from error
    _open_circles()
    return MappingProxyType({name: loaded[name] for name in ordered(loaded, metadata.tables.values())})


def _declare(application: Application) -> None:
    try:
        features.declare(application.features)
        meters.declare(application.meters)
    except ValueError as error:
        raise DeclarationError(str(error)) from error


def _selected() -> Iterator[EntryPoint]:
    offered = _offered()
    setting = _Setting().applications
    if setting is None:
        yield from (offered[name] for name in sorted(offered))
        return
    # An application that is not installed is imported from the working directory.
    folder = str(Path.cwd())
    for name in filter(None, map(str.strip, setting.split(","))):
        if ":" in name:
            if not all(name.partition(":")):
                raise OperatorError(f"ISOLA_APPLICATIONS: {name[:80]!r}: expected package.module:attribute")
            if folder not in sys.path:
                sys.path.append(folder)
            yield EntryPoint(name, name, GROUP)
        elif name in offered:
            yield offered[name]
        else:
            installed = ", ".join(sorted(offered))
            expected = f"some of {installed}" if offered else "package.module:attribute, as none is installed"
            raise OperatorError(f"ISOLA_APPLICATIONS: {name[:80]!r} is not installed: expected {expected}")


def _offered() -> Mapping[str, EntryPoint]:
    """The applications that are installed, by name. Raises OperatorError for two of one name."""
    offered: dict[str, EntryPoint] = {}
    for point in entry_points(group=GROUP):
        other = offered.setdefault(point.name, point)
        if other.value != point.value:
            raise OperatorError(
                f"{other.value} and {point.value} are both offered as {point.name!r}: expected another name for one"
            )
    return offered


def _imported(point: EntryPoint) -> Application:
    try:
        application = point.load()
    except DeclarationError as error:
        raise OperatorError(f"the application {point.value}: {error}") from error
    except Exception as error:
        # Third-party code can raise anything.
        reason = str(error) if isinstance(error, ImportError | AttributeError) else f"{type(error).__name__}: {error}"
        raise OperatorError(f"the application {point.value} cannot be imported: {reason}") from error
    if not isinstance(application, Application):
        raise OperatorError(f"the application {point.value}: expected an isola.applications.Application")
    return application


VIEWS = frozenset({"audit_log", "tenant_stats"})
"""The views in every home."""


def _complete(subject: type[Subject]) -> None:
    """Make the table of a subject, and check its declaration. Raises DeclarationError."""
    declaration = subject.declaration
    check(declaration)
    further = [declaration.table_of_words] if declaration.subject.searched else []
    for name in {declaration.plural, *further, *(f"{declaration.plural}_{each.name}" for each in declaration.pairs)}:
        table = metadata.tables.get(name)
        is_taken = table is not None and table.info.get("application", BUILT_IN) != subject.application
        if is_taken or name in VIEWS:
            raise DeclarationError(f"{declaration.where}: there is a table {name!r} already: expected another plural")
    try:
        permissions.declare(*_permissions(subject))
    except ValueError as error:
        raise DeclarationError(f"{declaration.where}: {error}") from error
    if declaration.feature is not None and declaration.feature not in features.known():
        listed = ", ".join(sorted(features.known()))
        raise DeclarationError(
            f"{declaration.where}: there is no feature {declaration.feature!r}: expected one of {listed}"
        )
    _check_consumed(declaration)
    _check_kept(declaration)
    _check_consumer(declaration)
    if "create" in declaration.mutations and not any(each.is_settable for each in declaration.columns):
        raise DeclarationError(
            f"{declaration.where}: expected a column that clients can set, or mutations without create"
        )
    for table in (declaration.subject.table, *(pairs_table(declaration, each) for each in declaration.pairs)):
        table.info["application"] = subject.application
        if (words := words_of(table)) is not None:
            words.table.info["application"] = subject.application
    check_expressions(declaration)
    try:
        permissions.declare_of_rules(*visibility.asked_by(subject.table))
    except ValueError as error:
        raise DeclarationError(f"{declaration.where}: visible: {error}") from error


def _check_consumed(declaration: Declaration) -> None:
    summed = sorted(name for name, each in meters.known().items() if each.kind is MeterKind.SUM)
    if declaration.consumes is not None and declaration.consumes not in summed:
        raise DeclarationError(
            f"{declaration.where}: consumes: expected a meter of the kind sum, one of {', '.join(summed)}"
        )


def _check_kept(declaration: Declaration) -> None:
    if declaration.kept is None:
        return
    column = declaration.subject.table.c.get(declaration.kept)
    is_moment = column is not None and isinstance(column.type, DateTime)
    if not is_moment or declaration.kept not in declaration.ordered_by:
        raise DeclarationError(
            f"{declaration.where}: kept: expected a column with a moment and an index, such as created_at"
        )
    if declaration.plural == retention.LOG:
        raise DeclarationError(f"{declaration.where}: plural: expected another word than {retention.LOG!r}")


def _check_consumer(declaration: Declaration) -> None:
    if declaration.consumed_by is None:
        return
    member = declaration.by_column(declaration.column_of(declaration.consumed_by))
    column = None if member is None or member.annotation.type is not str else member.declared
    named = isinstance(column, Column) and column.min_length > 0 and 0 < (column.max_length or 0) <= MAX_CUSTOMER
    if declaration.consumes is None or not named:
        raise DeclarationError(
            f"{declaration.where}: consumed_by: expected consumes, and a text of 1 to {MAX_CUSTOMER} characters"
        )


def _permissions(subject: type[Subject]) -> Iterator[str]:
    """The permissions that the queries and mutations of a subject require."""
    declaration = subject.declaration
    yield declaration.permissions["read"]
    if declaration.mutations or declaration.pairs or declaration.settings:
        yield declaration.permissions["write"]
    actions = actions_of(subject)
    if declaration.owner and (declaration.mutations & {"update", "delete"} or any(changes for _, changes in actions)):
        yield declaration.permissions["manage"]
    yield from (action.permission for action, _ in actions)


def ordered(names: Iterable[str], tables: Iterable[Table]) -> Sequence[str]:
    """Applications by name in the order of their migration: each after those whose tables it refers to.

    Raises OperatorError if two refer to each other: neither could be migrated first.
    """
    before: dict[str, set[str]] = {name: set() for name in names}
    for table in tables:
        own = table.info.get("application", BUILT_IN)
        others = {key.column.table.info.get("application", BUILT_IN) for key in table.foreign_keys}
        if own in before:
            before[own] |= others - {own, BUILT_IN}
    try:
        return list(TopologicalSorter(before).static_order())
    except CycleError as error:
        names = " and ".join(sorted(set(error.args[1])))
        raise OperatorError(f"the applications {names} refer to each other: expected one to come first") from error


def _open_circles() -> None:
    """Mark the foreign keys that close a cycle of tables: they are created after all tables."""
    ordered = sort_tables_and_constraints(metadata.tables.values())  # type: ignore[no-untyped-call]  # SQLAlchemy's
    for table, keys in ordered:
        for key in keys if table is None else ():
            key.use_alter = True
