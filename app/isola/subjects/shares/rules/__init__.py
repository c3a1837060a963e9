"""Shares of rows by a filter: a rule shares all rows of a subject that match it, now and whenever they are written.

The database keeps the shares of rules, in the statements that write rows: see migrations/control/0001_share_rules.sql.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Unpack
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    BindParameter,
    Column,
    DateTime,
    Integer,
    MetaData,
    Table,
    Text,
    Uuid,
    func,
    literal,
    select,
)
from sqlalchemy.dialects.postgresql import JSONB

from isola.errors import BadUserInput, Forbidden, NotFound
from isola.subjects.actor import Actor
from isola.subjects.declaration import Registry
from isola.subjects.permissions import Permission
from isola.subjects.shares import Choice, ShareAccess, access_of, check, columns_of, refuse_access, refuse_fields
from isola.subjects.subject import Subject
from isola.subjects.work import Work

MOST = 50_000
"""The most rows that a rule shares when it is made."""
MOST_RULES = 20
"""The most rules of a tenant for one subject: each write compares its rows with all of them."""
MISSING = "there is no such rule"

every_rule = Table(
    "share_rules",
    MetaData(schema="isola"),
    Column("id", Uuid, nullable=False),
    Column("subject", Text, nullable=False),
    Column("grantee_slug", Text, nullable=False),
    Column("granted_by", Uuid),
    Column("granted_at", DateTime(timezone=True), nullable=False),
    Column("expires_at", DateTime(timezone=True)),
    Column("note", Text),
    Column("fields", ARRAY(Text), nullable=False),
    Column("filter", JSONB, nullable=False),
    Column("access", Text, nullable=False),
)
"""What the function ``isola.share_rules()`` returns: the tenant's rules that have not ended."""


def can_have_rules(subject: type[Subject]) -> bool:
    """Whether rules can share rows of a subject: not where code decides row by row who may change and share them."""
    return bool(subject.shared) and subject.may_change is Subject.may_change


async def make(
    work: Work,
    actor: Actor,
    subject: str,
    grantee: str,
    *,
    filter: Mapping[str, Any],
    condition: Sequence[Any],
    compared: Sequence[str],
    term: timedelta | None = None,
    **choice: Unpack[Choice],
) -> UUID:
    """Share all rows of a subject that match, with the partner of that slug. The actor may change all of its rows.

    ``filter`` is what the client sent, ``condition`` what isola.matches() evaluates, and ``compared`` has its columns.
    Only rows are shared that the user may read without special permissions. Raises Forbidden, and BadUserInput naming
    the invalid field, also for more than MOST rows.
    """
    _require(actor, Registry.by_name[subject])
    check(choice)
    until = choice.get("expires_at", datetime.now(UTC) + term if term is not None else None)
    call = func.isola.make_share_rule(
        subject,
        grantee,
        columns_of(choice),
        _moment(until),
        choice.get("note"),
        choice.get("access", ShareAccess.READ),
        literal(filter, JSONB()),
        literal(condition, JSONB()),
        literal(list(compared), ARRAY(Text)),
        literal(MOST_RULES, Integer()),
    )
    [row] = await work.rows(select(call.table_valued("made", "refused")))
    match row["refused"]:
        case "grantee":
            raise BadUserInput("grantee: expected the slug of a partner", "grantee")
        case "fields":
            raise refuse_fields(subject)
        case "access":
            raise refuse_access()
        case "many":
            raise BadUserInput(f"expected at most {MOST_RULES} rules for one type of objects: end another one first")
    rule: UUID = row["made"]
    await _share(work, rule, Registry.by_name[subject].table, condition, compared)
    return rule


async def _share(work: Work, rule: UUID, table: Table, condition: Sequence[Any], compared: Sequence[str]) -> None:
    """Share the rows that match now."""
    names = [each for name in compared for each in (literal(name, Text()), table.c[name])]
    matching = func.isola.matches(literal(condition, JSONB()), func.jsonb_build_object(*names))
    found = select(table.c.id).where(matching).limit(MOST + 1).subquery()
    [row] = await work.rows(select(func.coalesce(func.array_agg(found.c.id), literal([], ARRAY(Uuid))).label("ids")))
    if len(row["ids"]) > MOST:
        raise BadUserInput(f"filter: expected at most {MOST} objects that match it", "filter")
    await work.rows(select(func.isola.share_by_rule(rule, literal(row["ids"], ARRAY(Uuid)))))


async def change(work: Work, actor: Actor, rule_id: UUID, **choice: Unpack[Choice]) -> None:
    """Change what a rule and its shares grant, until when, and the note; what is omitted stays.

    Raises NotFound, BadUserInput naming the invalid field, and Forbidden, also where a visibility rule may hide rows
    from the actor that the user who made the rule shares.
    """
    actor.require(Permission.SHARE_WRITE)
    check(choice)
    subject, granted_by = await _find(work, actor, rule_id)
    if subject.visible is not None and granted_by != actor.user_id:
        raise Forbidden("only the user who made this rule may change it")
    call = func.isola.change_share_rule(
        rule_id,
        columns_of(choice),
        _moment(choice.get("expires_at")),
        "expires_at" not in choice,
        choice.get("note"),
        "note" not in choice,
        access_of(choice),
    )
    [row] = await work.rows(select(call.table_valued("changed", "refused")))
    if row["refused"] is not None:
        raise refuse_access() if row["refused"] == "access" else refuse_fields(subject.declaration.name)
    if row["changed"] is None:
        raise NotFound(MISSING)


async def end(work: Work, actor: Actor, rule_id: UUID) -> None:
    """End a rule and all its shares, with the partner's next statement. Raises NotFound and Forbidden."""
    actor.require(Permission.SHARE_WRITE)
    await _find(work, actor, rule_id)
    if await work.scalar(select(func.isola.end_share_rule(rule_id))) is None:
        raise NotFound(MISSING)


async def _find(work: Work, actor: Actor, rule_id: UUID) -> tuple[type[Subject], UUID | None]:
    """The subject of a rule that the actor may change, and who made it."""
    rules = func.isola.share_rules().table_valued(*(Column(each.name, each.type) for each in every_rule.columns))
    found = await work.rows(select(rules.c.subject, rules.c.granted_by).where(rules.c.id == rule_id))
    if not found or found[0]["subject"] not in Registry.by_name:
        raise NotFound(MISSING)
    subject = Registry.by_name[found[0]["subject"]]
    _require(actor, subject)
    return subject, found[0]["granted_by"]


def _require(actor: Actor, subject: type[Subject]) -> None:
    """Raise Forbidden for an actor who may not share every row of a subject: future ones are those of all users."""
    actor.require(Permission.SHARE_WRITE)
    actor.require(subject.declaration.permissions["write"])
    if subject.declaration.owner is not None:
        actor.require(subject.declaration.permissions["manage"])


def _moment(until: datetime | None) -> BindParameter[Any]:
    return literal(until, DateTime(timezone=True))
