from uuid import UUID

from sqlalchemy import CheckConstraint, Column, Table, Text, UniqueConstraint, select
from sqlalchemy.dialects.postgresql import insert

from app.domain.metadata import identifier, metadata, moment
from app.domain.work import Work
from app.errors import Conflict

users = Table(
    "users",
    metadata,
    identifier(),
    # Who this is to the issuer of tokens.
    Column("subject", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("email", Text),
    moment("created_at"),
    UniqueConstraint("subject"),
    UniqueConstraint("email"),
    CheckConstraint("email = lower(email)", name="email_lower"),
)


async def ensure(work: Work, *, subject: str, name: str | None, email: str | None) -> UUID:
    """The user that a subject of tokens is, made if it is seen for the first time.

    A first name and address are taken from the token; later ones do not change what is there. Raises Conflict when
    the e-mail address belongs to another user.
    """
    known = select(users.c.id).where(users.c.subject == subject)
    user: UUID | None = await work.scalar(known)
    if user is None:
        entry = {"subject": subject, "name": name or subject, "email": email.lower() if email else None}
        # Somebody may be making the same user just now; then that one is it.
        await work.execute(insert(users).values(entry).on_conflict_do_nothing())
        user = await work.scalar(known)
    if user is None:
        raise Conflict("the e-mail address of this token belongs to another user")
    return user
