"""The migration history of an application: replayed without a database, and compared with the current declarations.

Alembic reads the revisions and writes new ones. Its own comparison needs a database, and ignores checks and triggers:
so this module replays revisions into SQLAlchemy tables and compares these with the declared tables.
"""

import re
import textwrap
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from alembic.autogenerate import render_python_code
from alembic.config import Config
from alembic.operations import MigrateOperation, Operations, ops
from alembic.runtime.migration import MigrationContext
from alembic.script import Script, ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import (
    CheckConstraint,
    Column,
    Computed,
    Constraint,
    ForeignKeyConstraint,
    Index,
    MetaData,
    Table,
    UniqueConstraint,
    text as sql_text,
)
from sqlalchemy.types import TypeEngine

from isola.subjects import audit, meters, search
from isola.subjects.applications import Application
from isola.subjects.declaration import DeclarationError
from isola.subjects.metadata import DIALECT, metadata, verbatim

_WRITTEN = {"audit": "writes the log", "words": "keeps words", "usage": "consumes a meter"}
_TRIGGER = re.compile(r"(CREATE|DROP) TRIGGER (\w+) .*?\bON (\w+)", re.DOTALL)


@dataclass
class Tables:
    """Tables and the triggers on them, each trigger by its table and name."""

    metadata: MetaData = field(default_factory=lambda: MetaData(naming_convention=metadata.naming_convention))
    triggers: dict[tuple[str, str], str] = field(default_factory=dict)


def replay(application: Application) -> Tables:
    """The tables that an application's revisions produce. Raises DeclarationError for an unsupported operation."""
    made = Tables()
    context = MigrationContext.configure(
        dialect_name="postgresql", opts={"as_sql": True, "target_metadata": made.metadata}
    )
    recorder = _Recorder(context, made)
    for script in revisions(application):
        try:
            script.module.upgrade(recorder)
        except DeclarationError as error:
            raise DeclarationError(f"revision {script.revision}: {error}") from error
        except Exception as error:
            # Third-party code can raise anything.
            raise DeclarationError(f"revision {script.revision}: {type(error).__name__}: {error}") from error
    return made


def revisions(application: Application) -> Sequence[Script]:
    """The revisions of an application in order. Raises DeclarationError for an invalid history."""
    directory = scripts(application)
    newest(directory)
    return list(directory.walk_revisions())[::-1]


def newest(directory: ScriptDirectory) -> str | None:
    """The newest revision in a directory; None if there is none. Raises DeclarationError for an invalid history."""
    try:
        with warnings.catch_warnings():
            # For a duplicate revision, Alembic only warns and uses one of the two.
            warnings.simplefilter("error", UserWarning)
            heads = directory.get_heads()
    except KeyError as error:
        raise DeclarationError(f"the history cannot be read: there is no revision {error}") from error
    except (CommandError, ImportError, SyntaxError, OSError, UserWarning) as error:
        raise DeclarationError(f"the history cannot be read: {error}") from error
    if len(heads) > 1:
        files = " and ".join(sorted(Path(script.path).name for script in directory.get_revisions(heads) if script))
        raise DeclarationError(f"the history has several newest revisions, {files}: expected one to follow the other")
    return heads[0] if heads else None


def scripts(application: Application) -> ScriptDirectory:
    """The revisions of an application, as Alembic reads them. Raises DeclarationError if it has no folder."""
    config = Config()
    config.set_main_option("script_location", str(application.migrations))
    config.set_main_option("version_locations", str(application.migrations))
    config.set_main_option("path_separator", "newline")
    try:
        return ScriptDirectory.from_config(config)
    except CommandError as error:
        raise DeclarationError(f"the history cannot be read: {error}") from error


def differences(application: Application) -> Sequence[MigrateOperation]:
    """The operations that migrate an application from its history to its declarations.

    Raises DeclarationError for a new column for which existing rows would have no value.
    """
    made = replay(application)
    declared = {table.name: table for table in application.tables}
    triggers = dict(_declared_triggers(declared.values()))
    return [
        # First: PostgreSQL refuses to drop a column that a trigger compares.
        *_dropped_triggers(triggers, made.triggers, declared),
        *_tables(declared, made.metadata.tables),
        *(
            ops.ExecuteSQLOp(text)
            for key, text in triggers.items()
            if _spaced(made.triggers.get(key, "")) != _spaced(text)
        ),
        *_filled(declared.values(), made),
    ]


def described(operation: MigrateOperation) -> str:
    """An operation in words, for an error."""
    name = type(operation).__name__.removesuffix("Op")
    verb = re.sub("(?<=[a-z])([A-Z])", r" \1", name).lower()
    if isinstance(operation, ops.ExecuteSQLOp):
        matched = _TRIGGER.match(str(operation.sqltext))
        if matched is None:
            return verb
        writes = _WRITTEN[matched[2].partition("_")[0]]
        return f"{matched[1].lower()} trigger {matched[2]} of {matched[3]}, which {writes}"
    table = getattr(operation, "table_name", "")
    part = getattr(operation, "column_name", None) or getattr(getattr(operation, "column", None), "name", None)
    part = part or getattr(operation, "index_name", None) or getattr(operation, "constraint_name", None)
    return f"{verb} {table}{f'.{part}' if part else ''}"


def source(operations: Sequence[MigrateOperation], *, revision: str, after: str | None, message: str) -> str:
    """The text of a revision that carries out operations."""
    code = render_python_code(ops.UpgradeOps(list(operations)), render_as_batch=False)
    # In Python source, a backslash is written as two.
    code = verbatim(code).replace("\\:", "\\\\:")
    code = re.sub(r"JSONB\((none_as_null=True, )?astext_type=Text\(\)\)", "JSONB()", code)
    lines = [line.rstrip() for line in code.splitlines() if line.strip() and not line.strip().startswith("#")]
    body = textwrap.indent(textwrap.dedent("\n".join(lines)), "    ")
    dialect = "from sqlalchemy.dialects import postgresql\n" if "postgresql." in body else ""
    import_ = "import sqlalchemy as sa\n" if "sa." in body else ""
    return (
        f'"""{message}."""\n\n{import_}from alembic.operations import Operations\n{dialect}\n'
        f'revision = "{revision}"\ndown_revision = {f"{chr(34)}{after}{chr(34)}" if after else None}\n\n\n'
        f"def upgrade(op: Operations) -> None:\n{body}\n"
    )


class _Recorder(Operations):
    """Applies operations to SQLAlchemy tables."""

    def __init__(self, context: MigrationContext, made: Tables) -> None:
        super().__init__(context)
        self._made = made

    def invoke(self, operation: MigrateOperation) -> Any:
        try:
            self._record(operation)
        except (KeyError, StopIteration) as error:
            raise DeclarationError(f"{described(operation)}: it does not exist at that point") from error

    def _record(self, operation: MigrateOperation) -> None:  # noqa: C901  one case for each operation
        tables = self._made.metadata.tables
        match operation:
            case ops.CreateTableOp():
                operation.to_table(self.migration_context).to_metadata(self._made.metadata)
            case ops.DropTableOp():
                self._made.metadata.remove(tables[operation.table_name])
                for key in [each for each in self._made.triggers if each[0] == operation.table_name]:
                    del self._made.triggers[key]
            case ops.AddColumnOp(column=column):
                tables[operation.table_name].append_column(column._copy())  # noqa: SLF001  no public way to copy one
            case ops.DropColumnOp():
                _forget_column(tables[operation.table_name], operation.column_name)
            case ops.AlterColumnOp():
                _alter(tables[operation.table_name], operation)
            case ops.CreateIndexOp():
                table = tables[operation.table_name]
                Index(
                    operation.index_name, *(table.c[str(name)] for name in operation.columns), unique=operation.unique
                )
            case ops.DropIndexOp():
                _forget_index(tables[str(operation.table_name)], str(operation.index_name))
            case ops.CreateUniqueConstraintOp() | ops.CreateCheckConstraintOp() | ops.CreateForeignKeyOp():
                copied = operation.to_constraint(self.migration_context)
                name = operation.source_table if isinstance(operation, ops.CreateForeignKeyOp) else operation.table_name
                tables[name].append_constraint(copied._copy())  # noqa: SLF001  no public way to copy one
            case ops.DropConstraintOp():
                _forget_constraint(tables[operation.table_name], str(operation.constraint_name))
            case ops.ExecuteSQLOp():
                self._execute(str(operation.sqltext))
            case _:
                raise DeclarationError(f"{type(operation).__name__}: this operation has no form for all strategies")

    def _execute(self, statement: str) -> None:
        matched = _TRIGGER.match(statement)
        if matched and matched[1] == "CREATE":
            self._made.triggers[matched[3], matched[2]] = statement
        elif matched:
            self._made.triggers.pop((matched[3], matched[2]), None)


def _forget_column(table: Table, name: str) -> None:
    column = table.c[name]
    for index in [each for each in table.indexes if name in each.columns]:
        table.indexes.remove(index)
    for constraint in [each for each in table.constraints if _involves(each, name)]:
        table.constraints.remove(constraint)
    table._columns.remove(column)  # noqa: SLF001  SQLAlchemy has no public way


def _involves(constraint: Constraint, column: str) -> bool:
    """Whether PostgreSQL drops a constraint together with a column."""
    if isinstance(constraint, CheckConstraint):
        return re.search(rf"\b{column}\b", str(constraint.sqltext)) is not None
    return column in getattr(constraint, "columns", {})


def _forget_index(table: Table, name: str) -> None:
    table.indexes.remove(next(each for each in table.indexes if each.name == name))


def _forget_constraint(table: Table, name: str) -> None:
    table.constraints.remove(next(each for each in table.constraints if _name(each) == name))


def _alter(table: Table, operation: ops.AlterColumnOp) -> None:
    column = table.c[operation.column_name]
    if operation.modify_nullable is not None:
        column.nullable = operation.modify_nullable
    if operation.modify_type is not None:
        column.type = operation.modify_type
    if operation.modify_server_default is not False:
        default = operation.modify_server_default
        column.server_default = (
            None if default is None else Column("x", column.type, server_default=default).server_default
        )
    if operation.modify_name is not None:
        _rename(table, operation.column_name, operation.modify_name)


def _rename(table: Table, old: str, new: str) -> None:
    """Rename a column. Constraints and indexes on it keep their names, as in PostgreSQL."""
    for constraint in table.constraints:
        constraint.name = _name(constraint)
        if isinstance(constraint, CheckConstraint):
            constraint.sqltext = sql_text(re.sub(rf"\b{old}\b", new, str(constraint.sqltext)))
    column = table.c[old]
    table._columns.remove(column)  # noqa: SLF001  SQLAlchemy has no public way
    column.key = column.name = new
    table._columns.add(column)  # noqa: SLF001  SQLAlchemy has no public way


def _tables(declared: Mapping[str, Table], made: Mapping[str, Table]) -> Iterator[MigrateOperation]:
    for name, table in declared.items():
        if name not in made:
            yield _created(table)
            yield from (ops.CreateIndexOp.from_index(each) for each in _sorted(table.indexes))
        else:
            yield from _changed(table, made[name])
    for table in (table for name, table in declared.items() if name not in made):
        yield from (ops.AddConstraintOp.from_constraint(each) for each in _sorted(table.constraints) if _is_later(each))
    gone = [made[name] for name in sorted(made.keys() - declared.keys(), reverse=True)]
    for table in gone:
        # A table cannot be dropped while another references it.
        yield from (ops.DropConstraintOp(_name(each), table.name) for each in _sorted(table.foreign_key_constraints))
    yield from (ops.DropTableOp.from_table(table) for table in gone)


def _created(table: Table) -> MigrateOperation:
    operation = ops.CreateTableOp.from_table(table)
    # A table's ``info`` is no part of the migration.
    operation.info = {}
    operation.columns = [each for each in operation.columns if not _is_later(each)]
    return operation


def _is_later(item: Any) -> bool:
    """Whether an item of a table is a foreign key that closes a cycle: it is created after the other tables."""
    return isinstance(item, ForeignKeyConstraint) and item.use_alter


def _changed(declared: Table, made: Table) -> Iterator[MigrateOperation]:
    """The operations on one table: drops first, then additions. Forgets the columns of ``made`` that it replaces."""
    for name in [each.name for each in made.columns if _is_computed_otherwise(each, declared.columns.get(each.name))]:
        # Not altered: PostgreSQL can do that only since version 17. Its constraints and indexes go with it.
        yield ops.DropColumnOp(made.name, name)
        _forget_column(made, name)
    expected, actual = _constraints(declared), _constraints(made)
    indexes, actual_indexes = _indexes(declared), _indexes(made)
    for index in _sorted(made.indexes):
        if indexes.get(_name(index)) != _index(index):
            yield ops.DropIndexOp.from_index(index)
    yield from (ops.DropConstraintOp(name, made.name) for name in actual if expected.get(name) != actual[name])
    yield from (ops.DropColumnOp(made.name, each.name) for each in made.columns if each.name not in declared.columns)
    for column in declared.columns:
        yield from _altered(column, made.columns[column.name]) if column.name in made.columns else [_added(column)]
    for constraint in _sorted(declared.constraints):
        if actual.get(_name(constraint)) != expected[_name(constraint)]:
            yield ops.AddConstraintOp.from_constraint(constraint)
    for index in _sorted(declared.indexes):
        if actual_indexes.get(_name(index)) != _index(index):
            yield ops.CreateIndexOp.from_index(index)


def _is_computed_otherwise(made: Column[Any], declared: Column[Any] | None) -> bool:
    if declared is None or (declared.computed is None and made.computed is None):
        return False
    return _default(declared) != _default(made)


def _added(column: Column[Any]) -> MigrateOperation:
    if not column.nullable and column.server_default is None:
        raise DeclarationError(
            f"{column.table.name}.{column.name}: expected a default, or a column that can be None: existing rows "
            "need a value"
        )
    computed = column.computed
    plain: Column[Any] = Column(
        column.name,
        column.type,
        *([] if computed is None else [Computed(computed.sqltext, persisted=computed.persisted)]),
        nullable=column.nullable,
        server_default=None if computed is not None else column.server_default,
    )
    return ops.AddColumnOp(column.table.name, plain)


def _altered(declared: Column[Any], made: Column[Any]) -> Iterator[MigrateOperation]:
    changes: dict[str, Any] = {}
    if _type(declared.type) != _type(made.type):
        changes |= {"modify_type": declared.type, "existing_type": made.type}
    if declared.nullable != made.nullable:
        changes |= {"modify_nullable": declared.nullable}
    if _default(declared) != _default(made):
        changes |= {"modify_server_default": declared.server_default}
    if changes:
        yield ops.AlterColumnOp(made.table.name, made.name, **{"existing_type": made.type, **changes})


def triggers_of(table: Table) -> Sequence[str]:
    """The statements that create all triggers of a table."""
    own: Sequence[str] = table.info.get("triggers", ())
    return [*audit.triggers(table), *search.triggers(table), *meters.triggers(table), *own]


def _declared_triggers(tables: Any) -> Iterator[tuple[tuple[str, str], str]]:
    for table in tables:
        for text in triggers_of(table):
            matched = _TRIGGER.match(text)
            if matched:
                yield (matched[3], matched[2]), text


def _dropped_triggers(
    declared: Mapping[tuple[str, str], str], made: Mapping[tuple[str, str], str], tables: Mapping[str, Table]
) -> Iterator[MigrateOperation]:
    for (table, name), text in made.items():
        if table in tables and _spaced(declared.get((table, name), "")) != _spaced(text):
            yield ops.ExecuteSQLOp(f"DROP TRIGGER {name} ON {table}")


def _filled(tables: Iterable[Table], made: Tables) -> Iterator[MigrateOperation]:
    """The statements that make the words of tables anew that were there before, and are searched now or otherwise."""
    for table in tables:
        statement = search.fill(table)
        if (
            statement is not None
            and table.name in made.metadata.tables
            and any(
                _spaced(made.triggers.get((table.name, _trigger(text)), "")) != _spaced(text)
                for text in search.triggers(table)
            )
        ):
            yield ops.ExecuteSQLOp(statement)


def _trigger(text: str) -> str:
    """The name of the trigger that a statement creates."""
    matched = _TRIGGER.match(text)
    return matched[2] if matched else ""


def _spaced(text: str) -> str:
    return " ".join(text.split())


def _sorted(items: Any) -> list[Any]:
    return sorted(items, key=_name)


def _name(item: Constraint | Index) -> str:
    """A constraint's full name, by the naming convention."""
    if isinstance(item, Constraint):
        return str(DIALECT.identifier_preparer.format_constraint(item)).strip('"')
    return str(item.name)


def _constraints(table: Table) -> Mapping[str, str]:
    """The definition of each constraint, by its name."""
    return {_name(each): _describe(each) for each in _sorted(table.constraints)}


def _describe(constraint: Constraint) -> str:
    match constraint:
        case CheckConstraint():
            return f"CHECK {_spaced(str(constraint.sqltext))}"
        case ForeignKeyConstraint():
            targets = [each.target_fullname for each in constraint.elements]
            rule = (constraint.ondelete, bool(constraint.deferrable))
            return f"FOREIGN KEY {constraint.column_keys} {targets} {rule}"
        case UniqueConstraint():
            return f"UNIQUE {list(constraint.columns.keys())}"
        case _:
            return f"KEY {list(getattr(constraint, 'columns', {}).keys())}"


def _indexes(table: Table) -> Mapping[str, tuple[Sequence[str], bool]]:
    return {_name(each): _index(each) for each in table.indexes}


def _index(index: Index) -> tuple[Sequence[str], bool]:
    return [column.name for column in index.columns], bool(index.unique)


def _type(type_: TypeEngine[Any]) -> str:
    return str(type_.compile(DIALECT))


def _default(column: Column[Any]) -> str | None:
    if column.computed is not None:
        return f"computed: {column.computed.sqltext}"
    default = column.server_default
    return None if default is None else str(getattr(default, "arg", default))
