"""What endpoints get of an entry of the log: names of actions and ids, never a value of a row."""

from collections.abc import Collection, Mapping
from datetime import UTC, datetime

from isola.platform.webhooks import Entry


def message_id(entry: Entry) -> str:
    """The id of an event, the same in every attempt: that of its entry."""
    return f"aud_{entry.id}"


def payload(tenant: str, entry: Entry) -> Mapping[str, object]:
    """The document about an entry of a tenant, which is named by its slug."""
    return {
        "type": entry.action,
        "timestamp": entry.at.astimezone(UTC).isoformat(),
        "data": data(tenant, entry),
    }


def data(tenant: str, entry: Entry) -> Mapping[str, object]:
    """What is said about an entry."""
    found = {
        "tenant": tenant,
        "number": entry.number,
        "action": entry.action,
        "id": entry.object,
        "actorKind": _kind(entry.actor),
    }
    if entry.owner is not None:
        found["owner"] = entry.owner
    return found


def ping(tenant: str) -> Mapping[str, object]:
    """The document of a test."""
    return {"type": "ping", "timestamp": datetime.now(UTC).isoformat(), "data": {"tenant": tenant}}


def _kind(actor: str | None) -> str:
    """``user`` for the users of the tenant, people and machines; ``platform`` for staff; ``none`` without an actor."""
    if actor is None:
        return "none"
    return "user" if actor.startswith("usr_") else "platform"


def matches(action: str, patterns: Collection[str]) -> bool:
    """Whether one of these patterns is the action, or all actions of its subject (``resource:*``), or all (``*``)."""
    return not {action, f"{action.partition(':')[0]}:*", "*"}.isdisjoint(patterns)
