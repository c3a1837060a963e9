"""The subscription of a subject: the changes to its rows, in the order of commits.

An event is read like the payload of a mutation: its type is mapped to parameters, which the feed gives.
"""

from collections.abc import Mapping
from enum import Enum
from uuid import UUID

import strawberry
from graphql import GraphQLSchema
from sqlalchemy import Text, Uuid, func, literal_column
from strawberry.schema.schema_converter import GraphQLCoreConverter

from isola.api.access import Requires, of_feature
from isola.api.declared.making import ID, made_class, made_payload
from isola.api.fields import FIELD, argument, one, typed_id
from isola.subjects.declaration import Declaration
from isola.subjects.subject import Subject

NO_ROW = UUID(int=0)
"""The key of an event that is about no row."""


@strawberry.enum(description="What an event is about.")
class ChangeKind(Enum):
    STARTED = strawberry.enum_value(
        "started",
        description="The subscription has begun, and its first cursor. It is sent once, if no cursor was given.",
    )
    CREATED = strawberry.enum_value("create", description="An object was created.")
    UPDATED = strawberry.enum_value("update", description="An object was changed. It may be new to the caller.")
    DELETED = strawberry.enum_value("delete", description="An object was deleted, or hidden from the caller.")


def changes_of(declaration: Declaration) -> type:
    """The type with the subscription of a subject."""
    subject = declaration.subject
    event = made_payload(
        f"{subject.__name__}Change",
        {"kind": Text(), "row": Uuid(), "cursor": Text()},
        {
            "kind": (ChangeKind, ...),
            "id": (
                ID | None,
                typed_id(declaration.prefix, lambda row: func.nullif(row["row"], _NO_ROW, type_=Uuid())),
            ),
            "cursor": (str, strawberry.field(description="Continue after this event with it, as the same user.")),
            "node": (
                subject | None,
                one("row", description="The object as it is now. Null if it was deleted or hidden meanwhile."),
            ),
        },
    )
    field = strawberry.field(
        description="The changes to all objects that the caller may read, in the order of commits.",
        metadata={FIELD: subject},
        directives=[Requires(permission=declaration.permissions["read"]), *of_feature(declaration.feature)],
    )
    field.arguments = [
        argument("after", str | None, "The cursor of the last event received; without it, changes from now on.")
    ]
    return strawberry.type(
        made_class(f"{subject.__name__}Subscriptions", {f"{declaration.name}_changes": (event, field)})
    )


_NO_ROW = literal_column(f"'{NO_ROW}'::uuid", Uuid())


def followed(schema: GraphQLSchema) -> Mapping[str, type[Subject]]:
    """The subject of each field of the type Subscription."""
    type_ = schema.subscription_type
    if type_ is None:
        return {}
    key = GraphQLCoreConverter.DEFINITION_BACKREF
    return {name: field.extensions[key].metadata[FIELD] for name, field in type_.fields.items()}
