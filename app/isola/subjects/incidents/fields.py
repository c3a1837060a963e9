import strawberry
from sqlalchemy import Column, DateTime as Timestamp, Text, Uuid

from isola.api.access import requires
from isola.api.connections import Connection
from isola.api.enums import described_enum
from isola.api.fields import many, mapped, typed_id
from isola.api.scalars import DateTime
from isola.platform.incidents import IncidentSeverity
from isola.query.mapping import Function
from isola.subjects.permissions import Permission

PREFIX, NOTE_PREFIX = "inc", "icn"
READ = requires(Permission.AUDIT_READ)
described_enum(IncidentSeverity)

own_incidents = Function(
    "isola.incidents",
    (
        Column("id", Uuid, nullable=False),
        Column("title", Text, nullable=False),
        Column("severity", Text, nullable=False),
        Column("opened_at", Timestamp(timezone=True), nullable=False),
        Column("closed_at", Timestamp(timezone=True)),
    ),
)
shown_notes = Function(
    "isola.incident_notes",
    (
        Column("id", Uuid, nullable=False),
        Column("text", Text, nullable=False),
        Column("noted_at", Timestamp(timezone=True), nullable=False),
    ),
    arguments=("id",),
)


@mapped(shown_notes)
@strawberry.type(description="A note of the platform's staff on an incident.", directives=[READ])
class IncidentNote:
    id: strawberry.ID = typed_id(NOTE_PREFIX)
    text: str = strawberry.field(description="What was found or done.")
    noted_at: DateTime = strawberry.field(description="When it was written.")


@mapped(own_incidents, order=(("id", True),))
@strawberry.type(description="A security incident that concerns the tenant.", directives=[READ])
class Incident:
    id: strawberry.ID = typed_id(PREFIX)
    title: str = strawberry.field(description="What happened.")
    severity: IncidentSeverity = strawberry.field(description="How severe it is.")
    opened_at: DateTime = strawberry.field(description="When the platform's staff opened it.")
    closed_at: DateTime | None = strawberry.field(description="When they closed it; null while it is open.")
    notes: Connection[IncidentNote] = many(source=shown_notes, description="Their notes for the tenant, in order.")


@strawberry.type
class IncidentQueries:
    incidents: Connection[Incident] | None = many(
        source=own_incidents,
        description="The security incidents that the platform's staff show the tenant, newest first.",
        access=READ,
    )
