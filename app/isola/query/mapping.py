"""Maps GraphQL types to tables: the declarations of the types, and the model built from all of them.

Expressions are built from a *row*: the columns, by name, of a scan, of the caller, or of a mutation's parameters. All
declarations are checked against the tables when the model is made, so that none can fail in a request.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, NoReturn, Protocol, TypeAlias, TypeVar

from graphql import (
    GraphQLEnumType,
    GraphQLField,
    GraphQLNamedType,
    GraphQLNonNull,
    GraphQLObjectType,
    GraphQLSchema,
    get_named_type,
    is_leaf_type,
    is_list_type,
    is_non_null_type,
)
from sqlalchemy import (
    ARRAY,
    JSON,
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    Date,
    DateTime,
    Float,
    Integer,
    Numeric,
    Table,
    Text,
    Uuid,
)
from sqlalchemy.types import TypeEngine


class Row(Protocol):
    def __getitem__(self, name: str, /) -> ColumnElement[Any]: ...


@dataclass(frozen=True, slots=True)
class Function:
    """A set-returning function, read like a table.

    ``name`` is qualified; ``arguments`` are columns of the parent row. ``one`` and ``page`` are functions that return
    some of the same rows, at a fraction of the cost.
    """

    name: str
    columns: tuple[Column[Any], ...]
    arguments: tuple[str, ...] = ()
    one: str | None = None
    """Takes an id and returns the row with it."""
    page: str | None = None
    """Returns rows in the order of the type. It takes the sort keys of the row before the first, or NULLs, and the
    most rows to return."""
    subject: str | None = None
    """The name of a subject, passed before the other arguments."""
    typed: bool = False
    """Whether it returns records, whose column types each call must specify."""
    when: Callable[[Row], ColumnElement[bool]] | None = None
    """The condition on its rows; all are read by default."""
    copies: str | None = None
    """A view with copies of the same rows. Conditions and orders reach the indexes behind it."""
    uncopied: str | None = None
    """Takes the subject and returns whether the function returns other rows than the copies: then it is read."""
    share: str | None = None
    """The column with the id of the share that grants the row, if other tenants share the rows: reads of them are
    counted."""


@dataclass(frozen=True, slots=True)
class View:
    """A view that the platform has outside of the homes: its rows are the caller's, whatever the placement.

    ``name`` is qualified. Conditions and orders reach the indexes behind it.
    """

    name: str
    columns: tuple[Column[Any], ...]
    when: Callable[[Row], ColumnElement[bool]] | None = None
    """The condition on its rows; all are read by default."""


@dataclass(frozen=True, slots=True)
class Parameters:
    """A row passed as parameters instead of being read: the caller, or the values from a mutation."""

    columns: Mapping[str, TypeEngine[Any]]


Source: TypeAlias = Table | View | Function | Parameters
Order: TypeAlias = tuple[tuple[str, bool], ...]
"""Columns, and whether each descends."""


@dataclass(frozen=True, slots=True)
class Value:
    """A leaf: a column by its name, or an SQL expression. ``prefix`` turns a UUID into a typed id."""

    of: str | Callable[[Row], ColumnElement[Any]]
    prefix: str | None = None


@dataclass(frozen=True, slots=True)
class Part:
    """An object stored in the same row, under other column names (the object's name: the row's name)."""

    columns: Mapping[str, str]
    unless_null: str | None = None
    """The column of the row without which there is no object."""


@dataclass(frozen=True, slots=True)
class Join:
    """``child`` column = ``parent`` column. With ``through``: joined by a table of pairs."""

    parent: str
    child: str = "id"
    through: Table | None = None
    near: str = ""
    far: str = ""


@dataclass(frozen=True, slots=True)
class One:
    """A relation to at most one row."""

    join: Join | None = None
    source: Function | View | None = None


@dataclass(frozen=True, slots=True)
class Many:
    """A relation to many rows, as a connection; or to all rows of a source, without a join."""

    join: Join | None = None
    source: Function | View | None = None
    when: Callable[[Row], ColumnElement[bool]] | None = None
    """The condition on the parent row under which its related rows are visible; otherwise the connection is empty."""


@dataclass(frozen=True, slots=True)
class Grouping:
    """The numbers of the rows of a connection by a value of each."""

    by: Value


@dataclass(frozen=True, slots=True)
class Lookup:
    """The object with the argument ``id``, or the objects with the argument ``ids``."""


@dataclass(frozen=True, slots=True)
class Needs:
    """A field that Python computes, and the columns that it needs."""

    columns: tuple[str, ...]


Field: TypeAlias = Value | Part | One | Many | Lookup


@dataclass(frozen=True, slots=True)
class Entity:
    """The mapping of one object type. ``fields`` are by their GraphQL names."""

    source: Source
    fields: Mapping[str, Field]
    prefix: str | None = None
    order: Order = (("id", False),)


@dataclass(frozen=True, slots=True)
class Comparison:
    """The column that a filter's field compares; with a prefix, it contains the keys of typed ids.

    ``folded`` is the column with its texts as ``isola.subjects.folding`` has them, for comparisons without regard to
    case and accents.
    """

    column: str
    prefix: str | None = None
    folded: str | None = None
    indexed: bool = False
    """Whether an index serves it."""
    document: bool = False
    """Whether it compares values inside of JSON documents."""
    of: Callable[[Row], ColumnElement[Any]] | None = field(default=None, repr=False)
    """What it compares instead of the column: an expression of the row."""
    visible: Callable[[Row], ColumnElement[bool]] | None = field(default=None, repr=False)
    """Of a reference: whether the caller may see the row that it refers to. One that they may not see is like NULL."""

    @property
    def slow(self) -> bool:
        """Whether each row has to be read for it, so that others have to narrow the rows first."""
        return self.document or self.of is not None


@dataclass(frozen=True, slots=True)
class Related:
    """The related rows that a filter's field compares: those of ``type``, by the filter of that type.

    With ``many``, the field says whether some or none of the rows satisfy the filter.
    """

    join: Join
    type: str
    filter: str
    many: bool = False


@dataclass(frozen=True, slots=True)
class Searched:
    """The words that a filter's field finds: the rows of ``words`` with the row's id in ``key``.

    The words of a search are made by the same ``configuration`` of PostgreSQL's text search.
    """

    words: Table
    key: str
    configuration: str


Filter: TypeAlias = Mapping[str, Comparison | Related | Searched]


class MappingError(Exception):
    """An invalid mapping: the message names the field and the error."""


def hidden(column: str) -> str:
    """The key of a column that only Python needs. No response key contains a colon."""
    return f":{column}"


def columns_of(source: Source) -> Mapping[str, Column[Any]]:
    match source:
        case Table():
            return {column.name: column for column in source.columns}
        case Function() | View():
            return {column.name: column for column in source.columns}
        case Parameters():
            return {name: Column(name, type_, nullable=False) for name, type_ in source.columns.items()}


def languages_of(columns: Mapping[str, Column[Any]]) -> Mapping[str, Mapping[str, str]]:
    """By column and language, the column that is sorted by the rules of the language."""
    found: dict[str, Mapping[str, str]] = {}
    for name, column in columns.items():
        languages = column.info.get("languages", {})
        if kept := {language: each for language, each in languages.items() if each in columns}:
            found[name] = kept
    return found


# The column types whose JSON text is valid for a GraphQL type. An enum accepts any column type.
_FITS: dict[str, tuple[type[TypeEngine[Any]], ...]] = {
    "ID": (Uuid,),
    "String": (Text,),
    "Int": (Integer,),
    "BigInt": (BigInteger, Integer),
    "Float": (Float,),
    "Decimal": (Numeric,),
    "Date": (Date,),
    "UUID": (Uuid,),
    "Boolean": (Boolean,),
    "DateTime": (DateTime,),
    "JSON": (JSON,),
}


class Model:
    """Every mapped type of a schema.

    Raises MappingError if a declaration does not match its table or its GraphQL type.
    """

    def __init__(
        self,
        schema: GraphQLSchema,
        entities: Mapping[str, Entity],
        filters: Mapping[str, Filter],
        left: Mapping[str, Needs],
        requires: Mapping[str, Sequence[str]] = MappingProxyType({}),
        groupings: Mapping[str, Mapping[str, Grouping]] = MappingProxyType({}),
    ) -> None:
        """``left`` are the fields (``Type.field``) with a custom resolver, and the columns that it needs.

        ``requires`` has the permissions and features that a type (``Type``) or a field (``Type.field``) needs.
        ``groupings`` are by the types of the field ``groups`` of connections, and by their fields.
        """
        self.schema = schema
        self.entities = entities
        self.filters = filters
        self.left = left
        self.requires = requires
        self.groupings = groupings
        self.columns = {name: columns_of(entity.source) for name, entity in entities.items()}
        self.comparisons: dict[tuple[str, str], Comparison] = {}
        """Comparisons that need more than their column, by the type of the rows and the name of the column."""
        self.reached = {name: _reached(filters, name) for name in filters}
        """The types whose rows a filter can compare, beyond its own, by the name of the filter."""
        self.by_prefix = {entity.prefix: name for name, entity in entities.items() if entity.prefix}
        for where, needs in left.items():
            for column in needs.columns:
                _column(columns_of(entities[where.partition(".")[0]].source), column, where)
        for name, entity in entities.items():
            self._check(name, entity)

    def source(self, field: One | Many, target: str) -> Source:
        return field.source or self.entities[target].source

    def _check(self, name: str, entity: Entity) -> None:
        type_ = self.schema.type_map[name]
        if not isinstance(type_, GraphQLObjectType):
            _refuse(name, "is no object type")
        columns = columns_of(entity.source)
        if not isinstance(entity.source, Parameters):
            for column, _ in entity.order:
                _column(columns, column, f"{name} (default order)")
        for field_name, graphql_field in type_.fields.items():
            where = f"{name}.{field_name}"
            if where in self.left:
                continue
            field = entity.fields.get(field_name)
            if field is None:
                _refuse(where, "has neither a mapping nor a resolver")
            self._check_field(where, field, graphql_field, columns)
        for field_name in entity.fields.keys() - type_.fields.keys():
            _refuse(f"{name}.{field_name}", "is mapped but is not a field of the type")

    def _check_field(
        self, where: str, field: Field, graphql_field: GraphQLField, columns: Mapping[str, Column[Any]]
    ) -> None:
        target = get_named_type(graphql_field.type)
        match field:
            case Value():
                _check_value(where, field, graphql_field, columns)
            case Part():
                self._check_part(where, field, graphql_field, columns)
            case One():
                self._entity(where, target)
                self._check_relation(where, field, target.name, columns)
            case Many():
                node = node_type(target)
                if node is None:
                    _refuse(where, f"is mapped as a connection, but {target} is none")
                self._entity(where, node)
                self._check_relation(where, field, node.name, columns)
                there = columns_of(self.source(field, node.name))
                self._check_arguments(where, graphql_field, there, node.name)
                self._check_groups(where, target, there)
            case Lookup():
                if not {"id", "ids"} & graphql_field.args.keys():
                    _refuse(where, "looks up by id but takes neither id nor ids")

    def _check_part(
        self, where: str, field: Part, graphql_field: GraphQLField, columns: Mapping[str, Column[Any]]
    ) -> None:
        target = get_named_type(graphql_field.type)
        part = self._entity(where, target)
        for own, other in field.columns.items():
            _column(columns_of(part.source), own, where)
            _column(columns, other, where)
        if field.unless_null is not None:
            _column(columns, field.unless_null, where)
            if isinstance(graphql_field.type, GraphQLNonNull):
                _refuse(where, "is mapped as an object that may be missing, but is never null")
        self._check_needed(where, target.name, field.columns)

    def _check_needed(self, where: str, target: str, columns: Mapping[str, object]) -> None:
        """Every source of a type must have the columns that its Python-computed fields need."""
        for left, needs in self.left.items():
            if left.startswith(f"{target}."):
                for column in needs.columns:
                    _column(columns, column, f"{where} ({left})")

    def _entity(self, where: str, target: GraphQLNamedType) -> Entity:
        if target.name not in self.entities:
            _refuse(where, f"leads to {target}, which is not mapped")
        return self.entities[target.name]

    def _check_relation(self, where: str, field: One | Many, target: str, columns: Mapping[str, Column[Any]]) -> None:
        there = columns_of(self.source(field, target))
        self._check_needed(where, target, there)
        if field.join:
            self._check_join(where, field.join, columns, there)
        if field.source:
            for argument in field.source.arguments if isinstance(field.source, Function) else ():
                _column(columns, argument, where)
            usual = columns_of(self.entities[target].source)
            for name, value in self.entities[target].fields.items():
                if isinstance(value, Value) and isinstance(value.of, str):
                    column = _column(there, value.of, f"{where} ({target}.{name})")
                    if column.nullable and not usual[value.of].nullable:
                        _refuse(where, f"column {column.name} can be null in {field.source.name}, not in {target}")
        if isinstance(field, One) and field.join is None and field.source is None:
            _refuse(where, "declares neither a join nor a source")
        if isinstance(field, Many):
            _column(there, "id", where)

    def _check_join(
        self, where: str, join: Join, columns: Mapping[str, Column[Any]], there: Mapping[str, Column[Any]]
    ) -> None:
        _column(columns, join.parent, where)
        _column(there, join.child, where)
        if join.through is not None:
            pairs = columns_of(join.through)
            _column(pairs, join.near, where)
            _column(pairs, join.far, where)

    def _check_groups(self, where: str, connection: GraphQLNamedType, columns: Mapping[str, Column[Any]]) -> None:
        fields = connection.fields if isinstance(connection, GraphQLObjectType) else {}
        if "groups" not in fields:
            return
        groups = get_named_type(fields["groups"].type)
        for name, grouping in self.groupings[groups.name].items():
            if isinstance(grouping.by.of, str):
                _column(columns, grouping.by.of, f"{where} ({groups}.{name})")
            else:
                _check_expression(f"{where} ({groups}.{name})", grouping.by.of, columns)

    def _check_arguments(
        self, where: str, graphql_field: GraphQLField, columns: Mapping[str, Column[Any]], node: str
    ) -> None:
        if argument := graphql_field.args.get("filter"):
            self._check_filter(where, get_named_type(argument.type).name, node, columns, set())
        if argument := graphql_field.args.get("orderBy"):
            field = getattr(get_named_type(argument.type), "fields", {}).get("field")
            enum = get_named_type(field.type) if field else None
            if not isinstance(enum, GraphQLEnumType):
                _refuse(where, "has an order that names no fields")
            for name, value in enum.values.items():
                _column(columns, value.value, f"{enum}.{name}")

    def _check_filter(
        self, where: str, name: str, node: str, columns: Mapping[str, Column[Any]], checked: set[str]
    ) -> None:
        """Check a filter of rows of ``node`` against their columns, and the filters that it leads to."""
        if name not in self.filters:
            _refuse(where, f"is filtered by {name}, which is not mapped")
        checked.add(name)
        for field_name, compared in self.filters[name].items():
            path = f"{name}.{field_name}"
            if isinstance(compared, Comparison):
                if compared.of is None:
                    _column(columns, compared.column, path)
                if compared.folded is not None:
                    _column(columns, compared.folded, path)
                if compared.of or compared.visible:
                    self.comparisons[node, compared.column] = compared
                continue
            if isinstance(compared, Searched):
                _column(columns, "id", path)
                _column(columns_of(compared.words), compared.key, path)
                continue
            entity = self.entities.get(compared.type)
            if entity is None or not isinstance(entity.source, Table):
                _refuse(path, f"compares rows of {compared.type}, which is not read from a table")
            there = columns_of(entity.source)
            self._check_join(path, compared.join, columns, there)
            if compared.filter not in checked:
                self._check_filter(path, compared.filter, compared.type, there, checked)


def _reached(filters: Mapping[str, Filter], name: str, known: frozenset[str] = frozenset()) -> frozenset[str]:
    for compared in filters.get(name, {}).values():
        if isinstance(compared, Related) and compared.type not in known:
            known = _reached(filters, compared.filter, known | {compared.type})
    return known


def node_type(connection: GraphQLNamedType) -> GraphQLNamedType | None:
    """The node type of a connection type; None for any other type."""
    if not connection.name.endswith("Connection") or not isinstance(connection, GraphQLObjectType):
        return None
    nodes = connection.fields.get("nodes")
    return get_named_type(nodes.type) if nodes else None


def _check_value(where: str, field: Value, graphql_field: GraphQLField, columns: Mapping[str, Column[Any]]) -> None:
    leaf = get_named_type(graphql_field.type)
    if not is_leaf_type(leaf):
        _refuse(where, f"is mapped as a value, but {leaf} has fields")
    if (field.prefix is None) == (leaf.name == "ID"):
        _refuse(where, "is an ID without a prefix" if leaf.name == "ID" else "has a prefix but is not an ID")
    if not isinstance(field.of, str):
        _check_expression(where, field.of, columns)
        return
    column = _column(columns, field.of, where)
    type_ = column.type
    nullable_type = graphql_field.type.of_type if is_non_null_type(graphql_field.type) else graphql_field.type
    if is_list_type(nullable_type) and isinstance(type_, ARRAY):
        type_ = type_.item_type
    if not isinstance(type_, (Text,) if isinstance(leaf, GraphQLEnumType) else _FITS.get(leaf.name, ())):
        _refuse(where, f"is {leaf}, but column {column.name} is {column.type!r}")
    if leaf.name == "Int" and isinstance(type_, BigInteger):
        _refuse(where, f"is Int, but column {column.name} holds larger numbers: use BigInt")
    if column.nullable and is_non_null_type(graphql_field.type):
        _refuse(where, f"is never null, but column {column.name} can be")


def _check_expression(where: str, of: Callable[[Row], ColumnElement[Any]], columns: Mapping[str, Column[Any]]) -> None:
    try:
        made = of(columns)
    except KeyError as error:
        _refuse(where, f"there is no column {error}; there are {', '.join(columns)}")
    if not isinstance(made, ColumnElement):
        _refuse(where, "expected SQL of the row's columns")


T = TypeVar("T")


def _column(columns: Mapping[str, T], name: str, where: str) -> T:
    if name not in columns:
        _refuse(where, f"there is no column {name}; there are {', '.join(columns)}")
    return columns[name]


def _refuse(where: str, what: str) -> NoReturn:
    raise MappingError(f"{where}: {what}")
