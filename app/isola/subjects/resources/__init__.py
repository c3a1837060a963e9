"""Whatever users keep: a document with a name."""

from typing import TYPE_CHECKING, Any
from uuid import UUID

from isola.subjects import JSON, BigInt, Many, Subject, caller, column, many, operations, reference
from isola.subjects.actor import Actor
from isola.subjects.users import User
from isola.subjects.work import Work

if TYPE_CHECKING:
    from isola.subjects.spans import Span

MAX_NAME = 200
MAX_KIND = 200


class Resource(Subject, name="resource", prefix="res", counted=True):
    """A document with a name."""

    owner: User = reference(default=caller, grouped=True)
    name: str = column(max_length=MAX_NAME, min_length=1, index=True)
    kind: str | None = column(max_length=MAX_KIND, index=True, grouped=True)
    data: JSON = column(default=dict)
    size_bytes: BigInt = column(default=0, minimum=0, index=True)
    spans: Many["Span"] = many("resource", description="The spans about it that the caller may read.")

    shared = ("name", "kind", "data", "size_bytes", "created_at", "updated_at")


resources = Resource.table


async def create(work: Work, actor: Actor, **values: Any) -> UUID:
    """Make a resource."""
    return await operations.create(work, actor, Resource, values)


async def update(work: Work, actor: Actor, resource_id: UUID, **changes: Any) -> None:
    """Change a resource."""
    await operations.update(work, actor, Resource, resource_id, changes)


async def delete(work: Work, actor: Actor, resource_id: UUID) -> None:
    """Delete a resource, and end its shares."""
    await operations.remove(work, actor, Resource, resource_id)


async def held(work: Work, actor: Actor, resource_id: UUID) -> None:
    """Lock a resource that the actor may change until the end of the transaction. Raises NotFound and Forbidden."""
    await operations.changeable(work, actor, Resource, resource_id, whole=False)
