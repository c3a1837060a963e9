"""Values of variables, coerced as graphql-core does it, with what it looks up for each request looked up once."""

from collections.abc import Mapping
from typing import Any

from graphql import (
    GraphQLError,
    GraphQLSchema,
    Undefined,
    VariableDefinitionNode,
    coerce_input_value,
    get_named_type,
    get_variable_values,
    is_leaf_type,
    is_list_type,
    is_non_null_type,
)
from graphql.execution.get_variable_signature import GraphQLVariableSignature, get_variable_signature
from graphql.execution.values import VariableValues, VariableValueSource, input_is_nested_too_deeply


class Variables:
    """The variables that an operation declares."""

    def __init__(self, schema: GraphQLSchema, definitions: tuple[VariableDefinitionNode, ...]) -> None:
        self._schema = schema
        self._definitions = definitions
        signatures = [get_variable_signature(schema, definition) for definition in definitions]
        self._signatures = [each for each in signatures if isinstance(each, GraphQLVariableSignature)]
        self._deep = {each.name for each in self._signatures if _is_deep(each)}
        self._defaults = {
            each.name: value
            for each, definition in zip(self._signatures, definitions, strict=True)
            if definition.default_value and (value := self._default(definition)) is not Undefined
        }

    def coerced(
        self, given: Mapping[str, Any], *, max_errors: int, hide_suggestions: bool
    ) -> VariableValues | list[GraphQLError]:
        """The values that an operation runs with, or what is wrong with those given."""
        found = self._found(given)
        if found is not None:
            return found
        # graphql-core knows what to say of it.
        return get_variable_values(self._schema, self._definitions, dict(given), max_errors, hide_suggestions)

    def _found(self, given: Mapping[str, Any]) -> VariableValues | None:
        sources: dict[str, VariableValueSource] = {}
        values: dict[str, Any] = {}
        for signature in self._signatures:
            name = signature.name
            value = given.get(name, Undefined)
            if value is Undefined:
                sources[name] = VariableValueSource(signature)
                if name in self._defaults:
                    values[name] = self._defaults[name]
                elif signature.default or is_non_null_type(signature.type):
                    return None
                continue
            sources[name] = VariableValueSource(signature, value)
            if name in self._deep and input_is_nested_too_deeply(value, signature.type):
                return None
            try:
                coerced = coerce_input_value(value, signature.type)
            except RecursionError:
                return None
            if coerced is Undefined:
                return None
            values[name] = coerced
        return VariableValues(sources, values)

    def _default(self, definition: VariableDefinitionNode) -> Any:
        values = get_variable_values(self._schema, [definition], {})
        if isinstance(values, list):
            return Undefined
        return values.coerced.get(definition.variable.name.value, Undefined)


def _is_deep(signature: GraphQLVariableSignature) -> bool:
    kind = signature.type.of_type if is_non_null_type(signature.type) else signature.type
    return is_list_type(kind) or not is_leaf_type(get_named_type(kind))
