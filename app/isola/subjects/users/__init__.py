from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy import Uuid, bindparam, func, select, update
from sqlalchemy.dialects.postgresql import insert

from isola.subjects import Subject, column, names
from isola.subjects.work import Work


class UserKind(StrEnum):
    """The kind of a user.

    PERSON: a person of the tenant.
    MACHINE: an API key or a worker.
    STAFF: staff of the platform.
    PARENT: a user of an ancestor tenant.
    """

    PERSON = "person"
    MACHINE = "machine"
    STAFF = "staff"
    PARENT = "parent"


PREFIXES: Mapping[str, UserKind] = {
    "key:": UserKind.MACHINE,
    "parent:": UserKind.PARENT,
    "staff:": UserKind.STAFF,
    "worker:": UserKind.MACHINE,
}
"""The subject prefixes of users who are not people of the tenant's own."""

MAX_SUBJECT = 400
MAX_EMAIL = 320
MAX_NAME = 200


class User(
    Subject,
    name="user",
    prefix="usr",
    counted="seen_at IS NOT NULL AND disabled_at IS NULL",
    mutations=frozenset(),
):
    """A user of the tenant: a person or a machine."""

    # The subject claim of the user's tokens: the user's identity. No other column identifies a user.
    subject: str = column(max_length=MAX_SUBJECT, min_length=1, unique=True, private=True, logged=True)
    kind: UserKind = column(default=UserKind.PERSON, index=True, grouped=True)
    name: str = column(max_length=MAX_NAME, index=True)
    email: str | None = column(
        max_length=MAX_EMAIL,
        index=True,
        description="In lower case, as verified by the issuer. Not unique.",
    )
    # The time of the first sign-in. Null for a user who was made in another way and has never signed in.
    seen_at: datetime | None = column(private=True, logged=True)
    disabled_at: datetime | None = column(description="When the user was disabled. Their requests are refused.")


users = User.table
# What a disabled or deleted user shared is hidden: see migrations/control/0001_received_rows.sql.
users.info["triggers"] = (
    (
        "CREATE TRIGGER disabled_insert AFTER INSERT ON users FOR EACH ROW WHEN (NEW.disabled_at IS NOT NULL) "
        "EXECUTE FUNCTION isola.note_disabled()"
    ),
    (
        "CREATE TRIGGER disabled_update AFTER UPDATE OF id, disabled_at ON users FOR EACH ROW "
        "WHEN (OLD.disabled_at IS DISTINCT FROM NEW.disabled_at OR OLD.id <> NEW.id) "
        "EXECUTE FUNCTION isola.note_disabled()"
    ),
    "CREATE TRIGGER disabled_delete AFTER DELETE ON users FOR EACH ROW EXECUTE FUNCTION isola.note_disabled()",
)

KNOWN = select(users.c.id).where(users.c.subject == bindparam("known"))
SEEN = (
    update(users)
    .where(users.c.id == bindparam("key"), users.c.seen_at.is_(None), users.c.kind == UserKind.PERSON.value)
    .values(seen_at=func.now())
)
KIND = select(users.c.kind).where(users.c.id == bindparam("key", type_=Uuid()))
WITH_ADDRESS = select(users.c.id).where(users.c.email == bindparam("address"), users.c.disabled_at.is_(None)).limit(1)
ADDRESSED = update(users).where(users.c.id == bindparam("key"), users.c.email.is_(None))


async def ensure(work: Work, *, subject: str, name: str | None, email: str | None) -> UUID:
    """The user with a token's subject; a new user if the subject is unknown.

    The prefix of the subject determines the kind of a new user. The first name and the first ``email`` are kept. The
    caller must have verified the e-mail address.
    """
    address = normalized_email(email) if email else None
    user: UUID | None = await work.scalar(KNOWN, {"known": subject})
    if user is None:
        entry = {"subject": subject, "kind": kind_of(subject).value, "name": name_of(name, subject), "email": address}
        # A concurrent transaction may insert the same user; then its row is used.
        await work.execute(insert(users).values(entry).on_conflict_do_nothing())
        user = await work.scalar(KNOWN, {"known": subject})
    elif address is not None:
        await work.execute(ADDRESSED, {"key": user, "email": address})
    if user is None:
        raise LookupError("a user who was just created does not exist")
    return user


async def record_visit(work: Work, user_id: UUID) -> bool:
    """Record a person's sign-in; returns whether it is the first one."""
    return await work.execute(SEEN, {"key": user_id}) > 0


async def kind(work: Work, user_id: UUID) -> str | None:
    """The kind of a user; None if there is no such user."""
    found: str | None = await work.scalar(KIND, {"key": user_id})
    return found


async def has_address(work: Work, address: str) -> bool:
    """Whether a user who is not disabled has this e-mail address, in its normalized form."""
    return bool(await work.rows(WITH_ADDRESS, {"address": address}))


def name_of(name: str | None, subject: str) -> str:
    """The name to show for a user: the given one without control characters, or else the subject."""
    return names.cleaned(name or "", MAX_NAME) or names.cleaned(subject, MAX_NAME) or subject


def kind_of(subject: str) -> UserKind:
    return next((kind for prefix, kind in PREFIXES.items() if subject.startswith(prefix)), UserKind.PERSON)


def normalized_email(address: str) -> str | None:
    """An e-mail address in lower case, the stored form; None if the result is empty or too long.

    Only Python does this: PostgreSQL lowers some capital letters differently.
    """
    lowered = address.strip().lower()
    return lowered if 0 < len(lowered) <= MAX_EMAIL else None
