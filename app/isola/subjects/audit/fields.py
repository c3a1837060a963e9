from enum import Enum

import strawberry
from sqlalchemy import ARRAY, Text

from isola.api.access import PUBLIC, mutation, requires
from isola.api.connections import Connection, Node
from isola.api.fields import compared_id, many, mapped, typed_id
from isola.api.request import Info, payload
from isola.api.scalars import JSON, DateTime, DateTimeFilter, IDFilter, OrderDirection, StringFilter
from isola.query.mapping import Parameters
from isola.subjects.audit import audit_log, reads
from isola.subjects.permissions import Permission

PREFIX = "aud"


@mapped(audit_log, prefix=PREFIX, order=(("id", True),))
@strawberry.type(
    description="An entry of the audit log. The database writes it; it cannot be changed.",
    directives=[requires(Permission.AUDIT_READ)],
)
class AuditEntry(Node):
    id: strawberry.ID = typed_id(PREFIX)
    at: DateTime = strawberry.field(description="When it happened.")
    actor: str | None = strawberry.field(
        description="The id of the user who acted. Null before authentication, and for commands."
    )
    on_behalf_of: str | None = strawberry.field(description="The person on whose behalf the actor acted.")
    request: str | None = strawberry.field(description="The X-Request-ID of the request.")
    action: str = strawberry.field(description="subject:action, such as resource:update.")
    object: str = strawberry.field(description="The id of the object; for a pair, both ids separated by a slash.")
    old: JSON | None = strawberry.field(description="The old values: the changed ones of an update, all of a deletion.")
    new: JSON | None = strawberry.field(description="The new values: the changed ones of an update, all of a creation.")
    withheld: bool = strawberry.field(
        description="Whether values are omitted because the caller may not read the object."
    )


@strawberry.input(description="Conditions are combined with AND; null is refused.")
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


async def _logged_reads(info: Info) -> list[str] | None:
    async with info.context.context.transaction(read_only=True) as work:
        return list(await reads.logged(work))


@strawberry.type
class AuditQueries:
    audit_log: Connection[AuditEntry] | None = many(
        filter=AuditFilter,
        order=AuditOrder,
        description="The audit log of the tenant, by default newest first.",
        access=requires(Permission.AUDIT_READ),
    )
    logged_reads: list[str] | None = strawberry.field(
        resolver=_logged_reads,
        description="The subjects whose reads are in the audit log, as row_read:create.",
        directives=[requires(Permission.AUDIT_READ)],
    )


@strawberry.input
class LogReadsInput:
    subjects: list[str] = strawberry.field(description="All subjects whose reads are logged, such as resource.")


@mapped(Parameters({"subjects": ARRAY(Text())}))
@strawberry.type(directives=[PUBLIC])
class LogReadsPayload:
    subjects: list[str] = strawberry.field(description="The subjects whose reads are logged, sorted.")


@strawberry.type
class AuditMutations:
    @mutation(
        requires(Permission.AUDIT_MANAGE),
        "Have the reads of these subjects, and of no others, in the audit log: on all servers within seconds.",
    )
    async def log_reads(self, info: Info, input: LogReadsInput) -> LogReadsPayload:
        async with info.context.transaction() as work:
            chosen = await reads.log(work, info.context.actor, input.subjects)
            return await payload(LogReadsPayload, info, work, subjects=chosen)
