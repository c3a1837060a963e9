"""The access rule of platform administration: staff only. Every type must declare it, or the schema is refused."""

from collections.abc import Callable, Iterable
from typing import Any, TypeVar, cast

import strawberry
from graphql import GraphQLObjectType, GraphQLSchema
from strawberry.schema_directive import Location

from isola.api.access import nullable


@strawberry.schema_directive(
    locations=[Location.OBJECT], name="staff", description="Restricted to the platform's staff."
)
class StaffOnly:
    pass


STAFF = StaffOnly()

Resolver = TypeVar("Resolver", bound=Callable[..., Any])


def answered(description: str | None = None) -> Callable[[Resolver], Resolver]:
    """Declare a root field by its resolver. It is nullable: see isola.api.access."""

    def declare(resolver: Resolver) -> Resolver:
        declared = strawberry.field(resolver, description=description, graphql_type=nullable(resolver))
        return cast("Resolver", declared)

    return declare


def undeclared(schema: GraphQLSchema) -> Iterable[str]:
    """The object types without a declaration of their access."""
    for name, type_ in schema.type_map.items():
        if isinstance(type_, GraphQLObjectType) and not name.startswith("__"):
            definition = type_.extensions.get("strawberry-definition")
            if STAFF not in (getattr(definition, "directives", None) or ()):
                yield name
