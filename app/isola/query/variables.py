"""Coerces values of variables as graphql-core does, but does its type look-ups once instead of for each request."""

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, TypeAlias, cast

from graphql import (
    GraphQLInputObjectType,
    GraphQLInputType,
    GraphQLLeafType,
    GraphQLSchema,
    Undefined,
    VariableDefinitionNode,
    get_variable_values,
    is_input_object_type,
    is_list_type,
    is_non_null_type,
    is_required_input_field,
)
from graphql.execution.get_variable_signature import GraphQLVariableSignature, get_variable_signature
from graphql.execution.values import VariableValues, VariableValueSource
from graphql.language.parser import MAX_NESTING_DEPTH
from graphql.utilities.coerce_input_value import coerce_default_value

from isola.query.documents import Operation
from isola.query.messages import ClientError, mistakes, uses

Read: TypeAlias = Callable[[Any, int], Any]
"""Coerces a value at a nesting depth; Undefined if it is invalid, or if only graphql-core can coerce it."""


class Variables:
    """The variables that an operation declares."""

    def __init__(self, schema: GraphQLSchema, operation: Operation) -> None:
        definitions = tuple(operation.node.variable_definitions or ())
        self._schema = schema
        self._definitions = definitions
        self._used_in = (operation.node, *operation.fragments.values())
        signatures = [get_variable_signature(schema, definition) for definition in definitions]
        self._signatures = [each for each in signatures if isinstance(each, GraphQLVariableSignature)]
        visited: dict[str, Read] = {}
        self._read = {each.name: _reader(each.type, visited) for each in self._signatures}
        self._defaults = {
            each.name: value
            for each, definition in zip(self._signatures, definitions, strict=True)
            if definition.default_value and (value := self._default(definition)) is not Undefined
        }

    def coerced(
        self, received: Mapping[str, Any], *, max_errors: int, hide_suggestions: bool
    ) -> VariableValues | list[ClientError]:
        """The coerced values of an operation's variables, or the errors in those given."""
        valid = self._coerce_valid(received)
        if valid is not None:
            return valid
        # graphql-core decides whether they are invalid.
        values = get_variable_values(self._schema, self._definitions, dict(received), 1, hide_suggestions)
        return self._wrong(received, max_errors, hide_suggestions) if isinstance(values, list) else values

    def _wrong(self, received: Mapping[str, Any], most: int, hide_suggestions: bool) -> list[ClientError]:  # noqa: FBT001  passed through
        places = uses(self._schema, self._used_in)
        errors: list[ClientError] = []
        for signature, definition in zip(self._signatures, self._definitions, strict=True):
            name = signature.name
            value = received.get(name, Undefined)
            if value is Undefined and (signature.default or not is_non_null_type(signature.type)):
                continue
            found = mistakes(value, signature.type, suggest=not hide_suggestions, most=most)
            errors += [each.located((f"${name}",), definition, places.get(name, "")) for each in found]
        return errors[:most] or [ClientError("variables: expected values that are less deeply nested")]

    def _coerce_valid(self, received: Mapping[str, Any]) -> VariableValues | None:
        sources: dict[str, VariableValueSource] = {}
        values: dict[str, Any] = {}
        for signature in self._signatures:
            name = signature.name
            value = received.get(name, Undefined)
            if value is Undefined:
                sources[name] = VariableValueSource(signature)
                if name in self._defaults:
                    values[name] = self._defaults[name]
                elif signature.default or is_non_null_type(signature.type):
                    return None
                continue
            sources[name] = VariableValueSource(signature, value)
            coerced = self._read[name](value, 0)
            if coerced is Undefined:
                return None
            values[name] = coerced
        return VariableValues(sources, values)

    def _default(self, definition: VariableDefinitionNode) -> Any:
        values = get_variable_values(self._schema, [definition], {})
        if isinstance(values, list):
            return Undefined
        return values.coerced.get(definition.variable.name.value, Undefined)


def _reader(type_: GraphQLInputType, visited: dict[str, Read]) -> Read:
    """The coercion of a type. ``known`` has the input objects visited so far, which may be recursive."""
    if is_non_null_type(type_):
        read = _reader(type_.of_type, visited)
        return lambda value, depth: Undefined if value is None else read(value, depth)
    if is_list_type(type_):
        return _list_reader(_reader(type_.of_type, visited))
    if is_input_object_type(type_):
        return visited[type_.name] if type_.name in visited else _object_reader(type_, visited)
    return _leaf_reader(cast("GraphQLLeafType", type_))


def _leaf_reader(type_: GraphQLLeafType) -> Read:
    coerce = type_.coerce_input_value
    exact = type_.name in {"JSON", "Decimal"}

    def read(value: Any, _: int) -> Any:
        if value is None:
            return None
        try:
            if isinstance(value, Decimal) and not exact:
                value = float(value)
            return coerce(value)
        except Exception:  # noqa: BLE001  graphql-core will raise the same error
            return Undefined

    return read


def _list_reader(item: Read) -> Read:
    def read(value: Any, depth: int) -> Any:
        if value is None:
            return None
        if not isinstance(value, list):
            return Undefined
        found = [item(each, depth + 1) for each in value]
        return Undefined if any(each is Undefined for each in found) else found

    return read


def _object_reader(type_: GraphQLInputObjectType, known: dict[str, Read]) -> Read:
    required = object()
    fields: list[tuple[str, str, Read, Any]] = []

    def read(value: Any, depth: int) -> Any:
        if value is None:
            return None
        if not isinstance(value, dict) or depth > MAX_NESTING_DEPTH or type_.is_one_of:
            return Undefined
        found: dict[str, Any] = {}
        strange = len(value)
        for name, out_name, read_field, default in fields:
            if name in value:
                strange -= 1
                coerced = read_field(value[name], depth + 1)
                if coerced is Undefined:
                    return Undefined
                found[out_name] = coerced
            elif default is required:
                return Undefined
            elif default is not Undefined:
                found[out_name] = default
        return Undefined if strange else type_.out_type(found)

    known[type_.name] = read
    for name, field in type_.fields.items():
        default = required if is_required_input_field(field) else coerce_default_value(field)
        fields.append((name, field.out_name or name, _reader(field.type, known), default))
    return read
