"""From a validated operation to what has to be read: the first of the compiler's three steps.

A plan is the operation's selection with everything decided that does not depend on values: fields merged, fragments
resolved for each type, ``@skip`` and ``@include`` applied. Places with arguments become *sites*; the second step
(app.query.arguments) reads what a request gives at each, the third (app.query.statement) writes SQL.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeAlias

from graphql import (
    FieldNode,
    FragmentDefinitionNode,
    GraphQLEnumType,
    GraphQLField,
    GraphQLInterfaceType,
    GraphQLList,
    GraphQLNamedType,
    GraphQLNonNull,
    GraphQLObjectType,
    NameNode,
    OperationDefinitionNode,
    Undefined,
    VariableNode,
    Visitor,
    get_argument_values,
    get_named_type,
    visit,
)
from graphql.execution.collect_fields import FieldDetails, FragmentDetails, collect_subfields
from graphql.execution.values import VariableValues

from app.errors import Forbidden
from app.query import arguments, mapping
from app.query.arguments import Read
from app.query.limits import Limits
from app.query.mapping import Lookup, Many, Model, One, Part, Value


@dataclass(frozen=True, slots=True)
class Selected:
    key: str
    nullable: bool


@dataclass(frozen=True, slots=True)
class Constant(Selected):
    """Known without reading: ``__typename``."""

    text: str


@dataclass(frozen=True, slots=True)
class Leaf(Selected):
    value: Value
    type: GraphQLNamedType
    listed: bool


@dataclass(frozen=True, slots=True)
class Object(Selected):
    """A related row, or with a Part another view of the same row."""

    field: One | Part
    selection: "Selection"


@dataclass(frozen=True, slots=True)
class Connection(Selected):
    field: Many
    site: int
    node: str
    parts: tuple["ConnectionPart", ...]


@dataclass(frozen=True, slots=True)
class Found(Selected):
    """What ids lead to: a selection for each type that it can be."""

    site: int
    many: bool
    choices: Mapping[str, "Selection"]
    abstract: bool


@dataclass(frozen=True, slots=True)
class Selection:
    type: str
    fields: tuple["Constant | Leaf | Object | Connection | Found", ...]


@dataclass(frozen=True, slots=True)
class ConnectionPart:
    """A field of a connection, of its edges or of its pageInfo, by its name there."""

    key: str
    name: str
    parts: tuple["ConnectionPart", ...] = ()
    selection: Selection | None = None
    type: str = ""
    """What ``__typename`` says."""


@dataclass(eq=False)
class Site:
    """A field with arguments. ``parent`` is the index of the connection that it lies in, for estimates."""

    node: FieldNode
    definition: GraphQLField
    reader: arguments.Connection | arguments.Identified
    parent: int | None

    def read(self, variables: VariableValues, cursor_key: Callable[[object], bytes]) -> Read:
        if self._constant is not None:
            return self._constant
        given = self._given
        if given is None:
            given = self._by_name(variables)
        if given is None:
            given = get_argument_values(self.definition, self.node, variables)
        return self.reader.read(given, cursor_key)

    def _by_name(self, variables: VariableValues) -> dict[str, Any] | None:
        """The arguments where each is a variable by itself, which is coerced already; None for all other cases."""
        if self._names is None:
            return None
        given = {}
        for argument, variable, required in self._names:
            value = variables.coerced.get(variable, Undefined)
            if value is Undefined or value is None:
                if required:
                    return None  # graphql-core words the error
                if value is Undefined:
                    continue
            given[argument] = value
        return given

    @cached_property
    def _names(self) -> list[tuple[str, str, bool]] | None:
        """Each argument's name, its variable, and whether null is refused."""
        defined = self.definition.args
        given = self.node.arguments or ()
        if any(each.default is not None for each in defined.values()):
            return None
        if any(not isinstance(each.value, VariableNode) for each in given):
            return None
        return [
            (defined[name].out_name or name, each.value.name.value, isinstance(defined[name].type, GraphQLNonNull))
            for each in given
            for name in [each.name.value]
            if isinstance(each.value, VariableNode)
        ]

    @cached_property
    def _given(self) -> dict[str, Any] | None:
        """The arguments, where they are the same in every request."""
        return None if variables_in(self.node, deep=False) else get_argument_values(self.definition, self.node)

    @cached_property
    def _constant(self) -> Read | None:
        if self._given is None or self.reader.depends_on_caller(self._given):
            return None
        return self.reader.read(self._given, lambda _: b"")


@dataclass(eq=False)
class Plan:
    """What one statement reads. ``complete``: nothing of the selection is left for Python."""

    root: Selection
    row: mapping.Parameters
    sites: tuple[Site, ...]
    complete: bool

    @property
    def reads(self) -> bool:
        """Whether there is anything to ask the database for."""
        return any(not isinstance(field, Constant) for field in self.root.fields)


Plans: TypeAlias = Plan | Mapping[str, Plan]
"""A query's plan; a mutation has one for the payload of each of its fields, by response key."""


def plan(
    model: Model,
    limits: Limits,
    operation: OperationDefinitionNode,
    fragments: Mapping[str, FragmentDefinitionNode],
    conditions: Mapping[str, bool],
) -> Plans:
    """The plan of an operation; ``conditions`` are the values of the variables in its ``@skip`` and ``@include``.

    Raises Forbidden, naming the field's path, where something is selected that is not to be reached that way.
    """
    type_ = model.schema.get_root_type(operation.operation)
    if type_ is None:
        raise TypeError(f"the schema has no type for {operation.operation.value}")
    details = [FieldDetails(FieldNode(name=NameNode(value=""), selection_set=operation.selection_set), None)]
    planner = _Planner(model, limits, operation, fragments, conditions)
    if type_ is model.schema.query_type:
        return planner.plan(type_, details)
    plans: dict[str, Plan] = {}
    for key, nodes in planner.collect(type_, details).items():
        definition = type_.fields.get(nodes[0].node.name.value)
        payload = get_named_type(definition.type) if definition else None
        if isinstance(payload, GraphQLObjectType) and payload.name in model.entities:
            planner = _Planner(model, limits, operation, fragments, conditions)
            plans[key] = planner.plan(payload, nodes, (key,))
    return plans


def variables_in(node: Any, *, deep: bool = True) -> frozenset[str]:
    """The variables used in a node of a document; without ``deep``, only those in a field's own arguments."""
    found: set[str] = set()

    class Collect(Visitor):
        def enter_variable(self, variable: VariableNode, *_: Any) -> None:
            found.add(variable.name.value)

    for part in (node,) if deep else node.arguments or ():
        visit(part, Collect())
    return frozenset(found)


Path: TypeAlias = tuple[str, ...]


@dataclass
class _Planner:
    model: Model
    limits: Limits
    operation: OperationDefinitionNode
    fragments: Mapping[str, FragmentDefinitionNode]
    conditions: Mapping[str, bool]
    sites: list[Site] = field(default_factory=list)
    complete: bool = True

    def plan(self, type_: GraphQLObjectType, nodes: list[FieldDetails], path: Path = ()) -> Plan:
        row = self.model.entities[type_.name].source
        if not isinstance(row, mapping.Parameters):
            raise TypeError(f"{type_} is a row of a table and cannot be where a statement begins")
        root = self._selection(type_, nodes, path, None, None)
        return Plan(root, row, tuple(self.sites), self.complete)

    def collect(self, type_: GraphQLObjectType, nodes: list[FieldDetails]) -> dict[str, list[FieldDetails]]:
        fragments = {name: FragmentDetails(definition) for name, definition in self.fragments.items()}
        values = VariableValues({}, dict(self.conditions))
        return collect_subfields(self.model.schema, fragments, values, self.operation, type_, nodes).grouped_field_set

    def _selection(
        self, type_: GraphQLNamedType, nodes: list[FieldDetails], path: Path, parent: int | None, plain: str | None
    ) -> Selection:
        """``plain``: why only values can be selected here, where it is so."""
        if not isinstance(type_, GraphQLObjectType):
            raise TypeError(f"{type_} is no object type")
        selected: list[Constant | Leaf | Object | Connection | Found] = []
        for key, group in self.collect(type_, nodes).items():
            name = group[0].node.name.value
            if name == "__typename":
                selected.append(Constant(key, nullable=False, text=type_.name))
            elif name.startswith("__") or f"{type_.name}.{name}" in self.model.left:
                self.complete = False
            else:
                selected.append(self._field(type_, name, key, group, (*path, key), parent, plain))
        return Selection(type_.name, tuple(selected))

    def _field(
        self,
        type_: GraphQLObjectType,
        name: str,
        key: str,
        group: list[FieldDetails],
        path: Path,
        parent: int | None,
        plain: str | None,
    ) -> Constant | Leaf | Object | Connection | Found:
        definition = type_.fields[name]
        target = get_named_type(definition.type)
        mapped = self.model.entities[type_.name].fields[name]
        nullable = not isinstance(definition.type, GraphQLNonNull)
        if plain and not isinstance(mapped, Value):
            raise Forbidden(f"{'.'.join(path)}: {plain}")
        match mapped:
            case Value():
                return Leaf(key, nullable, mapped, target, _is_list(definition))
            case Part():
                return Object(key, nullable, mapped, self._selection(target, group, path, parent, plain))
            case One():
                return Object(key, nullable, mapped, self._selection(target, group, path, parent, mapped.plain))
            case Many():
                return self._connection(mapped, type_, definition, key, group, path, parent)
            case Lookup():
                choices = self._possible(target)
                prefixes = {entity.prefix: each for each in choices if (entity := self.model.entities[each]).prefix}
                site = self._site(group, definition, arguments.Identified(prefixes, self.limits), parent)
                selections = {
                    each: self._selection(self.model.schema.type_map[each], group, path, site, None) for each in choices
                }
                abstract = isinstance(target, GraphQLInterfaceType)
                return Found(key, nullable, site, _is_list(definition), selections, abstract)

    def _possible(self, target: GraphQLNamedType) -> list[str]:
        if isinstance(target, GraphQLInterfaceType):
            return [each.name for each in self.model.schema.get_possible_types(target)]
        return [target.name]

    def _site(
        self,
        group: list[FieldDetails],
        definition: GraphQLField,
        reader: arguments.Connection | arguments.Identified,
        parent: int | None,
    ) -> int:
        self.sites.append(Site(group[0].node, definition, reader, parent))
        return len(self.sites) - 1

    def _connection(
        self,
        field: Many,
        type_: GraphQLObjectType,
        definition: GraphQLField,
        key: str,
        group: list[FieldDetails],
        path: Path,
        parent: int | None,
    ) -> Connection:
        connection = get_named_type(definition.type)
        node = mapping.node_type(connection)
        if node is None:
            raise TypeError(f"{connection} is no connection")
        # The site comes first, so that what lies below can name it as its parent; it learns what was selected last.
        site = len(self.sites)
        self.sites.append(None)  # type: ignore[arg-type]  # it is set below
        parts = self._parts(connection, group, path, site)
        keyed = any(part.name in _CURSORS for part in _walk(parts))
        source = self.model.source(field, node.name)
        filter_type = definition.args.get("filter")
        reader = arguments.Connection(
            place=f"{type_.name}.{group[0].node.name.value}",
            filter=self.model.filters[get_named_type(filter_type.type).name] if filter_type else {},
            order=self.model.entities[node.name].order,
            types={name: column.type for name, column in mapping.columns_of(source).items()},
            keyed=keyed,
            limits=self.limits,
        )
        self.sites[site] = Site(group[0].node, definition, reader, parent)
        return Connection(key, not isinstance(definition.type, GraphQLNonNull), field, site, node.name, parts)

    def _parts(
        self, type_: GraphQLNamedType, group: list[FieldDetails], path: Path, site: int
    ) -> tuple[ConnectionPart, ...]:
        """The fields of a connection, an edge or a pageInfo: types that every connection has alike."""
        if not isinstance(type_, GraphQLObjectType):
            raise TypeError(f"{type_} is no object type")
        parts = []
        for key, nodes in self.collect(type_, group).items():
            name = nodes[0].node.name.value
            below = (*path, key)
            if name == "__typename":
                parts.append(ConnectionPart(key, name, type=type_.name))
                continue
            target = get_named_type(type_.fields[name].type)
            match name:
                case "node" | "nodes":
                    part = ConnectionPart(key, name, selection=self._selection(target, nodes, below, site, None))
                case "edges" | "pageInfo":
                    part = ConnectionPart(key, name, self._parts(target, nodes, below, site))
                case _:
                    part = ConnectionPart(key, name)
            parts.append(part)
        return tuple(parts)


_CURSORS = {"cursor", "startCursor", "endCursor"}


def _walk(parts: tuple[ConnectionPart, ...]) -> list[ConnectionPart]:
    return [each for part in parts for each in (part, *_walk(part.parts))]


def _is_list(definition: GraphQLField) -> bool:
    type_ = definition.type.of_type if isinstance(definition.type, GraphQLNonNull) else definition.type
    return isinstance(type_, GraphQLList)


def enum_names(type_: GraphQLNamedType) -> dict[str, str]:
    """The names of an enum's values, by the value that a column holds."""
    if not isinstance(type_, GraphQLEnumType):
        return {}
    return {value.value: name for name, value in type_.values.items()}
