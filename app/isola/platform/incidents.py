"""Security incidents, opened and closed by the platform's staff: with severity, tenants concerned, notes and entries.

Each step is in the platform's log, in the same transaction. A tenant that is concerned reads of an incident what staff
show it, by ``isola.incidents()``: its title, severity and times, and the notes that are shown.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Table,
    Text,
    Uuid,
    func,
    select,
    text,
    update,
)
from sqlalchemy.dialects.postgresql import insert

from isola.database.transactions import Database, Transaction
from isola.errors import BadUserInput, Conflict, NotFound
from isola.platform import platform_log
from isola.platform.platform_log import Action, Author
from isola.platform.tenants import SLUG, Status, metadata, tenants
from isola.subjects.metadata import identifier, moment

MAX_TITLE, MAX_TEXT, MAX_ENTRIES, MAX_TENANTS = 200, 4000, 100, 100


class IncidentSeverity(StrEnum):
    """How severe an incident is.

    LOW: Nothing of a tenant was at risk.
    MEDIUM: Something of a tenant may have been at risk.
    HIGH: Something of a tenant was at risk.
    CRITICAL: Data of a tenant was seen or changed by somebody who may not.
    """

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    CRITICAL = "critical"


incidents = Table(
    "incidents",
    metadata,
    identifier(),
    Column("title", Text, nullable=False),
    Column("severity", Text, nullable=False),
    Column("opened_by", Text, nullable=False),
    moment("opened_at"),
    moment("closed_at", nullable=True, default=None),
    CheckConstraint(f"length(title) BETWEEN 1 AND {MAX_TITLE}", name="title_length"),
    CheckConstraint("severity IN ('low', 'medium', 'high', 'critical')", name="severity"),
)

incident_notes = Table(
    "incident_notes",
    metadata,
    identifier(),
    Column("incident_id", Uuid, ForeignKey("control.incidents.id"), nullable=False),
    Column("text", Text, nullable=False),
    # Ids of entries, of the platform's log or of a tenant's.
    Column("entries", ARRAY(Uuid), nullable=False),
    # Whether the tenants that see the incident see the note.
    Column("shown", Boolean, nullable=False),
    Column("noted_by", Text, nullable=False),
    moment("noted_at"),
    CheckConstraint(f"length(text) BETWEEN 1 AND {MAX_TEXT}", name="text_length"),
    CheckConstraint(f"cardinality(entries) <= {MAX_ENTRIES}", name="entries"),
    Index(None, "incident_id", "id"),
)

incident_tenants = Table(
    "incident_tenants",
    metadata,
    Column("tenant_id", Uuid, ForeignKey("control.tenants.id"), primary_key=True),
    Column("incident_id", Uuid, ForeignKey("control.incidents.id"), primary_key=True),
    # Whether the tenant sees the incident.
    Column("shown", Boolean, nullable=False, server_default=text("false")),
    Index(None, "incident_id"),
)


@dataclass(frozen=True, slots=True)
class Note:
    id: UUID
    text: str
    entries: Sequence[UUID]
    shown: bool
    noted_by: str
    noted_at: datetime


@dataclass(frozen=True, slots=True)
class Incident:
    """``tenants`` are the slugs of those concerned, ``shown_to`` of those that see it; ``notes`` are in their order."""

    id: UUID
    title: str
    severity: IncidentSeverity
    opened_by: str
    opened_at: datetime
    closed_at: datetime | None
    tenants: Sequence[str]
    shown_to: Sequence[str]
    notes: Sequence[Note]


@dataclass(frozen=True, slots=True)
class Step:
    """What a note adds to an incident. ``text`` may be empty if tenants are added or shown.

    ``shown``: the tenants that see the incident see the note. ``tenants`` are the slugs of further tenants concerned,
    and ``show_to`` of those that see the incident from now on, who are concerned thereby.
    """

    text: str = ""
    entries: Sequence[UUID] = ()
    shown: bool = False
    tenants: Collection[str] = ()
    show_to: Collection[str] = ()


def key_of(text: str) -> UUID:
    """The key of an incident. Raises NotFound for what is no id."""
    try:
        return UUID(text)
    except ValueError:
        raise NotFound("there is no such incident", value=text) from None


def entries_of(ids: Iterable[str]) -> Sequence[UUID]:
    """The keys of entries, by their ids in the platform's log or, with ``aud_``, in a tenant's. Raises BadUserInput."""
    try:
        return [UUID(each.removeprefix("aud_")) for each in ids]
    except ValueError:
        raise BadUserInput("entries: expected ids of entries of a log", "entries") from None


async def start(control: Database, by: Author, title: str, severity: IncidentSeverity, step: Step) -> Incident:
    """Open an incident. Raises BadUserInput, and NotFound for a tenant."""
    title = title.strip()
    if not 1 <= len(title) <= MAX_TITLE or not title.isprintable():
        raise BadUserInput(f"title: expected 1 to {MAX_TITLE} printable characters", "title")
    new = insert(incidents).values(title=title, severity=severity.value, opened_by=by.actor)
    async with control.unbound() as work:
        key: UUID = await work.scalar(new.returning(incidents.c.id))
        facts = {"title": title, "severity": severity.value, **await _add(work, by, key, step)}
        await _log(work, by, Action.INCIDENT_OPEN, key, facts)
        return await _read(work, key)


async def note(control: Database, by: Author, key: UUID, step: Step) -> Incident:
    """Add to an incident, also to a closed one. Raises BadUserInput, and NotFound."""
    if not (step.text.strip() or step.tenants or step.show_to):
        raise BadUserInput("text: expected a note, or tenants to add", "text")
    async with control.unbound() as work:
        await _lock(work, key)
        await _log(work, by, Action.INCIDENT_NOTE, key, await _add(work, by, key, step))
        return await _read(work, key)


async def close(control: Database, by: Author, key: UUID, step: Step) -> Incident:
    """Close an incident, with a last note if there is one. Raises BadUserInput, NotFound, and Conflict if it was."""
    async with control.unbound() as work:
        if await _lock(work, key) is not None:
            raise Conflict("the incident is closed already")
        await work.execute(update(incidents).where(incidents.c.id == key).values(closed_at=func.now()))
        await _log(work, by, Action.INCIDENT_CLOSE, key, await _add(work, by, key, step))
        return await _read(work, key)


async def page(control: Database, *, is_open: bool | None = None, after: UUID | None, first: int) -> Sequence[Incident]:
    """At most ``first`` incidents, the newest first; only open or only closed ones if ``is_open`` says so."""
    question = select(incidents.c.id).order_by(incidents.c.id.desc()).limit(first)
    if is_open is not None:
        question = question.where(incidents.c.closed_at.is_(None) if is_open else incidents.c.closed_at.is_not(None))
    if after is not None:
        question = question.where(incidents.c.id < after)
    async with control.unbound() as work:
        return [await _read(work, row["id"]) for row in await work.rows(question)]


async def _lock(work: Transaction, key: UUID) -> datetime | None:
    """Let no other step happen meanwhile; when the incident was closed. Raises NotFound."""
    rows = await work.rows(select(incidents.c.closed_at).where(incidents.c.id == key).with_for_update())
    if not rows:
        raise NotFound("there is no such incident")
    closed_at: datetime | None = rows[0]["closed_at"]
    return closed_at


async def _add(work: Transaction, by: Author, key: UUID, step: Step) -> dict[str, Any]:
    """Store a step; what the log has of it."""
    facts: dict[str, Any] = {}
    words = step.text.strip()
    if len(words) > MAX_TEXT or not words.replace("\n", "").isprintable():
        raise BadUserInput(f"text: expected at most {MAX_TEXT} printable characters", "text")
    if len(step.entries) > MAX_ENTRIES:
        raise BadUserInput(f"entries: expected at most {MAX_ENTRIES}", "entries")
    if words:
        entries = list(step.entries)
        new = {"incident_id": key, "text": words, "entries": entries, "shown": step.shown, "noted_by": by.actor}
        await work.execute(insert(incident_notes).values(new))
        facts |= {"text": words, "entries": [str(each) for each in entries], "shown": step.shown}
    elif step.entries:
        raise BadUserInput("text: expected a note, since there are entries", "text")
    for slugs, shown in ((sorted({*step.tenants} - {*step.show_to}), False), (sorted({*step.show_to}), True)):
        field = "showTo" if shown else "tenants"
        if len(slugs) > MAX_TENANTS:
            raise BadUserInput(f"{field}: expected at most {MAX_TENANTS}", field)
        for slug in slugs:
            concerned = insert(incident_tenants).values(
                tenant_id=await _named(work, slug, field), incident_id=key, shown=shown
            )
            changed = {"shown": incident_tenants.c.shown | concerned.excluded.shown}
            await work.execute(
                concerned.on_conflict_do_update(index_elements=["tenant_id", "incident_id"], set_=changed)
            )
    if step.tenants:
        facts["tenants"] = sorted({*step.tenants})
    if step.show_to:
        facts["show_to"] = sorted({*step.show_to})
    return facts


async def _named(work: Transaction, slug: str, field: str) -> UUID:
    live = select(tenants.c.id).where(tenants.c.slug == slug, tenants.c.status != Status.DELETED)
    key: UUID | None = await work.scalar(live) if SLUG.fullmatch(slug) else None
    if key is None:
        raise NotFound("there is no such tenant", field, value=slug)
    return key


async def _log(work: Transaction, by: Author, action: Action, key: UUID, facts: dict[str, Any]) -> None:
    await platform_log.note(work, by.actor, action, f"incident:{key}", None, facts or None, by.request)


async def _read(work: Transaction, key: UUID) -> Incident:
    [row] = await work.rows(select(incidents).where(incidents.c.id == key))
    notes = await work.rows(select(*_NOTE).where(incident_notes.c.incident_id == key).order_by(incident_notes.c.id))
    concerned = await work.rows(
        select(tenants.c.slug, incident_tenants.c.shown)
        .join(tenants, tenants.c.id == incident_tenants.c.tenant_id)
        .where(incident_tenants.c.incident_id == key)
        .order_by(tenants.c.slug)
    )
    return Incident(
        **{**row, "severity": IncidentSeverity(row["severity"])},
        tenants=[each["slug"] for each in concerned],
        shown_to=[each["slug"] for each in concerned if each["shown"]],
        notes=[Note(**each) for each in notes],
    )


_NOTE = tuple(incident_notes.c[each.name] for each in fields(Note))
