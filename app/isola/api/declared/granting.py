"""What inputs and types of shares have in common, of one row and by a filter."""

from collections.abc import Mapping
from enum import Enum
from typing import Any, TypeAlias

import strawberry
from sqlalchemy import Text

from isola.api.access import PUBLIC
from isola.api.declared.making import list_of
from isola.api.declared.shared import granted_field, shareable, shared_field
from isola.api.fields import mapped
from isola.api.request import fields_of
from isola.api.scalars import DateTime
from isola.installed import SUBJECTS
from isola.query.mapping import Parameters
from isola.subjects.shares import ShareAccess
from isola.subjects.subject import Subject

SHARED_WITH = "The slug of a partner."
TERM = "When it ends. Null: when it is revoked. Omitted: after the usual term of the installation, if it has one."
FIELDS = "What may be read of it. Omitted: all that can be shared."
NOTE = "What its readers should know about it: 1 to 500 characters."
KEPT = "Omitted: as it is."

Fields: TypeAlias = Mapping[str, tuple[Any, Any]]
"""The types and declarations of fields, by their names."""

SHARED = [subject for subject in SUBJECTS if subject.shared]
"""The subjects whose rows can be shared."""
GrantedField: type[Enum] = granted_field(SHARED)
ShareableType: type[Enum] = shareable(SHARED)


def granting(subject: type[Subject]) -> Fields:
    """The fields of an input that shares rows of a subject, besides what it shares."""
    return {
        "grantee": (str, strawberry.field(description=SHARED_WITH)),
        "fields": (
            list_of(shared_field(subject)) | None,
            strawberry.field(default=strawberry.UNSET, description=FIELDS),
        ),
        "expires_at": (DateTime | None, strawberry.field(default=strawberry.UNSET, description=TERM)),
        "note": (str | None, strawberry.field(default=strawberry.UNSET, description=NOTE)),
        "access": (ShareAccess, strawberry.field(default=ShareAccess.READ, description="What its readers may do.")),
    }


def changing() -> Fields:
    """The fields of an input that changes what shares grant."""
    return {
        "fields": (
            list_of(GrantedField) | None,
            strawberry.field(default=strawberry.UNSET, description=f"What the grantee may read from now on. {KEPT}"),
        ),
        "expires_at": (
            DateTime | None,
            strawberry.field(default=strawberry.UNSET, description=f"When it ends. Null: when it is revoked. {KEPT}"),
        ),
        "note": (
            str | None,
            strawberry.field(default=strawberry.UNSET, description=f"{NOTE} Null: none. {KEPT}"),
        ),
        "access": (
            ShareAccess | None,
            strawberry.field(default=strawberry.UNSET, description=f"What its readers may do from now on. {KEPT}"),
        ),
    }


def choice(input_: object) -> dict[str, Any]:
    """The fields of an input that the client sent, with the columns of the chosen fields."""
    values = fields_of(input_)
    if values.get("fields") is not None:
        values["fields"] = [each.value for each in values["fields"]]
    return values


@mapped(Parameters({"slug": Text()}))
@strawberry.type(description="The partner with whom something is shared.", directives=[PUBLIC])
class Grantee:
    slug: str = strawberry.field(description="The slug, as given when it was shared.")
