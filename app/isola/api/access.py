"""Access rules of fields: directives on every object type and field of the schema, which clients can read.

A type's directive applies to all of its fields, wherever the type is reached; a field may require more. A field that
neither directive covers fails the start of the server. The compiler enforces the rules before it runs anything: see
isola.query.read_plan.
"""

from collections.abc import Callable
from typing import Any, TypeVar, cast, get_type_hints

import strawberry
from strawberry.schema_directive import Location

_LOCATIONS = [Location.OBJECT, Location.FIELD_DEFINITION]


@strawberry.schema_directive(locations=_LOCATIONS, name="requires", description="The permission that this requires.")
class Requires:
    permission: str


@strawberry.schema_directive(locations=_LOCATIONS, name="public", description="This requires no separate permission.")
class Public:
    pass


def requires(permission: str) -> Requires:
    """The directive that requires a permission."""
    return Requires(permission=str(permission))


PUBLIC = Public()


@strawberry.schema_directive(
    locations=_LOCATIONS, name="requiresFeature", description="The feature of the tenant's plan that this requires."
)
class RequiresFeature:
    name: str


def of_feature(name: str | None) -> list[Any]:
    """The directives that require a feature, besides those for permissions; none without a name."""
    return [] if name is None else [RequiresFeature(name=name)]


Resolver = TypeVar("Resolver", bound=Callable[..., Any])


def mutation(
    access: Requires | Public,
    description: str | None = None,
    *,
    deprecated: str | None = None,
    feature: str | None = None,
) -> Callable[[Resolver], Resolver]:
    """Declare a field of the type Mutation by its resolver. It is nullable: see ``nullable``.

    ``deprecated`` is the reason why clients should not call it any more, and what they call instead. ``feature`` is
    what the tenant's plan has to have.
    """

    def declare(resolver: Resolver) -> Resolver:
        declared = strawberry.mutation(
            resolver,
            directives=[access, *of_feature(feature)],
            description=description,
            deprecation_reason=deprecated,
            graphql_type=nullable(resolver),
        )
        return cast("Resolver", declared)

    return declare


def nullable(resolver: Callable[..., Any]) -> Any:
    """The nullable type of a root field: if it fails, it alone is null, and the results of the others are kept."""
    return get_type_hints(resolver, include_extras=True)["return"] | None
