from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import strawberry
from sqlalchemy import BigInteger, Column, ColumnElement, Text, Uuid, and_, func, literal_column, or_
from strawberry.utils.str_converters import to_camel_case

from isola.api import subject_types
from isola.api.access import PUBLIC, mutation, requires
from isola.api.connections import Connection, Node
from isola.api.declared.filtering import arguments_of, as_json, filter_of
from isola.api.declared.granting import (
    SHARED,
    GrantedField,
    Grantee,
    ShareableType,
    changing,
    choice,
    granting,
)
from isola.api.declared.making import made_class, made_input
from isola.api.fields import FIELD, expression, many, mapped, one, part, typed_id
from isola.api.request import Info, payload
from isola.api.scalars import JSON, BigInt, DateTime
from isola.query.caller import may, user_id
from isola.query.identifiers import decode
from isola.query.mapping import Function, Parameters, Row, Value
from isola.query.matching import read_matching
from isola.subjects.permissions import Permission
from isola.subjects.sentences import words
from isola.subjects.shares import ShareAccess, rules
from isola.subjects.subject import Subject
from isola.subjects.users import User

PREFIX = "srl"
T = TypeVar("T")


KNOWN = [literal_column(f"'{subject.declaration.name}'", Text()) for subject in SHARED]


def _rules(*, every: bool = False) -> Function:
    """The tenant's rules: those that the caller may list, or all."""

    def listed(rule: Row) -> ColumnElement[bool]:
        mine = [] if every else [or_(may(Permission.SHARE_MANAGE), rule["granted_by"] == user_id())]
        return and_(rule["subject"].in_(KNOWN), *mine)

    columns = tuple(Column(each.name, each.type, nullable=each.nullable) for each in rules.every_rule.columns)
    return Function("isola.share_rules", columns, when=listed)


def _count(rule: Row) -> ColumnElement[int]:
    return func.isola.share_rule_count(rule["id"], type_=BigInteger)


@mapped(_rules(), prefix=PREFIX, order=(("granted_at", False), ("id", False)))
@strawberry.type(
    description="A rule: all objects of a type that satisfy a filter, now and later, are shared with a partner.",
    directives=[requires(Permission.SHARE_READ)],
)
class ShareRule(Node):
    id: strawberry.ID = typed_id(PREFIX)
    type: ShareableType = strawberry.field(  # type: ignore[valid-type]  # known at run time
        description="The type of the objects.", metadata={FIELD: Value("subject")}
    )
    filter: JSON = strawberry.field(description="The filter, with its values as results have them.")
    grantee: Grantee = part(slug="grantee_slug", description="The tenant that may read them.")
    fields: list[GrantedField] = strawberry.field(  # type: ignore[valid-type]  # known at run time
        description="What the grantee may read of them."
    )
    access: ShareAccess = strawberry.field(description="What the grantee may do.")
    note: str | None = strawberry.field(description="The owner's note to the grantee.")
    shared_count: BigInt = expression(
        _count, "How many objects that the caller may read it shares at the moment, those with other shares included."
    )
    granted_by: User | None = one("granted_by", description="The user who made it; null if no user did.")
    granted_at: DateTime
    expires_at: DateTime | None


@strawberry.type
class ShareRuleQueries:
    share_rules: Connection[ShareRule] | None = many(
        description="The tenant's rules by which it shares objects, oldest first: with share:manage all, otherwise "
        "those that the caller made.",
        access=requires(Permission.SHARE_READ),
    )


def rule_mutation(subject: type[Subject]) -> Any:
    """The mutation that makes a rule for a subject: ``share_agents`` for an ``agent``."""
    of, name = subject.declaration, subject.__name__
    mutation_name = f"share_{of.listed_as}"
    title = to_camel_case(f"_{mutation_name}")
    # It is made later: see isola.api.declared.
    filter_name = f"{name}Filter"
    input_type = made_input(
        f"{title}Input",
        {
            "filter": (
                filter_name,
                strawberry.field(
                    description="What to share, by columns: no relations, times relative to the present, documents, "
                    "searches, or comparisons without regard to case. All objects: {id: {isNull: false}}."
                ),
            ),
            **granting(subject),
        },
    )
    rule = {"rule": (ShareRule, one("rule_id", source=_rules(every=True)))}
    payload_type = strawberry.type(
        mapped(Parameters({"rule_id": Uuid()}))(made_class(f"{title}Payload", rule)), directives=[PUBLIC]
    )

    async def resolver(self: object, info: Info, input: Any) -> Any:  # noqa: ARG001  passed by GraphQL
        values = choice(input)
        given = arguments_of(values.pop("filter"))
        matching = read_matching(subject.table, filter_of(getattr(subject_types, filter_name)), given)
        async with info.context.transaction() as work:
            made = await rules.make(
                work,
                info.context.actor,
                of.name,
                filter=as_json(given),
                condition=matching.condition,
                compared=matching.columns,
                term=info.context.services.share_term,
                **values,
            )
            return await payload(payload_type, info, work, rule_id=made)

    resolver.__name__ = mutation_name
    resolver.__annotations__ = {"info": Info, "input": input_type, "return": payload_type}
    described = (
        f"Let a partner tenant read all {words(of.plural)} that satisfy a filter, also those that come to satisfy it "
        "later."
    )
    if of.owner is not None:
        described += f" Requires {of.permissions['manage']} as well."
    return mutation(requires(Permission.SHARE_WRITE), described, feature=of.feature)(resolver)


def ruling(subjects: Sequence[type[Subject]]) -> Callable[[type[T]], type[T]]:
    """Add the mutations that make rules for subjects to a class, before Strawberry makes a type of it."""

    def add(cls: type[T]) -> type[T]:
        for subject in filter(rules.can_have_rules, subjects):
            setattr(cls, f"share_{subject.declaration.listed_as}", rule_mutation(subject))
        return cls

    return add


ChangeShareRuleInput = made_input("ChangeShareRuleInput", {"rule_id": (strawberry.ID, ...), **changing()})


@mapped(Parameters({"rule_id": Uuid()}))
@strawberry.type(directives=[PUBLIC])
class ChangeShareRulePayload:
    rule: ShareRule = one("rule_id", source=_rules(every=True))


@strawberry.input
class EndShareRuleInput:
    rule_id: strawberry.ID


@mapped(Parameters({"rule_id": Uuid()}))
@strawberry.type(directives=[PUBLIC])
class EndShareRulePayload:
    ended_id: strawberry.ID = typed_id(PREFIX, "rule_id")


@strawberry.type
@ruling(SHARED)
class ShareRuleMutations:
    @mutation(
        requires(Permission.SHARE_WRITE),
        "Change what a rule and all its shares grant, when they end, or the note. What is omitted stays as it is.",
    )
    async def change_share_rule(self, info: Info, input: ChangeShareRuleInput) -> ChangeShareRulePayload:  # type: ignore[valid-type]  # made at run time
        values = choice(input)
        rule = decode(values.pop("rule_id"), PREFIX, "ruleId")
        async with info.context.transaction() as work:
            await rules.change(work, info.context.actor, rule, **values)
            return await payload(ChangeShareRulePayload, info, work, rule_id=rule)

    @mutation(requires(Permission.SHARE_WRITE), "End a rule and all its shares.")
    async def end_share_rule(self, info: Info, input: EndShareRuleInput) -> EndShareRulePayload:
        rule = decode(input.rule_id, PREFIX, "ruleId")
        async with info.context.transaction() as work:
            await rules.end(work, info.context.actor, rule)
            return await payload(EndShareRulePayload, info, work, rule_id=rule)
