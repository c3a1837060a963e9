import strawberry

from isola.api.access import PUBLIC, mutation
from isola.api.request import Info
from isola.api.scalars import DateTime
from isola.query.identifiers import decode
from isola.subjects import tickets
from isola.subjects.organizations import Organization


@strawberry.input
class CreateTicketInput:
    organization_id: strawberry.ID | None = strawberry.field(
        default=None, description="The organization of spans that name no other."
    )
    process: int | None = strawberry.field(
        default=None,
        description="The process id of the only session that can use it, as pg_backend_pid() returns it; any if null.",
    )
    minutes: int = strawberry.field(
        default=tickets.MINUTES, description=f"How long it is valid: 1 to {tickets.MAX_MINUTES} minutes."
    )


@strawberry.type(directives=[PUBLIC])
class CreateTicketPayload:
    ticket: str = strawberry.field(description="The ticket, for isola.enter(). It is returned only once.")
    expires_at: DateTime


@strawberry.type
class TicketMutations:
    @mutation(PUBLIC, "Create a ticket that binds one transaction of an SQL session to the caller: see docs/sql.md.")
    async def create_ticket(self, info: Info, input: CreateTicketInput) -> CreateTicketPayload:
        organization = input.organization_id and decode(
            input.organization_id, Organization.declaration.prefix, "organizationId"
        )
        async with info.context.transaction() as work:
            made = await tickets.issue(
                work,
                info.context.actor,
                organization=organization or None,
                process=input.process,
                minutes=input.minutes,
            )
        return CreateTicketPayload(ticket=made.text, expires_at=DateTime(made.expires_at))
