import strawberry

from isola.admin.access import STAFF, answered
from isola.admin.administration import Info, paged, written
from isola.api.scalars import JSON, DateTime
from isola.platform import platform_log


@strawberry.type(
    description="An entry of the platform's log: an action of staff or of an operator. It cannot be changed.",
    directives=[STAFF],
)
class PlatformLogEntry:
    id: strawberry.ID
    at: DateTime = strawberry.field(description="When it happened.")
    actor: str = strawberry.field(description="staff:<subject>, or operator:<name> for the command line.")
    request: str | None = strawberry.field(description="The X-Request-ID of the request.")
    action: str = strawberry.field(description="subject:action, such as tenant:suspend.")
    object: str = strawberry.field(description="tenant:<slug>, plan:<name> or incident:<id>.")
    old: JSON | None = strawberry.field(description="The old values.")
    new: JSON | None = strawberry.field(description="The new values.")


@strawberry.type
class PlatformLogQueries:
    @answered("The platform's log, newest first, at most 100 entries. Conditions are combined with AND.")
    async def platform_log(
        self,
        info: Info,
        actor: str | None = None,
        action: str | None = None,
        object: str | None = None,  # noqa: A002  as the log calls it
        since: DateTime | None = None,
        until: DateTime | None = None,
        after: strawberry.ID | None = None,
        first: int = 20,
    ) -> list[PlatformLogEntry]:
        entries = await platform_log.page(
            info.context.control,
            actor=actor,
            action=action,
            object=object,
            since=since,
            until=until,
            after=paged(first, after),
            first=first,
        )
        return [_entry(each) for each in entries]


def _entry(entry: platform_log.Entry) -> PlatformLogEntry:
    return PlatformLogEntry(
        id=written(entry.id),
        at=DateTime(entry.at),
        actor=entry.actor,
        request=entry.request,
        action=entry.action,
        object=entry.object,
        old=None if entry.old is None else JSON(entry.old),
        new=None if entry.new is None else JSON(entry.new),
    )
