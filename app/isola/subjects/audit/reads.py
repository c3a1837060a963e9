"""The subjects of a tenant whose reads its log has: see docs/audit.md."""

from collections.abc import Collection, Sequence

from sqlalchemy import ARRAY, Text, func, literal, select

from isola.errors import BadUserInput
from isola.subjects import audit
from isola.subjects.actor import Actor
from isola.subjects.permissions import Permission
from isola.subjects.work import Work

_LOGGED = select(func.isola.logged_reads(type_=ARRAY(Text())))


async def logged(work: Work) -> Sequence[str]:
    """The subjects whose reads are logged."""
    subjects: Sequence[str] = await work.scalar(_LOGGED)
    return subjects


async def log(work: Work, actor: Actor, subjects: Collection[str]) -> Sequence[str]:
    """Log the reads of these subjects, and of no others, from now on; they are returned, sorted.

    Raises Forbidden, and BadUserInput for an unknown subject.
    """
    actor.require(Permission.AUDIT_MANAGE)
    known = audit.subjects_of_rows()
    if not set(subjects) <= set(known):
        raise BadUserInput(f"subjects: expected some of {', '.join(known)}", "subjects")
    chosen = sorted(set(subjects))
    await work.scalar(select(func.isola.log_reads(literal(chosen, ARRAY(Text())))))
    return chosen
