"""From a validated operation to what has to be read: the first of the compiler's three steps.

A plan is the operation's selection with everything decided that does not depend on values: fields merged, fragments
resolved for each type, ``@skip`` and ``@include`` applied. Places with arguments become *sites*; the second step
(app.query.arguments) reads what a request gives at each, the third (app.query.statement) writes SQL.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

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

from app.errors import Forbidden
from app.query import arguments, mapping
from app.query.limits import Limits
from app.query.mapping import Lookup, Many, Model, One, Part, Value
from app.query.plan import (
    Connection,
    ConnectionPart,
    Constant,
    Found,
    Leaf,
    Object,
    Path,
    Plan,
    Plans,
    Required,
    Selection,
    Site,
)


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
        name = nodes[0].node.name.value
        if name in type_.fields:
            planner = _Planner(model, limits, operation, fragments, conditions)
            planner.require(f"{type_.name}.{name}", (key,))
            plans[key] = planner.plan(get_named_type(type_.fields[name].type), nodes, (key,))
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
    required: dict[str, Path] = field(default_factory=dict)
    found: list[tuple[int, Mapping[str, Required]]] = field(default_factory=list)

    def plan(self, type_: GraphQLNamedType, nodes: list[FieldDetails], path: Path = ()) -> Plan:
        if type_.name not in self.model.entities:
            # What is not mapped at all is left for Python as a whole.
            self._left(type_, nodes, path)
            return Plan(Selection(type_.name, ()), _NO_ROW, (), complete=False, required=self.required, found=())
        row = self.model.entities[type_.name].source
        if not isinstance(row, mapping.Parameters):
            raise TypeError(f"{type_} is a row of a table and cannot be where a statement begins")
        root = self._selection(type_, nodes, path, None, None)
        return Plan(root, row, tuple(self.sites), self.complete, self.required, self.found)

    def require(self, what: str, path: Path) -> None:
        """Note what a type or a field needs that is selected."""
        for permission in self.model.requires.get(what, ()):
            self.required.setdefault(permission, path)

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
        needed: dict[str, None] = {}
        self.require(type_.name, path)
        for key, group in self.collect(type_, nodes).items():
            name = group[0].node.name.value
            self.require(f"{type_.name}.{name}", (*path, key))
            if name == "__typename":
                selected.append(Constant(key, nullable=False, place=f"{type_.name}.{name}", text=type_.name))
            elif name.startswith("__"):
                self.complete = False
            elif f"{type_.name}.{name}" in self.model.left:
                self.complete = False
                needed |= dict.fromkeys(self.model.left[f"{type_.name}.{name}"].columns)
                self._left(get_named_type(type_.fields[name].type), group, (*path, key))
            else:
                selected.append(self._field(type_, name, key, group, (*path, key), parent, plain))
        columns = mapping.columns_of(self.model.entities[type_.name].source)
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
        place = f"{type_.name}.{name}"
        if plain and not isinstance(mapped, Value):
            raise Forbidden(f"{'.'.join(path)}: {plain}")
        match mapped:
            case Value():
                columns = mapping.columns_of(self.model.entities[type_.name].source)
                longest = columns[mapped.of].info.get("longest") if isinstance(mapped.of, str) else None
                return Leaf(key, nullable, place, mapped, target, _is_list(definition), longest)
            case Part():
                return Object(key, nullable, place, mapped, self._selection(target, group, path, parent, plain))
            case One():
                return Object(key, nullable, place, mapped, self._selection(target, group, path, parent, mapped.plain))
            case Many():
                return self._connection(mapped, type_, definition, key, group, path, parent)
            case Lookup():
                choices = self._possible(target)
                prefixes = {entity.prefix: each for each in choices if (entity := self.model.entities[each]).prefix}
                site = self._site(group, definition, arguments.Identified(prefixes, self.limits), parent)
                selections = {}
                needed: dict[str, Required] = {}
                required = self.required
                for each in choices:
                    self.required = {}
                    selections[each] = self._selection(self.model.schema.type_map[each], group, path, site, None)
                    needed[each] = self.required
                self.required = required
                abstract = isinstance(target, GraphQLInterfaceType)
                if abstract:
                    self.found.append((site, needed))
                else:
                    self.required.update({**needed[target.name], **required})
                return Found(key, nullable, place, site, _is_list(definition), selections, abstract)

    def _left(self, type_: GraphQLNamedType, nodes: list[FieldDetails], path: Path) -> None:
        """Note what is needed by what Python resolves."""
        if not isinstance(type_, GraphQLObjectType):
            return
        self.require(type_.name, path)
        for key, group in self.collect(type_, nodes).items():
            name = group[0].node.name.value
            if name in type_.fields:
                self.require(f"{type_.name}.{name}", (*path, key))
                self._left(get_named_type(type_.fields[name].type), group, (*path, key))

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
        self.require(node.name, path)
        source = self.model.source(field, node.name)
        filter_type = definition.args.get("filter")
        reader = arguments.Connection(
            place=f"{type_.name}.{group[0].node.name.value}",
            filter=self.model.filters[get_named_type(filter_type.type).name] if filter_type else {},
            order=self.model.entities[node.name].order,
            types={name: column.type for name, column in mapping.columns_of(source).items()},
            keyed=False,
            limits=self.limits,
        )
        # The site comes first: what lies below names it as its parent. Whether cursors are selected is seen there.
        site = self._site(group, definition, reader, parent)
        parts = self._parts(connection, group, path, site)
        names = [part.name for part in _walk(parts)]
        self.sites[site].reader = reader._replace(keyed=not _CURSORS.isdisjoint(names))
        self.sites[site].counts = names.count("totalCount")
        self.sites[site].scan = self.limits.whole_scan if field.join is None else self.limits.joined_scan
        nullable = not isinstance(definition.type, GraphQLNonNull)
        return Connection(key, nullable, reader.place, field, site, node.name, parts)

    def _parts(
        self, type_: GraphQLNamedType, group: list[FieldDetails], path: Path, site: int
    ) -> tuple[ConnectionPart, ...]:
        """The fields of a connection, an edge or a pageInfo: types that every connection has alike."""
        if not isinstance(type_, GraphQLObjectType):
            raise TypeError(f"{type_} is no object type")
        parts = []
        self.require(type_.name, path)
        for key, nodes in self.collect(type_, group).items():
            name = nodes[0].node.name.value
            below = (*path, key)
            self.require(f"{type_.name}.{name}", below)
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


_NO_ROW = mapping.Parameters({})
_CURSORS = {"cursor", "startCursor", "endCursor"}


def _walk(parts: tuple[ConnectionPart, ...]) -> list[ConnectionPart]:
    return [each for part in parts for each in (part, *_walk(part.parts))]


def _is_list(definition: GraphQLField) -> bool:
    type_ = definition.type.of_type if isinstance(definition.type, GraphQLNonNull) else definition.type
    return isinstance(type_, GraphQLList)
