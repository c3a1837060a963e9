from collections.abc import Mapping
from enum import StrEnum
from uuid import UUID

from sqlalchemy import (
    CheckConstraint,
    Column,
    Index,
    Table,
    Text,
    UniqueConstraint,
    bindparam,
    func,
    select,
    text,
    update,
)
from sqlalchemy.dialects.postgresql import insert

from isola.domain import names
from isola.domain.metadata import Audited, Counted, identifier, indexed_text, metadata, moment
from isola.domain.work import Work


class Kind(StrEnum):
    PERSON = "person"
    MACHINE = "machine"
    STAFF = "staff"
    PARENT = "parent"


PREFIXES: Mapping[str, Kind] = {"key:": Kind.MACHINE, "parent:": Kind.PARENT, "staff:": Kind.STAFF}
"""What the subjects of users begin with who are no people of the tenant's own."""

MAX_SUBJECT = 400
MAX_EMAIL = 320
MAX_NAME = 200

users = Table(
    "users",
    metadata,
    identifier(),
    # Who this is to the issuer of tokens: the user's identity. Nothing else tells users apart.
    indexed_text("subject", MAX_SUBJECT, least=1),
    Column("kind", Text, nullable=False, server_default=text("'person'")),
    Column("name", Text, nullable=False),
    # How to reach them. Several users may have the same address.
    indexed_text("email", MAX_EMAIL, nullable=True),
    moment("created_at"),
    # When they came in for the first time. One who was made otherwise may never have.
    moment("seen_at", nullable=True, default=None),
    moment("disabled_at", nullable=True, default=None),
    UniqueConstraint("subject"),
    CheckConstraint("kind IN ('person', 'machine', 'staff', 'parent')", name="kind"),
    Index(None, "email", "id"),
    info={
        "audited": Audited("user", {"id": "usr_"}),
        # Those who have come in and are not disabled.
        "counted": Counted("users", "seen_at IS NOT NULL AND disabled_at IS NULL", ("seen_at", "disabled_at")),
    },
)

KNOWN = select(users.c.id).where(users.c.subject == bindparam("known"))
SEEN = (
    update(users)
    .where(users.c.id == bindparam("key"), users.c.seen_at.is_(None), users.c.kind == Kind.PERSON.value)
    .values(seen_at=func.now())
)
ADDRESSED = update(users).where(users.c.id == bindparam("key"), users.c.email.is_(None))


async def ensure(work: Work, *, subject: str, name: str | None, email: str | None) -> UUID:
    """The user that a subject of tokens is, made if it is seen for the first time.

    The kind of a new user follows from the prefix of the subject. The first name and the first ``email`` are kept. The
    e-mail address has to be verified by whoever names it.
    """
    address = normalized_email(email) if email else None
    user: UUID | None = await work.scalar(KNOWN, {"known": subject})
    if user is None:
        entry = {"subject": subject, "kind": kind_of(subject).value, "name": name_of(name, subject), "email": address}
        # Another transaction may be making the same user just now; then that one is it.
        await work.execute(insert(users).values(entry).on_conflict_do_nothing())
        user = await work.scalar(KNOWN, {"known": subject})
    elif address is not None:
        await work.execute(ADDRESSED, {"key": user, "email": address})
    if user is None:
        raise LookupError("a user who was just made is not there")
    return user


async def record_visit(work: Work, user_id: UUID) -> bool:
    """Note that a person has come in; whether it is the first time."""
    return await work.execute(SEEN, {"key": user_id}) > 0


def name_of(name: str | None, subject: str) -> str:
    """What a user is called: by a name that somebody vouches for, else by the subject."""
    return names.cleaned(name or "", MAX_NAME) or names.cleaned(subject, MAX_NAME) or subject


def kind_of(subject: str) -> Kind:
    return next((kind for prefix, kind in PREFIXES.items() if subject.startswith(prefix)), Kind.PERSON)


def normalized_email(address: str) -> str | None:
    """An e-mail address in lower case, the form in which all are stored; None for one that is too long then.

    Only Python does this: PostgreSQL lowers some capitals differently.
    """
    lowered = address.strip().lower()
    return lowered if 0 < len(lowered) <= MAX_EMAIL else None
