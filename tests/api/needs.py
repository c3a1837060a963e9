"""The permissions that each root field of a query needs, from the contract alone: a check of the compiler."""

from collections.abc import Iterator, Mapping
from typing import Any

from graphql import (
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLInputObjectType,
    GraphQLInterfaceType,
    InlineFragmentNode,
    OperationDefinitionNode,
    SelectionNode,
    SelectionSetNode,
    get_named_type,
    parse,
    value_from_ast_untyped,
)

from tests.api.reference import ID, PREFIXES, SCHEMA
from tests.api.test_access import TYPES, declared, named

NODES = {each.name for each in SCHEMA.get_possible_types(SCHEMA.type_map["Node"])}  # type: ignore[arg-type]  # an interface
FOUND = {prefix: type_ for type_, prefix in PREFIXES.items() if type_ in NODES}


class _Document:
    def __init__(self, text: str, variables: Mapping[str, Any]) -> None:
        definitions = parse(text).definitions
        self.variables = dict(variables)
        self.fragments = {each.name.value: each for each in definitions if isinstance(each, FragmentDefinitionNode)}
        [self.operation] = [each for each in definitions if isinstance(each, OperationDefinitionNode)]

    def fields(self, selected: SelectionSetNode, type_: str) -> Iterator[FieldNode]:
        """The fields that a selection takes from an object of a type."""
        for each in selected.selections:
            if not self._is_selected(each):
                continue
            match each:
                case FieldNode():
                    yield each
                case InlineFragmentNode():
                    if each.type_condition is None or self._applies(each.type_condition.name.value, type_):
                        yield from self.fields(each.selection_set, type_)
                case FragmentSpreadNode():
                    fragment = self.fragments[each.name.value]
                    if self._applies(fragment.type_condition.name.value, type_):
                        yield from self.fields(fragment.selection_set, type_)

    def argument(self, node: Any, name: str) -> Any:
        for each in node.arguments or ():
            if each.name.value == name:
                return value_from_ast_untyped(each.value, self.variables)
        return None

    def _is_selected(self, node: SelectionNode) -> bool:
        given = {each.name.value: self.argument(each, "if") for each in node.directives or ()}
        return given.get("include", True) and not given.get("skip", False)

    def _applies(self, condition: str, type_: str) -> bool:
        of = SCHEMA.type_map[condition]
        return condition == type_ or (
            isinstance(of, GraphQLInterfaceType) and type_ in {each.name for each in SCHEMA.get_possible_types(of)}
        )


def needs(text: str, variables: Mapping[str, Any]) -> Mapping[str, set[str]]:
    """The permissions by response key of the root."""
    document = _Document(text, variables)
    found: dict[str, set[str]] = {}
    for field in document.fields(document.operation.selection_set, "Query"):
        key = (field.alias or field.name).value
        found.setdefault(key, set()).update(_of_field(document, field, "Query"))
    return found


def _of_filter(filter_: str, given: Mapping[str, Any]) -> set[str]:
    """The permissions to read the rows that a filter compares, beyond those that it filters."""
    needed: set[str] = set()
    for name, value in given.items():
        if name in {"and", "or"}:
            needed |= {need for each in value for need in _of_filter(filter_, each)}
        elif name == "not":
            needed |= _of_filter(filter_, value)
        else:
            type_ = SCHEMA.type_map[filter_]
            assert isinstance(type_, GraphQLInputObjectType)
            inner = get_named_type(type_.fields[name].type).name
            several = inner.endswith("RelationFilter")
            related = inner.removesuffix("RelationFilter") if several else inner.removesuffix("Filter")
            # Neither some nor none: no condition.
            if related in NODES and (value or not several):
                needed |= declared(TYPES[related]) or set()
                for each in value.values() if several else [value]:
                    needed |= _of_filter(f"{related}Filter", each)
    return needed


def _of_field(document: _Document, field: FieldNode, type_: str) -> set[str]:
    name = field.name.value
    if name == "__typename":
        return set()
    definition = next(each for each in TYPES[type_].fields or () if each.name.value == name)
    target = named(definition.type)
    needed = (declared(TYPES[type_]) or set()) | (declared(definition) or set())
    if target == "Node":
        ids = document.argument(field, "ids") if name == "nodes" else [document.argument(field, "id")]
        targets = {FOUND[match[1]] for match in map(ID.fullmatch, ids) if match and match[1] in FOUND}
    else:
        targets = {target} & TYPES.keys()
    for each in targets:
        needed |= declared(TYPES[each]) or set()
        # A connection always needs the permissions of its nodes: a count reveals them, too.
        nodes = [one for one in TYPES[each].fields or () if one.name.value == "nodes"]
        needed |= {need for one in nodes for need in declared(TYPES[named(one.type)]) or ()}
    for argument in definition.arguments or ():
        if argument.name.value == "filter":
            needed |= _of_filter(named(argument.type), document.argument(field, "filter") or {})
    for each in targets:
        if field.selection_set is not None:
            for below in document.fields(field.selection_set, each):
                needed |= _of_field(document, below, each)
    return needed
