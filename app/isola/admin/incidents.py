from typing import Annotated

import strawberry

from isola.admin.access import STAFF, answered
from isola.admin.administration import Info, moment, paged, written
from isola.api.enums import described_enum
from isola.api.scalars import DateTime
from isola.platform import incidents
from isola.platform.incidents import IncidentSeverity, Step, entries_of

described_enum(IncidentSeverity)


@strawberry.type(description="A note of staff on an incident.", directives=[STAFF])
class IncidentNote:
    id: strawberry.ID
    text: str = strawberry.field(description="What was found or done.")
    entries: list[strawberry.ID] = strawberry.field(description="Entries of logs that it is about.")
    shown: bool = strawberry.field(description="Whether the tenants that see the incident see the note.")
    noted_by: str = strawberry.field(description="staff:<subject>, or operator:<name> for the command line.")
    noted_at: DateTime


@strawberry.type(description="A security incident.", directives=[STAFF])
class Incident:
    id: strawberry.ID
    title: str = strawberry.field(description="What happened.")
    severity: IncidentSeverity = strawberry.field(description="How severe it is.")
    opened_by: str = strawberry.field(description="staff:<subject>, or operator:<name> for the command line.")
    opened_at: DateTime
    closed_at: DateTime | None
    tenants: list[str] = strawberry.field(description="The slugs of the tenants concerned.")
    shown_to: list[str] = strawberry.field(description="The slugs of those of them that see the incident.")
    notes: list[IncidentNote] = strawberry.field(description="The notes, in their order.")


Text = Annotated[str, strawberry.argument(description="A note: what was found or done.")]
Entries = Annotated[
    list[strawberry.ID] | None, strawberry.argument(description="Ids of entries of logs that the note is about.")
]
Shown = Annotated[bool, strawberry.argument(description="Whether the tenants that see the incident see the note.")]
Tenants = Annotated[list[str] | None, strawberry.argument(description="The slugs of further tenants concerned.")]
ShowTo = Annotated[
    list[str] | None, strawberry.argument(description="The slugs of tenants that see the incident from now on.")
]


@strawberry.type
class IncidentQueries:
    @answered("Security incidents, the newest first, at most 100.")
    async def incidents(
        self,
        info: Info,
        open: Annotated[  # noqa: A002  clients name their arguments
            bool | None, strawberry.argument(description="Only open, or only closed incidents.")
        ] = None,
        after: strawberry.ID | None = None,
        first: int = 20,
    ) -> list[Incident]:
        key = paged(first, after)
        return [
            _shown(each) for each in await incidents.page(info.context.control, is_open=open, after=key, first=first)
        ]


@strawberry.type
class IncidentMutations:
    @answered("Open a security incident.")
    async def open_incident(
        self,
        info: Info,
        title: str,
        severity: IncidentSeverity,
        text: Text = "",
        entries: Entries = None,
        shown: Shown = False,  # noqa: FBT002  clients name their arguments
        tenants: Tenants = None,
        show_to: ShowTo = None,
    ) -> Incident:
        step = _step(text, entries, tenants, show_to, shown=shown)
        return _shown(await incidents.start(info.context.control, info.context.author, title, severity, step))

    @answered("Add a note, or tenants, to an incident, also to a closed one.")
    async def note_incident(
        self,
        info: Info,
        incident: strawberry.ID,
        text: Text = "",
        entries: Entries = None,
        shown: Shown = False,  # noqa: FBT002  as above
        tenants: Tenants = None,
        show_to: ShowTo = None,
    ) -> Incident:
        step = _step(text, entries, tenants, show_to, shown=shown)
        key = incidents.key_of(incident)
        return _shown(await incidents.note(info.context.control, info.context.author, key, step))

    @answered("Close an incident, with a last note if one is given.")
    async def close_incident(
        self,
        info: Info,
        incident: strawberry.ID,
        text: Text = "",
        entries: Entries = None,
        shown: Shown = False,  # noqa: FBT002  as above
    ) -> Incident:
        step = _step(text, entries, None, None, shown=shown)
        key = incidents.key_of(incident)
        return _shown(await incidents.close(info.context.control, info.context.author, key, step))


def _step(
    text: str, entries: list[strawberry.ID] | None, tenants: list[str] | None, show_to: list[str] | None, *, shown: bool
) -> Step:
    return Step(text, entries_of(entries or ()), shown, tenants or (), show_to or ())


def _shown(incident: incidents.Incident) -> Incident:
    return Incident(
        id=written(incident.id),
        title=incident.title,
        severity=incident.severity,
        opened_by=incident.opened_by,
        opened_at=DateTime(incident.opened_at),
        closed_at=moment(incident.closed_at),
        tenants=list(incident.tenants),
        shown_to=list(incident.shown_to),
        notes=[
            IncidentNote(
                id=written(each.id),
                text=each.text,
                entries=[written(entry) for entry in each.entries],
                shown=each.shown,
                noted_by=each.noted_by,
                noted_at=DateTime(each.noted_at),
            )
            for each in incident.notes
        ],
    )
