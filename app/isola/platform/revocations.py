"""Revocations of tokens that are signed and not expired: single tokens, sessions, and all tokens of a user."""

import json
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Literal, NamedTuple, Self
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    CheckConstraint,
    Column,
    DateTime,
    ForeignKey,
    Index,
    Table,
    Text,
    Uuid,
    any_,
    bindparam,
    delete,
    func,
    literal,
    select,
    text,
)
from sqlalchemy.dialects.postgresql import insert

from isola.database.transactions import Transaction
from isola.platform.changes import Kind as Change, announce
from isola.platform.tenants import metadata
from isola.subjects.metadata import indexed_text, moment
from isola.subjects.users import MAX_SUBJECT

revocations = Table(
    "revocations",
    metadata,
    # What is revoked, in the form of Revocable.key.
    Column("key", Text, primary_key=True),
    # By then, everything that this revokes has expired.
    Column("until", DateTime(timezone=True), nullable=False, server_default=text("'infinity'")),
    CheckConstraint("octet_length(key) <= 2600", name="key_length"),
    Index(None, "until", postgresql_where=text("until < 'infinity'")),
)

# Written by tenants, through the function isola.sign_out only.
sign_outs = Table(
    "sign_outs",
    metadata,
    Column("tenant_id", Uuid, ForeignKey("control.tenants.id"), primary_key=True),
    indexed_text("subject", MAX_SUBJECT, primary_key=True),
    Column("user_id", Uuid, nullable=False),
    # Tokens issued earlier are refused.
    moment("not_before", default=None),
)


class Revocable(NamedTuple):
    """What can be revoked: something by its issuer's identifier, or all tokens of a tenant's user, by subject."""

    kind: Literal["session", "token", "user"]
    scope: str | UUID
    name: str

    @classmethod
    def token(cls, issuer: str, token_id: str) -> Self:
        """The token with this claim ``jti``."""
        return cls("token", issuer, token_id)

    @classmethod
    def session(cls, issuer: str, session_id: str) -> Self:
        """All tokens with this claim ``sid``."""
        return cls("session", issuer, session_id)

    @classmethod
    def user(cls, tenant: UUID, subject: str) -> Self:
        """All tokens for this user of a tenant, of any issuer."""
        return cls("user", tenant, subject)

    @classmethod
    def announced(cls, key: str) -> Self:
        """Parse the key of a change: a user as ``<tenant>/<subject>``, others as a JSON list."""
        if not key.startswith("["):
            tenant, _, subject = key.partition("/")
            return cls("user", UUID(tenant), subject)
        return cls(*json.loads(key))

    @property
    def key(self) -> str:
        return json.dumps(self, ensure_ascii=False)


async def revoke(control: Transaction, revocable: Revocable, *, until: datetime | None = None) -> None:
    """Make every server refuse a token or the tokens of a session, within seconds of the commit.

    ``until`` is when the last of them expires, if known. Revoking again never shortens it.
    """
    await control.execute(delete(revocations).where(revocations.c.until < func.now()))
    new = insert(revocations).values({"key": revocable.key} | ({} if until is None else {"until": until}))
    latest = {"until": func.greatest(revocations.c.until, new.excluded.until)}
    await control.execute(new.on_conflict_do_update(index_elements=["key"], set_=latest))
    await announce(control, Change.REVOCATION, revocable.key)


async def find(control: Transaction, user: Revocable, others: Iterable[Revocable] = ()) -> Mapping[Revocable, float]:
    """For those that are revoked, the time in seconds since 1970; tokens issued before it are refused."""
    keyed = {each.key: each for each in others}
    rows = await control.rows(_FIND, {"tenant": user.scope, "subject": user.name, "keys": list(keyed)})
    return {user if row["key"] is None else keyed[row["key"]]: row["not_before"] for row in rows}


_FIND = (
    select(literal(None, Text()).label("key"), func.date_part("epoch", sign_outs.c.not_before).label("not_before"))
    .where(sign_outs.c.tenant_id == bindparam("tenant"), sign_outs.c.subject == bindparam("subject"))
    .union_all(
        select(revocations.c.key, text("'infinity'::float8")).where(
            revocations.c.key == any_(bindparam("keys", type_=ARRAY(Text())))
        )
    )
)
