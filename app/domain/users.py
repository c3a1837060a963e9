from uuid import UUID

from sqlalchemy import CheckConstraint, Column, Table, Text, UniqueConstraint, bindparam, func, select, update
from sqlalchemy.dialects.postgresql import insert

from app.domain.metadata import Audited, identifier, indexed_text, metadata, moment
from app.domain.work import Work
from app.errors import Conflict

MAX_SUBJECT = 400
MAX_EMAIL = 320

users = Table(
    "users",
    metadata,
    identifier(),
    # Who this is to the issuer of tokens.
    indexed_text("subject", MAX_SUBJECT, least=1),
    Column("name", Text, nullable=False),
    indexed_text("email", MAX_EMAIL, nullable=True),
    moment("created_at"),
    # When they came in for the first time. One who was made otherwise may never have.
    moment("seen_at", nullable=True, default=None),
    moment("disabled_at", nullable=True, default=None),
    UniqueConstraint("subject"),
    UniqueConstraint("email"),
    CheckConstraint("email = lower(email)", name="email_lower"),
    info={"audited": Audited("user", {"id": "usr_"})},
)

KNOWN = select(users.c.id).where(users.c.subject == bindparam("known"))
SEEN = update(users).where(users.c.id == bindparam("key"), users.c.seen_at.is_(None)).values(seen_at=func.now())


async def ensure(work: Work, *, subject: str, name: str | None, email: str | None) -> UUID:
    """The user that a subject of tokens is, made if it is seen for the first time.

    A first name and address are taken from the token; later ones do not change what is there. Raises Conflict when
    the e-mail address belongs to another user.
    """
    user: UUID | None = await work.scalar(KNOWN, {"known": subject})
    if user is None:
        entry = {"subject": subject, "name": name or subject, "email": email.lower() if email else None}
        # Somebody may be making the same user just now; then that one is it.
        await work.execute(insert(users).values(entry).on_conflict_do_nothing())
        user = await work.scalar(KNOWN, {"known": subject})
    if user is None:
        raise Conflict("the e-mail address of this token belongs to another user")
    return user


async def see(work: Work, user_id: UUID) -> bool:
    """Note that a user has come in; whether it is the first time."""
    return await work.execute(SEEN, {"key": user_id}) > 0
