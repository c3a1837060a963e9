"""What a field needs: directives on every object type and field of the schema, where clients can read them.

What is declared for a type holds wherever the type is reached, and for all of its fields; a field may need more. Every
field is covered by one or the other, or the schema is refused at start-up. The compiler enforces it, before anything
is run: see isola.query.read_plan.
"""

from collections.abc import Callable
from typing import Any, TypeVar, cast, get_type_hints

import strawberry
from strawberry.schema_directive import Location

_LOCATIONS = [Location.OBJECT, Location.FIELD_DEFINITION]


@strawberry.schema_directive(locations=_LOCATIONS, name="requires", description="The permission that this needs.")
class Requires:
    permission: str


@strawberry.schema_directive(locations=_LOCATIONS, name="public", description="This needs no permission of its own.")
class Public:
    pass


def requires(permission: str) -> Requires:
    """The directive that asks for a permission."""
    return Requires(permission=str(permission))


PUBLIC = Public()

Resolver = TypeVar("Resolver", bound=Callable[..., Any])


def mutation(access: Requires | Public, description: str | None = None) -> Callable[[Resolver], Resolver]:
    """Declare a field of the type Mutation by its resolver. It is nullable: see ``nullable``."""

    def declare(resolver: Resolver) -> Resolver:
        declared = strawberry.mutation(
            resolver, directives=[access], description=description, graphql_type=nullable(resolver)
        )
        return cast("Resolver", declared)

    return declare


def nullable(resolver: Callable[..., Any]) -> Any:
    """The type of a field at the root, by its resolver: one that fails is null, and what the others did is told."""
    return get_type_hints(resolver, include_extras=True)["return"] | None
