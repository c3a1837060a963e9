from collections.abc import Sequence
from typing import Any, TypedDict, Unpack
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Table,
    Text,
    Uuid,
    bindparam,
    cast,
    delete as delete_from,
    func,
    insert,
    literal,
    select,
    text,
    update as update_of,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from isola import exact_json
from isola.domain import document
from isola.domain.actor import Actor
from isola.domain.metadata import Audited, Counted, identifier, indexed_text, json_document, metadata, moment
from isola.domain.work import Work
from isola.errors import BadUserInput, Forbidden, NotFound

MAX_NAME = 200
MAX_KIND = 200
# The largest integer that every JSON reader keeps exact.
MAX_SIZE_BYTES = 2**53 - 1

resources = Table(
    "resources",
    metadata,
    identifier(),
    Column("owner_id", Uuid, ForeignKey("users.id", ondelete="RESTRICT"), nullable=False),
    indexed_text("name", MAX_NAME, least=1),
    indexed_text("kind", MAX_KIND, nullable=True),
    json_document("data", "'{}'"),
    Column("size_bytes", BigInteger, nullable=False, server_default=text("0")),
    moment("created_at"),
    moment("updated_at"),
    CheckConstraint(f"size_bytes BETWEEN 0 AND {MAX_SIZE_BYTES}", name="size_bytes_range"),
    Index(None, "owner_id", "id"),
    Index(None, "name", "id"),
    Index(None, "created_at", "id"),
    Index(None, "kind", "id"),
    info={
        "audited": Audited("resource", {"id": "res_"}),
        "counted": Counted("resources"),
        # What a partner sees of a resource that was shared with it: what it is, and nothing that hangs off it.
        "shared_columns": ["id", "name", "kind", "data", "size_bytes", "created_at", "updated_at"],
    },
)


KEY = bindparam("key", type_=Uuid())
NEW = insert(resources).returning(resources.c.id)
HELD = select(resources.c.owner_id).where(resources.c.id == KEY).with_for_update()
CHANGED = update_of(resources).where(resources.c.id == KEY).values(updated_at=func.now())
DELETED = delete_from(resources).where(resources.c.id == KEY)
UNSHARED = select(func.isola.revoke_shares_of(KEY))


class Values(TypedDict, total=False):
    """What a user may say of a resource. What is left out keeps its value, or gets the table's own default."""

    name: str
    kind: str | None
    data: Any
    size_bytes: int


async def create(work: Work, actor: Actor, **values: Unpack[Values]) -> UUID:
    """Make a resource that the actor owns. It needs a name.

    Raises Forbidden, and BadUserInput naming the field that cannot be.
    """
    actor.require("resource:write")
    check(values)
    resource: UUID = await work.scalar(NEW, {"owner_id": actor.user_id, **values})
    return resource


async def update(work: Work, actor: Actor, resource_id: UUID, **changes: Unpack[Values]) -> None:
    """Change a resource. Raises NotFound, Forbidden, and BadUserInput naming the field that cannot be."""
    check(changes)
    await held(work, actor, resource_id)
    await work.execute(CHANGED, {"key": resource_id, **changes})


async def delete(work: Work, actor: Actor, resource_id: UUID) -> None:
    """Delete a resource and end what was shared of it. Raises NotFound and Forbidden."""
    await held(work, actor, resource_id)
    await work.scalar(UNSHARED, {"key": resource_id})
    await work.execute(DELETED, {"key": resource_id})


async def held(work: Work, actor: Actor, resource_id: UUID) -> None:
    """Hold a resource that the actor may change until the end of the transaction.

    Its owner may, and whoever has ``resource:manage``. Raises NotFound and Forbidden.
    """
    owner = await work.scalar(HELD, {"key": resource_id})
    if owner is None:
        raise NotFound("there is no such resource")
    actor.require("resource:write")
    if owner != actor.user_id and "resource:manage" not in actor.permissions:
        raise Forbidden("only the owner of a resource may do this, or who has the permission resource:manage")


async def load(work: Work, owner_id: UUID, batch: Sequence[Values]) -> None:
    """Make many resources of one owner by one statement. Each has passed ``check`` and has all values."""
    columns = {
        "name": func.unnest(cast([values["name"] for values in batch], ARRAY(Text))),
        "kind": func.unnest(cast([values["kind"] for values in batch], ARRAY(Text))),
        "data": cast(func.unnest(cast([exact_json.dumps(values["data"]) for values in batch], ARRAY(Text))), JSONB),
        "size_bytes": func.unnest(cast([values["size_bytes"] for values in batch], ARRAY(BigInteger))),
    }
    rows = select(literal(owner_id), *columns.values())
    await work.execute(insert(resources).from_select(["owner_id", *columns], rows))


def check(values: Values) -> None:
    """Raise BadUserInput, naming the field, for what a resource cannot be."""
    for key, field in (("name", "name"), ("data", "data"), ("size_bytes", "sizeBytes")):
        if values.get(key, "") is None:
            message = f"{field}: expected anything but null; left out, it keeps its value or gets the default"
            raise BadUserInput(message, field)
    if "name" in values and not 1 <= len(values["name"]) <= MAX_NAME:
        raise BadUserInput(f"name: expected 1 to {MAX_NAME} characters, not {len(values['name'])}", "name")
    if len(values.get("kind") or "") > MAX_KIND:
        raise BadUserInput(f"kind: expected at most {MAX_KIND} characters", "kind")
    if "size_bytes" in values and not 0 <= values["size_bytes"] <= MAX_SIZE_BYTES:
        raise BadUserInput(f"sizeBytes: expected 0 to {MAX_SIZE_BYTES}", "sizeBytes")
    for name in ("name", "kind", "data"):
        document.check(name, values.get(name))
