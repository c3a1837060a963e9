"""Webhooks: endpoints of a tenant that get its events. They are stored outside of the tenants' tables.

An endpoint learns what happens to everything in the tenant. So whoever decides which events it gets needs the
permission to read the log as well.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import ARRAY, BigInteger, Boolean, LargeBinary, Text, func, literal, select

from isola.errors import BadUserInput, NotFound, QuotaExceeded
from isola.subjects import audit, names
from isola.subjects.actor import Actor
from isola.subjects.permissions import Permission
from isola.subjects.webhooks import kinds
from isola.subjects.webhooks.kinds import Seal, Sealed, WebhookKind
from isola.subjects.work import Work

MAX_WEBHOOKS = 20
"""As in isola.create_webhook()."""
MAX_DESCRIPTION = 200
MAX_EVENTS = 100
_PATTERN = re.compile(r"([a-z][a-z0-9_]*):(\*|create|update|delete)", re.ASCII)


async def create(
    work: Work,
    actor: Actor,
    stored: Sealed,
    *,
    description: str,
    events: Collection[str],
    kind: WebhookKind = WebhookKind.WEBHOOK,
) -> tuple[UUID, UUID]:
    """Make a webhook that gets the events from now on; its id, and what its secret is derived from.

    The URL in ``stored`` has been checked. Raises Forbidden, QuotaExceeded, and BadUserInput naming the invalid field.
    """
    _require(actor)
    made = func.isola.create_webhook(
        literal(stored.url, Text()),
        literal(_described(description), Text()),
        literal(_checked(events), ARRAY(Text())),
        literal(str(kind), Text()),
        literal(stored.secret, LargeBinary()),
        literal(stored.template, Text()),
    ).table_valued("id", "secret_id")
    rows = await work.rows(select(made))
    if not rows:
        raise QuotaExceeded(f"there are {MAX_WEBHOOKS} webhooks already: delete one first")
    return rows[0]["id"], rows[0]["secret_id"]


async def update(
    work: Work, actor: Actor, webhook: UUID, values: Mapping[str, Any], seal: Seal, secret: str | None = None
) -> None:
    """Change what ``values`` has: ``key``, ``template``, ``description``, ``events``, ``enabled``, a checked ``url``.

    A new template must not contain ``secret``. Raises Forbidden, NotFound, and BadUserInput naming the invalid field.
    """
    _require(actor)
    if not values:
        raise BadUserInput("expected something to change")
    for name, value in values.items():
        if value is None:
            raise BadUserInput(f"{name}: expected a value, not null", name)
    found = await _found(work, webhook)
    new, stored = {**found, **values}, kinds.changed(found, values, seal, secret)
    changed = func.isola.update_webhook(
        webhook,
        literal(stored.url, Text()),
        literal(_described(new["description"]), Text()),
        literal(_checked(new["events"]) if "events" in values else new["events"], ARRAY(Text())),
        literal(new["enabled"], Boolean()),
        literal(stored.secret, LargeBinary()),
        literal(stored.template, Text()),
    )
    _enforce_existence(exists=await work.scalar(select(changed)))


async def rotate_secret(work: Work, actor: Actor, webhook: UUID) -> UUID:
    """Give a webhook another secret; what it is derived from.

    Raises Forbidden, NotFound, and BadUserInput for a connector, whose secret its owner makes.
    """
    _require(actor)
    if (await _found(work, webhook))["kind"] != WebhookKind.WEBHOOK:
        raise BadUserInput(
            "webhookId: expected a webhook of the kind WEBHOOK: updateWebhook changes a key", "webhookId"
        )
    made: UUID | None = await work.scalar(select(func.isola.rotate_webhook_secret(webhook)))
    if made is None:
        raise _missing()
    return made


async def delete(work: Work, actor: Actor, webhook: UUID) -> None:
    """Delete a webhook and its dead letters. Raises Forbidden and NotFound."""
    actor.require(Permission.WEBHOOK_MANAGE)
    _enforce_existence(exists=await work.scalar(select(func.isola.delete_webhook(webhook))))


async def replay(
    work: Work, actor: Actor, webhook: UUID, *, number: int | None = None, dead_letter: UUID | None = None
) -> None:
    """Have a webhook get all events from a number or a dead letter on again, in order.

    Raises Forbidden, NotFound, and BadUserInput unless there is exactly one of both, and for a number that is not in
    the log or has not been reached.
    """
    _require(actor)
    if (number is None) == (dead_letter is None):
        raise BadUserInput("expected either a number or a dead letter")
    if dead_letter is not None:
        died = func.isola.dead_letters(webhook).table_valued("id", "number")
        number = await work.scalar(select(died.c.number).where(died.c.id == dead_letter))
        if number is None:
            raise NotFound("there is no such dead letter of this webhook", "deadLetterId")
    done: bool | None = await work.scalar(select(func.isola.replay_webhook(webhook, literal(number, BigInteger()))))
    _enforce_existence(exists=done is not None)
    if not done:
        raise BadUserInput("number: expected a number from 1 to the next that is delivered", "number")


async def expect(work: Work, actor: Actor, webhook: UUID) -> None:
    """Raise NotFound unless there is such a webhook, and Forbidden for an actor who may not manage it."""
    actor.require(Permission.WEBHOOK_MANAGE)
    await _found(work, webhook)


def _require(actor: Actor) -> None:
    actor.require(Permission.WEBHOOK_MANAGE)
    actor.require(Permission.AUDIT_READ)


async def _found(work: Work, webhook: UUID) -> Mapping[str, Any]:
    every = func.isola.webhooks().table_valued("id", "kind", "url", "template", "description", "events", "enabled")
    rows = await work.rows(select(every).where(every.c.id == webhook))
    _enforce_existence(exists=bool(rows))
    return rows[0]


def _enforce_existence(*, exists: object) -> None:
    if not exists:
        raise _missing()


def _missing() -> NotFound:
    return NotFound("there is no such webhook")


def _described(description: str) -> str:
    return names.checked("description", description, MAX_DESCRIPTION) if description else ""


def _checked(events: Collection[str]) -> Sequence[str]:
    if not 1 <= len(events) <= MAX_EVENTS:
        raise BadUserInput(f"events: expected 1 to {MAX_EVENTS}", "events")
    subjects = frozenset(audit.subjects_of_log())
    for each in events:
        pattern = _PATTERN.fullmatch(each)
        if each != "*" and (pattern is None or pattern[1] not in subjects):
            raise BadUserInput(
                "events: expected *, or a subject of the log with :create, :update, :delete or :*, such as resource:*",
                "events",
            )
    return sorted(set(events))
