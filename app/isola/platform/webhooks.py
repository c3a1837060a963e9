"""Webhooks of tenants, and what servers note about deliveries to them.

Tenants read and write them through the functions of the schema ``isola`` only. A server that delivers has a *lease*: a
random id in the row, which ends after a minute, and with every change of the webhook. Whatever it notes names the
lease, so one that has lost it changes nothing.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Computed,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    Select,
    Table,
    Text,
    Uuid,
    and_,
    bindparam,
    case,
    column,
    func,
    select,
    table,
    text,
)

from isola.database.transactions import Database, Transaction
from isola.platform.tenants import Tenant, metadata
from isola.subjects.audit import audit_log
from isola.subjects.metadata import identifier, indexed_text, moment

MAX_URL = 2000
MAX_DESCRIPTION = 200
MAX_EVENTS = 100
MAX_FAILURE = 100
MAX_SEALED = 4000
"""Bytes of an encrypted secret."""
MAX_TEMPLATE = 300
KEPT_REQUESTS = 1000
"""Requests of each webhook that are kept, the newest."""
LEASE = 60.0
"""Seconds until another server takes a webhook over from one that does not answer. A delivery takes less."""

webhooks = Table(
    "webhooks",
    metadata,
    identifier(),
    Column("tenant_id", Uuid, ForeignKey("control.tenants.id"), nullable=False),
    Column("kind", Text, nullable=False, server_default=text("'webhook'")),
    indexed_text("url", MAX_URL),
    # What the log has of it.
    Column("origin", Text, Computed("substring(url from '^[a-z]+://[^/?#]+')", persisted=True)),
    indexed_text("description", MAX_DESCRIPTION),
    Column("events", ARRAY(Text), nullable=False),
    # What the secret and, for a day, the former one are derived from: see isola.webhooks.signing.
    Column("secret_id", Uuid, nullable=False, server_default=text("gen_random_uuid()")),
    moment("secret_changed_at"),
    Column("former_secret_id", Uuid),
    moment("former_secret_until", nullable=True, default=None),
    # The secret of a connector, encrypted: see isola.webhooks.sealing.
    Column("sealed", LargeBinary, nullable=False, server_default=text("''")),
    Column("template", Text, nullable=False, server_default=text("''")),
    Column("enabled", Boolean, nullable=False, server_default=text("true")),
    # Null if the transaction proved no user: a worker's.
    Column("created_by", Uuid),
    moment("created_at"),
    moment("updated_at"),
    moment("replayed_at", nullable=True, default=None),
    # The number of the last entry that was delivered, died, or did not have to be delivered.
    Column("delivered", BigInteger, nullable=False),
    Column("requests", BigInteger, nullable=False, server_default=text("0")),
    moment("succeeded_at", nullable=True, default=None),
    # The attempts to deliver the next event, and why the last one failed.
    Column("failures", Integer, nullable=False, server_default=text("0")),
    indexed_text("failure", MAX_FAILURE, nullable=True),
    # Null if it is due at once.
    moment("next_attempt_at", nullable=True, default=None),
    Column("lease", Uuid),
    moment("leased_until", nullable=True, default=None),
    CheckConstraint(f"cardinality(events) BETWEEN 1 AND {MAX_EVENTS}", name="events_length"),
    CheckConstraint("kind IN ('webhook', 'posthog', 'slack')", name="kind_values"),
    CheckConstraint(f"octet_length(sealed) <= {MAX_SEALED} AND (kind = 'webhook') = (sealed = '')", name="sealed_kind"),
    CheckConstraint(
        f"length(template) <= {MAX_TEMPLATE} AND (kind = 'slack') = (template <> '')", name="template_kind"
    ),
    Index(None, "tenant_id", "id"),
)

# The events that were given up.
dead_letters = Table(
    "dead_letters",
    metadata,
    identifier(),
    Column("tenant_id", Uuid, ForeignKey("control.tenants.id"), nullable=False),
    Column("webhook_id", Uuid, ForeignKey("control.webhooks.id", ondelete="CASCADE"), nullable=False),
    Column("number", BigInteger, nullable=False),
    Column("entry_id", Uuid, nullable=False),
    indexed_text("action", 100),
    Column("attempts", Integer, nullable=False),
    indexed_text("failure", MAX_FAILURE),
    moment("died_at"),
    Index(None, "webhook_id", "id"),
    Index(None, "tenant_id"),
)

# The last requests of each webhook. ``number`` counts its requests.
connector_events = Table(
    "connector_events",
    metadata,
    identifier(),
    Column("tenant_id", Uuid, ForeignKey("control.tenants.id"), nullable=False),
    Column("webhook_id", Uuid, ForeignKey("control.webhooks.id", ondelete="CASCADE"), nullable=False),
    Column("number", BigInteger, nullable=False),
    Column("first_entry", BigInteger, nullable=False),
    Column("last_entry", BigInteger, nullable=False),
    Column("entries", Integer, nullable=False),
    Column("attempt", Integer, nullable=False),
    indexed_text("failure", MAX_FAILURE, nullable=True),
    Column("bytes", Integer, nullable=False),
    moment("at"),
    Index(None, "webhook_id", "number", unique=True),
    Index(None, "tenant_id"),
)


@dataclass(frozen=True, slots=True, repr=False)  # without repr: URLs may contain secrets
class Target:
    """Where deliveries go, and what signs or opens them: ids of secrets, or an encrypted secret."""

    id: UUID
    tenant_id: UUID
    kind: str
    url: str
    sealed: bytes
    template: str
    secret_id: UUID
    former_secret_id: UUID | None


@dataclass(frozen=True, slots=True, repr=False)
class Claimed(Target):
    """A webhook that this server has to deliver to now; ``delivered`` is the number of the last entry that is done."""

    events: Sequence[str]
    delivered: int
    failures: int
    lease: UUID


@dataclass(frozen=True, slots=True)
class Entry:
    """What an endpoint may learn of an entry of the log, and whether everybody may learn of it.

    ``owner`` is the slug of the tenant that shares something, in entries about received shares.
    """

    number: int
    id: UUID
    at: datetime
    action: str
    object: str
    actor: str | None
    owner: str | None
    public: bool


@dataclass(frozen=True, slots=True)
class Attempt:
    """A request that was made: its entries, of which there is at least one, and how it ended.

    ``number`` is 1 for the first attempt. ``failure`` is None if it was accepted. ``size`` is that of the body,
    in bytes.
    """

    batch: Sequence[Entry]
    number: int
    failure: str | None
    size: int


async def claim(control: Database, *, failing: bool, besides: Collection[UUID]) -> Claimed | None:
    """Take a webhook that is due, of a tenant that is active; None if there is none.

    ``failing``: whether its last attempt failed. Tenants ``besides`` are left out.
    """
    async with control.unbound() as work:
        rows = await work.rows(_CLAIM, {"failing": failing, "besides": list(besides), "lasts": LEASE})
    return Claimed(**rows[0]) if rows else None


async def note(control: Database, claimed: Claimed, attempt: Attempt) -> None:
    """Note a request among the last ones of its webhook, whoever has the lease by now."""
    first, last = attempt.batch[0].number, attempt.batch[-1].number
    values = (first, last, len(attempt.batch), attempt.number, attempt.failure, attempt.size, KEPT_REQUESTS)
    async with control.unbound() as work:
        await work.value(_NOTE, claimed.id, *values)


async def advance(control: Database, claimed: Claimed, number: int, *, success: bool) -> bool:
    """Note that the entries up to a number are done, and whether the last was delivered; whether to continue.

    Not without the lease any more, nor if the tenant is no longer active.
    """
    async with control.unbound() as work:
        return bool(await work.value(_ADVANCE, claimed.id, claimed.lease, number, success, LEASE))


async def postpone(control: Database, claimed: Claimed, failure: str, delay: float) -> None:
    """Note that an attempt failed. The next is due after ``delay`` seconds."""
    async with control.unbound() as work:
        await work.value(_POSTPONE, claimed.id, claimed.lease, failure, delay)


async def bury(control: Database, claimed: Claimed, entry: Entry, attempts: int, failure: str) -> bool:
    """Give an event up; whether to continue, as in ``advance``."""
    values = (entry.number, entry.id, entry.action, attempts, failure, LEASE)
    async with control.unbound() as work:
        return bool(await work.value(_BURY, claimed.id, claimed.lease, *values))


async def release(control: Database, claimed: Claimed, pause: float) -> None:
    """Let any server take the webhook after ``pause`` seconds."""
    async with control.unbound() as work:
        await work.value(_RELEASE, claimed.id, claimed.lease, pause)


async def disable(tenants: Database, tenant: Tenant, webhook: UUID, failure: str) -> None:
    """Disable a webhook, in its tenant's log as well."""
    async with tenants.transaction(tenant) as work:
        await work.scalar(select(func.isola.disable_webhook(webhook, failure)))


async def target(control: Database, tenant: UUID, webhook: UUID) -> Target | None:
    """The target of a tenant's webhook, None if there is none."""
    async with control.unbound() as work:
        rows = await work.rows(_TARGET.where(webhooks.c.tenant_id == tenant, webhooks.c.id == webhook))
    return Target(**rows[0]) if rows else None


async def after(work: Transaction, number: int, most: int) -> Sequence[Entry]:
    """The first ``most`` entries of the bound tenant's log after a number. The transaction must prove no user."""
    return [Entry(**row) for row in await work.rows(_AFTER, {"number": number, "most": most})]


# The log as a transaction without a user reads it: its values are those that everybody may see.
_LOG = table(
    audit_log.name,
    *(column(name, audit_log.c[name].type) for name in ("id", "at", "action", "object", "actor", "old", "new")),
    column("old_visible", Boolean()),
    column("new_visible", Boolean()),
)


def _after() -> Select[Any]:
    """An entry is public if the rule of its row admits a user without any permission, before and after it."""
    given = bindparam("number", type_=BigInteger), bindparam("most", type_=BigInteger)
    feed = func.isola.feed(*given).table_valued(column("number", BigInteger), column("id", Uuid))
    log = _LOG.c
    verb = func.split_part(log.action, ":", 2)
    public = case(
        (verb == "create", log.new_visible),
        (verb == "delete", log.old_visible),
        else_=and_(log.old_visible, log.new_visible),
    )
    owner = func.coalesce(log.new, log.old).op("->>", return_type=Text())("owner")
    of_share = func.split_part(log.action, ":", 1) == "received_share"
    return (
        select(
            feed.c.number,
            log.id,
            log.at,
            log.action,
            log.object,
            log.actor,
            case((of_share, owner)).label("owner"),
            public.label("public"),
        )
        .join(feed, feed.c.id == log.id)
        .order_by(feed.c.number)
    )


_AFTER = _after()
_TARGET = select(
    webhooks.c.id,
    webhooks.c.tenant_id,
    webhooks.c.kind,
    webhooks.c.url,
    webhooks.c.sealed,
    webhooks.c.template,
    webhooks.c.secret_id,
    case((webhooks.c.former_secret_until > func.now(), webhooks.c.former_secret_id)).label("former_secret_id"),
)
# SKIP LOCKED: servers skip what another takes. Those that have waited longest come first.
_CLAIM = text("""
UPDATE control.webhooks w SET lease = gen_random_uuid(), leased_until = now() + :lasts * interval '1 second'
WHERE id = (
    SELECT d.id FROM control.webhooks d JOIN control.audit_heads h ON h.tenant_id = d.tenant_id
    WHERE d.enabled AND h.entries > d.delivered AND (d.failures > 0) = :failing AND d.tenant_id <> ALL (:besides)
      AND (d.next_attempt_at IS NULL OR d.next_attempt_at <= now())
      AND (d.leased_until IS NULL OR d.leased_until <= now())
      AND control.status_of(d.tenant_id) = 'active'
    ORDER BY d.leased_until NULLS FIRST, d.id LIMIT 1 FOR UPDATE OF d SKIP LOCKED
)
RETURNING id, tenant_id, kind, url, sealed, template, events, secret_id, delivered, failures, lease,
    CASE WHEN former_secret_until > now() THEN former_secret_id END AS former_secret_id
""").bindparams(
    bindparam("lasts", type_=Float()),
    bindparam("failing", type_=Boolean()),
    bindparam("besides", type_=ARRAY(Uuid())),
)
_NOTE = """
WITH counted AS (
    UPDATE control.webhooks SET requests = requests + 1 WHERE id = $1 RETURNING id, tenant_id, requests
), removed AS (
    DELETE FROM control.connector_events e USING counted c WHERE e.webhook_id = c.id AND e.number <= c.requests - $8
)
INSERT INTO control.connector_events (
    webhook_id, tenant_id, number, first_entry, last_entry, entries, attempt, failure, bytes
)
SELECT id, tenant_id, requests, $2, $3, $4, $5, $6, $7 FROM counted
"""
_ADVANCE = """
UPDATE control.webhooks SET
    delivered = $3, failures = 0, next_attempt_at = NULL, leased_until = now() + $5 * interval '1 second',
    succeeded_at = CASE WHEN $4 THEN now() ELSE succeeded_at END, failure = CASE WHEN NOT $4 THEN failure END
WHERE id = $1 AND lease = $2
RETURNING control.status_of(tenant_id) = 'active'
"""
_POSTPONE = """
UPDATE control.webhooks SET failures = failures + 1, failure = $3, next_attempt_at = now() + $4 * interval '1 second'
WHERE id = $1 AND lease = $2
"""
_BURY = """
WITH gone AS (
    UPDATE control.webhooks SET
        delivered = $3, failures = 0, failure = $7, next_attempt_at = NULL,
        leased_until = now() + $8 * interval '1 second'
    WHERE id = $1 AND lease = $2
    RETURNING id, tenant_id
), kept AS (
    INSERT INTO control.dead_letters (tenant_id, webhook_id, number, entry_id, action, attempts, failure)
    SELECT tenant_id, id, $3, $4, $5, $6, $7 FROM gone
)
SELECT control.status_of(tenant_id) = 'active' FROM gone
"""
_RELEASE = """
UPDATE control.webhooks SET lease = NULL, leased_until = now() + $3 * interval '1 second' WHERE id = $1 AND lease = $2
"""
