"""The log of what was done: who changed what, when, and what was there before.

The database writes it, by triggers on every table that declares what its rows are called there. So there is no change
without an entry and no entry without its change, whichever way the change came. Each entry's hash is made over the
entry and the hash before it: see docs/audit.md.
"""

from collections.abc import Sequence
from enum import StrEnum

from sqlalchemy import BigInteger, Column, Index, LargeBinary, Table, Text, UniqueConstraint
from sqlalchemy.dialects.postgresql import JSONB

from app.domain.metadata import Audited, identifier, indexed_text, metadata, moment


class Action(StrEnum):
    """``subject:action``, sorted."""

    ACCESS_CREATE = "access:create"
    API_KEY_CREATE = "api_key:create"
    API_KEY_UPDATE = "api_key:update"
    DOMAIN_CREATE = "domain:create"
    DOMAIN_DELETE = "domain:delete"
    DOMAIN_UPDATE = "domain:update"
    MEMBERSHIP_CREATE = "membership:create"
    MEMBERSHIP_DELETE = "membership:delete"
    MEMBERSHIP_UPDATE = "membership:update"
    ORGANIZATION_CREATE = "organization:create"
    ORGANIZATION_DELETE = "organization:delete"
    ORGANIZATION_UPDATE = "organization:update"
    RESOURCE_CREATE = "resource:create"
    RESOURCE_DELETE = "resource:delete"
    RESOURCE_UPDATE = "resource:update"
    ROLE_CREATE = "role:create"
    ROLE_DELETE = "role:delete"
    ROLE_UPDATE = "role:update"
    SHARE_CREATE = "share:create"
    SHARE_UPDATE = "share:update"
    SHARE_ANSWER_CREATE = "share_answer:create"
    SHARE_ANSWER_UPDATE = "share_answer:update"
    SIGN_OUT_CREATE = "sign_out:create"
    SIGN_OUT_UPDATE = "sign_out:update"
    SPAN_CREATE = "span:create"
    SPAN_DELETE = "span:delete"
    SPAN_UPDATE = "span:update"
    USER_CREATE = "user:create"
    USER_DELETE = "user:delete"
    USER_UPDATE = "user:update"
    USER_ROLE_CREATE = "user_role:create"
    USER_ROLE_DELETE = "user_role:delete"
    USER_ROLE_UPDATE = "user_role:update"


MAX_ACTOR = 400
MAX_ACTION = 100
MAX_OBJECT = 400

audit_entries = Table(
    "audit_entries",
    metadata,
    identifier(),
    # Its place in the chain, from 1 on, without gaps.
    Column("number", BigInteger, nullable=False),
    moment("at"),
    # A user's typed id, or what else acted. None where nobody was signed in: commands, and whoever comes in.
    indexed_text("actor", MAX_ACTOR, nullable=True),
    Column("on_behalf_of", Text),
    Column("request", Text),
    indexed_text("action", MAX_ACTION),
    # Typed ids; of what is known by two, both with a slash between.
    indexed_text("object", MAX_OBJECT),
    # The columns that changed; of what was made or deleted, all. None where there was nothing, or is nothing now.
    Column("old", JSONB),
    Column("new", JSONB),
    Column("hash", LargeBinary, nullable=False),
    UniqueConstraint("number"),
    Index(None, "at", "id"),
    Index(None, "actor", "id"),
    Index(None, "action", "id"),
    Index(None, "object", "id"),
    # Rights on it go no further than reading.
    info={"read_only": True},
)


def triggers(table: Table) -> Sequence[str]:
    """Statements that have every change of a table's rows noted."""
    audited: Audited | None = table.info.get("audited")
    if audited is None:
        return []
    key = [part for column, prefix in audited.key.items() for part in (prefix, column)]
    arguments = ", ".join(f"'{part}'" for part in (audited.subject, f"{{{','.join(audited.left_out)}}}", *key))
    return [
        f"CREATE TRIGGER audit_{event} AFTER {event} ON {table.name} REFERENCING {rows} "
        f"FOR EACH STATEMENT EXECUTE FUNCTION isola.audit({arguments})"
        for event, rows in (
            ("insert", "NEW TABLE AS new_rows"),
            ("update", "OLD TABLE AS old_rows NEW TABLE AS new_rows"),
            ("delete", "OLD TABLE AS old_rows"),
        )
    ]
