"""The parts of a schema that have no description: what isola.api.descriptions cannot know, its author has to say."""

import re
from collections.abc import Iterator

from graphql import GraphQLEnumType, GraphQLInputObjectType, GraphQLInterfaceType, GraphQLObjectType, GraphQLSchema

_ONLY_PERMISSIONS = re.compile(r"\s*(Requires [\w:]+( and [\w:]+)*\.)?\s*")


def parts(schema: GraphQLSchema) -> Iterator[tuple[str, str | None]]:
    """Every type, field, argument, input field, enum value and directive, with its description."""
    for type_ in schema.type_map.values():
        if type_.name.startswith("__"):
            continue
        yield type_.name, type_.description
        if isinstance(type_, GraphQLEnumType):
            yield from ((f"{type_.name}.{name}", value.description) for name, value in type_.values.items())
        elif isinstance(type_, GraphQLInputObjectType):
            yield from ((f"{type_.name}.{name}", field.description) for name, field in type_.fields.items())
        elif isinstance(type_, GraphQLObjectType | GraphQLInterfaceType):
            for name, field in type_.fields.items():
                yield f"{type_.name}.{name}", field.description
                for argument, each in field.args.items():
                    yield f"{type_.name}.{name}({argument})", each.description
    for directive in schema.directives:
        yield f"@{directive.name}", directive.description
        for argument, each in directive.args.items():
            yield f"@{directive.name}({argument})", each.description


def undescribed(schema: GraphQLSchema) -> list[str]:
    """The names of those without a description: ``Type``, ``Type.field``, ``Type.field(argument)``, ``Enum.VALUE``.

    That it requires a permission describes nothing.
    """
    return [name for name, description in parts(schema) if _ONLY_PERMISSIONS.fullmatch(description or "")]
