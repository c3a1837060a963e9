"""Verifies the signatures of spans, one or many, and stores what was found."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import DateTime, Uuid, bindparam, func, select, tuple_, update

from isola.subjects.signing_keys import signing_keys
from isola.subjects.spans import spans
from isola.subjects.spans.signatures import SIGNED, Verification, state_of
from isola.subjects.work import Work

PAGE = 500
"""The spans that are read at once."""


@dataclass(slots=True)
class Findings:
    """How many spans were verified, the keys of those that failed, and how many were stored with another state."""

    verified: int = 0
    failed: list[UUID] = field(default_factory=list)
    changed: int = 0

    @property
    def spans(self) -> int:
        return self.verified + len(self.failed)

    def add(self, other: "Findings") -> None:
        self.verified += other.verified
        self.failed += other.failed
        self.changed += other.changed


Place = tuple[datetime, UUID]
"""The last span of a page."""

_KEYS = select(signing_keys.c.id, signing_keys.c.public_key, signing_keys.c.revoked_at).order_by(signing_keys.c.id)
_READ = [spans.c[name] for name in (*SIGNED, "updated_at", "verification", "signature")]
# The index of the reference to the key serves both, in this order.
_FIRST_PAGE = (
    select(*_READ)
    .where(spans.c.signing_key_id == bindparam("key", type_=Uuid()))
    .order_by(spans.c.created_at, spans.c.id)
    .limit(PAGE)
)
_NEXT_PAGE = _FIRST_PAGE.where(
    tuple_(spans.c.created_at, spans.c.id)
    > tuple_(bindparam("at", type_=DateTime(timezone=True)), bindparam("last", type_=Uuid()))
)
_STORED = (
    update(spans)
    .where(spans.c.id == bindparam("span"), spans.c.updated_at == bindparam("read"))
    .values(verification=bindparam("state"), updated_at=func.now())
)


async def keys_of(work: Work) -> Sequence[Mapping[str, Any]]:
    """All signing keys, in the order of their creation."""
    return await work.rows(_KEYS, {})


async def verify_page(work: Work, key: Mapping[str, Any], after: Place | None) -> tuple[Findings, Place | None]:
    """Verify the next spans that a key signed; also the place of the last one, None if there are no more."""
    if after is None:
        rows = await work.rows(_FIRST_PAGE, {"key": key["id"]})
    else:
        rows = await work.rows(_NEXT_PAGE, {"key": key["id"], "at": after[0], "last": after[1]})
    findings = Findings()
    for row in rows:
        state = state_of(row, key)
        if state is Verification.VERIFIED:
            findings.verified += 1
        else:
            findings.failed.append(row["id"])
        if state != row["verification"]:
            # A span that was changed in the meantime is left for the next time.
            values = {"span": row["id"], "read": row["updated_at"], "state": state.value}
            findings.changed += await work.execute(_STORED, values)
    return findings, (rows[-1]["created_at"], rows[-1]["id"]) if len(rows) == PAGE else None
