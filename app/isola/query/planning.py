"""Turns a validated operation into a read plan: the first of the compiler's three steps.

A plan is the operation's selection with everything decided that does not depend on values: fields merged, fragments
resolved for each type, ``@skip`` and ``@include`` applied. Fields with arguments become *sites*; the second step
(isola.query.arguments) reads a request's arguments at each site, the third (isola.query.statement) writes SQL.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from graphql import (
    FieldNode,
    FragmentDefinitionNode,
    GraphQLField,
    GraphQLInterfaceType,
    GraphQLList,
    GraphQLNamedType,
    GraphQLNonNull,
    GraphQLObjectType,
    GraphQLString,
    NameNode,
    OperationDefinitionNode,
    get_named_type,
)
from graphql.execution.collect_fields import FieldDetails, FragmentDetails, collect_subfields
from graphql.execution.values import VariableValues

from isola.query import arguments, mapping
from isola.query.limits import Limits
from isola.query.mapping import Lookup, Many, Model, One, Part, Value
from isola.query.read_plan import (
    Connection,
    ConnectionPart,
    Constant,
    Found,
    Grouped,
    Leaf,
    Object,
    Path,
    Place,
    ReadPlan,
    ReadPlans,
    Required,
    Selection,
    Site,
)

_Field: TypeAlias = Constant | Leaf | Object | Connection | Found


def plan(
    model: Model,
    limits: Limits,
    operation: OperationDefinitionNode,
    fragments: Mapping[str, FragmentDefinitionNode],
    conditions: Mapping[str, bool],
) -> ReadPlans:
    """The plan of an operation; ``conditions`` are the values of the variables in its ``@skip`` and ``@include``.

    Raises GraphQLError if one of them is null.
    """
    type_ = model.schema.get_root_type(operation.operation)
    if type_ is None:
        raise TypeError(f"the schema has no type for {operation.operation.value}")
    details = [FieldDetails(FieldNode(name=NameNode(value=""), selection_set=operation.selection_set), None)]
    planner = _Planner(model, limits, operation, fragments, conditions)
    if type_ is model.schema.query_type:
        return planner.plan(type_, details)
    plans: dict[str, ReadPlan] = {}
    for key, nodes in planner.collect(type_, details).items():
        name = nodes[0].node.name.value
        if name in type_.fields:
            planner = _Planner(model, limits, operation, fragments, conditions)
            plans[key] = planner.payload(type_, key, nodes)
    return plans


@dataclass
class _Planner:
    model: Model
    limits: Limits
    operation: OperationDefinitionNode
    fragments: Mapping[str, FragmentDefinitionNode]
    conditions: Mapping[str, bool]
    sites: list[Site] = field(default_factory=list)
    complete: bool = True
    required: dict[str, Place] = field(default_factory=dict)
    """The permissions that the root field being planned needs."""
    roots: dict[str, Required] = field(default_factory=dict)
    found: list[tuple[int, Mapping[str, Required]]] = field(default_factory=list)

    def plan(self, type_: GraphQLNamedType, nodes: list[FieldDetails]) -> ReadPlan:
        """The plan of a query."""
        return self._plan(type_, self._selection(type_, nodes, Place((), nodes[0].node), None))

    def payload(self, mutation: GraphQLObjectType, key: str, nodes: list[FieldDetails]) -> ReadPlan:
        """The plan of the payload of a mutation's field."""
        node = nodes[0].node
        definition = mutation.fields[node.name.value]
        type_ = get_named_type(definition.type)
        self.roots[key] = self.required
        at = Place((key,), node)
        self.require(f"{mutation.name}.{node.name.value}", at)
        if type_.name not in self.model.entities:
            # Python resolves an unmapped type completely.
            self.complete = False
            self._left(type_, nodes, at)
            selection = Selection(type_.name, ())
        else:
            selection = self._selection(type_, nodes, at, None)
        return replace(self._plan(type_, selection), called=(definition, at))

    def _plan(self, type_: GraphQLNamedType, root: Selection) -> ReadPlan:
        row = self.model.entities[type_.name].source if type_.name in self.model.entities else _NO_ROW
        if not isinstance(row, mapping.Parameters):
            raise TypeError(f"{type_} is a row of a table and cannot be the root of a statement")
        return ReadPlan(root, row, tuple(self.sites), self.complete, self.roots, self.found)

    def require(self, what: str, at: Place) -> None:
        """Record the permissions that a selected type or field needs."""
        for permission in self.model.requires.get(what, ()):
            self.required.setdefault(permission, at)

    def collect(self, type_: GraphQLObjectType, nodes: list[FieldDetails]) -> dict[str, list[FieldDetails]]:
        fragments = {name: FragmentDetails(definition) for name, definition in self.fragments.items()}
        values = VariableValues({}, dict(self.conditions))
        return collect_subfields(self.model.schema, fragments, values, self.operation, type_, nodes).grouped_field_set

    def _selection(
        self, type_: GraphQLNamedType, nodes: list[FieldDetails], at: Place, parent: int | None
    ) -> Selection:
        if not isinstance(type_, GraphQLObjectType):
            raise TypeError(f"{type_} is not an object type")
        selected: list[_Field] = []
        needed: dict[str, None] = {}
        self.require(type_.name, at)
        for key, group in self.collect(type_, nodes).items():
            below = _below(at, key, group)
            with nullcontext() if at.path else self._root(key):
                selected += self._selected(type_, key, group, below, parent, needed)
        columns = self.model.columns[type_.name]
        hidden = [
            Leaf(
                mapping.hidden(name),
                bool(columns[name].nullable),
                f"{type_.name}.{name}",
                Value(name),
                GraphQLString,
                listed=False,
            )
            for name in needed
        ]
        return Selection(type_.name, (*selected, *hidden))

    @contextmanager
    def _root(self, key: str) -> Iterator[None]:
        """Plan a root field of a query, with its own permissions, independent of other root fields."""
        common = self.required
        self.required = self.roots[key] = dict(common)
        try:
            yield
        finally:
            self.required = common

    def _selected(
        self,
        type_: GraphQLObjectType,
        key: str,
        group: list[FieldDetails],
        at: Place,
        parent: int | None,
        needed: dict[str, None],
    ) -> list[_Field]:
        """The reads for one response key; adds the columns that Python's resolvers need to ``needed``."""
        name = group[0].node.name.value
        self.require(f"{type_.name}.{name}", at)
        if name == "__typename":
            return [Constant(key, nullable=False, place=f"{type_.name}.{name}", text=type_.name)]
        if name.startswith("__"):
            self.complete = False
            return []
        if f"{type_.name}.{name}" in self.model.left:
            self.complete = False
            needed |= dict.fromkeys(self.model.left[f"{type_.name}.{name}"].columns)
            self._left(get_named_type(type_.fields[name].type), group, at)
            return []
        return [self._field(type_, name, key, group, at, parent)]

    def _field(
        self,
        type_: GraphQLObjectType,
        name: str,
        key: str,
        group: list[FieldDetails],
        at: Place,
        parent: int | None,
    ) -> _Field:
        definition = type_.fields[name]
        target = get_named_type(definition.type)
        mapped = self.model.entities[type_.name].fields[name]
        nullable = not isinstance(definition.type, GraphQLNonNull)
        place = f"{type_.name}.{name}"
        match mapped:
            case Value():
                column = self.model.columns[type_.name][mapped.of] if isinstance(mapped.of, str) else None
                longest = None if column is None else column.info.get("longest")
                return Leaf(key, nullable, place, mapped, target, _is_list(definition), longest)
            case Part() | One():
                return Object(key, nullable, place, mapped, self._selection(target, group, at, parent))
            case Many():
                return self._connection(mapped, type_, definition, key, group, at, parent)
            case Lookup():
                choices = self._possible(target)
                prefixes = {entity.prefix: each for each in choices if (entity := self.model.entities[each]).prefix}
                site = self._site(group, definition, arguments.Identified(prefixes, self.limits), parent, at.path)
                selections = {}
                needed: dict[str, Required] = {}
                required = self.required
                for each in choices:
                    self.required = {}
                    selections[each] = self._selection(self.model.schema.type_map[each], group, at, site)
                    needed[each] = self.required
                self.required = required
                abstract = isinstance(target, GraphQLInterfaceType)
                if abstract:
                    self.found.append((site, needed))
                else:
                    self.required.update({**needed[target.name], **required})
                return Found(key, nullable, place, site, _is_list(definition), selections, abstract)

    def _left(self, type_: GraphQLNamedType, nodes: list[FieldDetails], at: Place) -> None:
        """Record the permissions of fields that Python resolves."""
        if not isinstance(type_, GraphQLObjectType):
            return
        self.require(type_.name, at)
        for key, group in self.collect(type_, nodes).items():
            name = group[0].node.name.value
            if name in type_.fields:
                below = _below(at, key, group)
                self.require(f"{type_.name}.{name}", below)
                self._left(get_named_type(type_.fields[name].type), group, below)

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
        path: Path,
    ) -> int:
        self.sites.append(Site(group[0].node, definition, reader, parent, path))
        return len(self.sites) - 1

    def _connection(
        self,
        field: Many,
        type_: GraphQLObjectType,
        definition: GraphQLField,
        key: str,
        group: list[FieldDetails],
        at: Place,
        parent: int | None,
    ) -> Connection:
        connection = get_named_type(definition.type)
        node = mapping.node_type(connection)
        if node is None:
            raise TypeError(f"{connection} is not a connection")
        self.require(node.name, at)
        columns = mapping.columns_of(self.model.source(field, node.name))
        filter_type = definition.args.get("filter")
        reader = arguments.Connection(
            place=f"{type_.name}.{group[0].node.name.value}",
            filters=self.model.filters,
            filter=get_named_type(filter_type.type).name if filter_type else "",
            order=self.model.entities[node.name].order,
            types={name: column.type for name, column in columns.items()},
            languages=mapping.languages_of(columns),
            keyed=False,
            limits=self.limits,
            joined=field.join is not None,
        )
        # Add the site first: fields below refer to it as their parent. They also show whether cursors are selected.
        site = self._site(group, definition, reader, parent, at.path)
        if reached := self.model.reached.get(reader.filter):
            self.found.append((site, {each: self._of_type(each, at) for each in reached}))
        parts = self._parts(connection, group, at, site)
        walked = _walk(parts)
        names = [part.name for part in walked]
        grouped = [each for part in walked for each in part.groups if isinstance(each, Grouped)]
        self.sites[site].reader = reader._replace(keyed=not _CURSORS.isdisjoint(names))
        self.sites[site].counts = names.count("totalCount") + len(grouped)
        self.sites[site].scan = self.limits.whole_scan if field.join is None else self.limits.joined_scan
        nullable = not isinstance(definition.type, GraphQLNonNull)
        return Connection(key, nullable, reader.place, field, site, node.name, parts)

    def _of_type(self, type_: str, at: Place) -> Required:
        return dict.fromkeys(self.model.requires.get(type_, ()), at)

    def _parts(
        self, type_: GraphQLNamedType, group: list[FieldDetails], at: Place, site: int
    ) -> tuple[ConnectionPart, ...]:
        """The fields of a connection, an edge or a pageInfo: types with the same structure in every connection."""
        if not isinstance(type_, GraphQLObjectType):
            raise TypeError(f"{type_} is not an object type")
        parts = []
        self.require(type_.name, at)
        for key, nodes in self.collect(type_, group).items():
            name = nodes[0].node.name.value
            below = _below(at, key, nodes)
            self.require(f"{type_.name}.{name}", below)
            if name == "__typename":
                parts.append(ConnectionPart(key, name, type=type_.name))
                continue
            target = get_named_type(type_.fields[name].type)
            match name:
                case "node" | "nodes" | "tenant":
                    part = ConnectionPart(key, name, selection=self._selection(target, nodes, below, site))
                case "edges" | "pageInfo":
                    part = ConnectionPart(key, name, self._parts(target, nodes, below, site))
                case "groups":
                    part = ConnectionPart(key, name, groups=self._groups(type_, target, nodes, below))
                case _:
                    part = ConnectionPart(key, name)
            parts.append(part)
        return tuple(parts)

    def _groups(
        self, connection: GraphQLObjectType, type_: GraphQLNamedType, group: list[FieldDetails], at: Place
    ) -> tuple[Grouped | Constant, ...]:
        """The fields of the type of ``groups``: each counts the rows by one value."""
        node = mapping.node_type(connection)
        if not isinstance(type_, GraphQLObjectType) or node is None:
            raise TypeError(f"{type_} has no groups")
        self.require(type_.name, at)
        found: list[Grouped | Constant] = []
        for key, nodes in self.collect(type_, group).items():
            name = nodes[0].node.name.value
            place = f"{type_.name}.{name}"
            below = _below(at, key, nodes)
            self.require(place, below)
            if name == "__typename":
                found.append(Constant(key, nullable=False, place=place, text=type_.name))
                continue
            by = self.model.groupings[type_.name][name].by
            item = get_named_type(type_.fields[name].type)
            if not isinstance(item, GraphQLObjectType):
                raise TypeError(f"{item} is not an object type")
            self.require(item.name, below)
            parts = {part: given[0].node.name.value for part, given in self.collect(item, nodes).items()}
            column = self.model.columns[node.name][by.of] if isinstance(by.of, str) else None
            longest = None if column is None else column.info.get("longest")
            target = get_named_type(item.fields["value"].type)
            value = Leaf("value", nullable=True, place=place, value=by, type=target, listed=False, longest=longest)
            found.append(Grouped(key, value, item.name, tuple(parts.items())))
        return tuple(found)


def _below(at: Place, key: str, group: list[FieldDetails]) -> Place:
    return Place((*at.path, key), group[0].node)


_NO_ROW = mapping.Parameters({})
_CURSORS = {"cursor", "startCursor", "endCursor"}


def _walk(parts: tuple[ConnectionPart, ...]) -> list[ConnectionPart]:
    return [each for part in parts for each in (part, *_walk(part.parts))]


def _is_list(definition: GraphQLField) -> bool:
    type_ = definition.type.of_type if isinstance(definition.type, GraphQLNonNull) else definition.type
    return isinstance(type_, GraphQLList)
