from enum import Enum

import strawberry
from sqlalchemy import ColumnElement, and_, case, not_, or_

from isola.api.access import requires
from isola.api.connections import Connection, Node
from isola.api.fields import compared_id, expression, many, mapped, typed_id
from isola.api.scalars import JSON, DateTime, DateTimeFilter, IDFilter, OrderDirection, StringFilter
from isola.query.caller import viewer
from isola.query.mapping import Row
from isola.subjects.audit import audit_entries, shown
from isola.subjects.permissions import Permission

PREFIX = "aud"


def _old(entry: Row) -> ColumnElement[object]:
    return case((shown(entry, "old", viewer()), entry["old"]))


def _new(entry: Row) -> ColumnElement[object]:
    return case((shown(entry, "new", viewer()), entry["new"]))


def _withheld(entry: Row) -> ColumnElement[bool]:
    return or_(*(and_(entry[name].is_not(None), not_(shown(entry, name, viewer()))) for name in ("old", "new")))


@mapped(audit_entries, prefix=PREFIX, order=(("id", True),))
@strawberry.type(
    description="An entry of the log of what was done. The database writes it; nobody can change it.",
    directives=[requires(Permission.AUDIT_READ)],
)
class AuditEntry(Node):
    id: strawberry.ID = typed_id(PREFIX)
    at: DateTime
    actor: str | None = strawberry.field(
        description="The id of who did it, a user's mostly. Null where nobody was signed in yet, and for commands."
    )
    on_behalf_of: str | None = strawberry.field(description="Who is behind the actor, where that is somebody else.")
    request: str | None = strawberry.field(description="X-Request-ID of the request that it was done by.")
    action: str = strawberry.field(description="subject:action, such as resource:update.")
    object: str = strawberry.field(description="The id of what it was done to; of a pair, both with a slash between.")
    old: JSON | None = expression(_old, "The values before: those that changed, all of what was deleted.")
    new: JSON | None = expression(_new, "The values after: those that changed, all of what was made.")
    withheld: bool = expression(
        _withheld, "Whether values were left out, since the caller may not see what they are of."
    )


@strawberry.input(description="All conditions given have to hold; null is refused.")
class AuditFilter:
    id: IDFilter | None = compared_id(PREFIX)
    actor: StringFilter | None = strawberry.UNSET
    action: StringFilter | None = strawberry.UNSET
    object: StringFilter | None = strawberry.UNSET
    at: DateTimeFilter | None = strawberry.UNSET
    and_: list["AuditFilter"] | None = strawberry.field(name="and", default=strawberry.UNSET)
    or_: list["AuditFilter"] | None = strawberry.field(name="or", default=strawberry.UNSET)
    not_: "AuditFilter | None" = strawberry.field(name="not", default=strawberry.UNSET)


@strawberry.enum
class AuditOrderField(Enum):
    ID = "id"
    AT = "at"


@strawberry.input
class AuditOrder:
    field: AuditOrderField
    direction: OrderDirection = OrderDirection.ASC


@strawberry.type
class AuditQueries:
    audit_log: Connection[AuditEntry] | None = many(
        filter=AuditFilter,
        order=AuditOrder,
        description="What was done in the tenant, by default newest first.",
        access=requires(Permission.AUDIT_READ),
    )
