import strawberry
from sqlalchemy import (
    ARRAY,
    Column,
    ColumnElement,
    DateTime as Timestamp,
    Text,
    Uuid,
    cast,
    func,
    literal_column,
    select,
)

from isola.api.access import PUBLIC, mutation, requires
from isola.api.connections import Connection
from isola.api.fields import expression, many, mapped, one, typed_id
from isola.api.request import Info, payload
from isola.api.scalars import DateTime
from isola.errors import Forbidden
from isola.query.identifiers import decode
from isola.query.mapping import Function, Parameters, Row
from isola.subjects import invitations
from isola.subjects.organizations import Organization
from isola.subjects.permissions import Permission
from isola.subjects.roles import Role
from isola.subjects.users import User

PREFIX = "inv"

every_invitation = Function(
    "isola.invitations",
    (
        Column("id", Uuid, nullable=False),
        Column("email", Text, nullable=False),
        Column("role_ids", ARRAY(Uuid), nullable=False),
        Column("organization_id", Uuid),
        Column("invited_by", Uuid, nullable=False),
        Column("created_at", Timestamp(timezone=True), nullable=False),
        Column("expires_at", Timestamp(timezone=True), nullable=False),
        Column("sent_at", Timestamp(timezone=True)),
        Column("failed_at", Timestamp(timezone=True)),
        Column("accepted_at", Timestamp(timezone=True)),
        Column("accepted_by", Uuid),
        Column("revoked_at", Timestamp(timezone=True)),
    ),
)


def _role_ids(invitation: Row) -> ColumnElement[list[str]]:
    each = func.unnest(invitation["role_ids"]).column_valued("role_id")
    prefix = literal_column(f"'{Role.declaration.prefix}_'", Text())
    return func.array(select(prefix + cast(each, Text())).scalar_subquery(), type_=ARRAY(Text()))


@mapped(every_invitation)
@strawberry.type(
    description="An invitation to become a user of the tenant.", directives=[requires(Permission.USER_MANAGE)]
)
class Invitation:
    id: strawberry.ID = typed_id(PREFIX)
    email: str = strawberry.field(description="The address that it is sent to, in lower case.")
    role_ids: list[str] = expression(_role_ids, "The ids of the roles that the invited person gets.")
    organization: Organization | None = one(
        "organization_id", description="The organization that they become a member of."
    )
    invited_by: User = one("invited_by", description="The user who invited.")
    created_at: DateTime
    expires_at: DateTime = strawberry.field(description="Until then it can be accepted.")
    sent_at: DateTime | None = strawberry.field(description="When the mail server accepted the message.")
    failed_at: DateTime | None = strawberry.field(description="When the server gave up sending it.")
    accepted_at: DateTime | None = strawberry.field(description="When it was accepted. It can be accepted once.")
    accepted_by: User | None = one("accepted_by", description="The user who accepted it.")
    revoked_at: DateTime | None = strawberry.field(description="When it was revoked, or replaced by a later one.")


@strawberry.type
class InvitationQueries:
    invitations: Connection[Invitation] | None = many(
        source=every_invitation,
        description="Those of the last weeks, in the order of creation.",
        access=requires(Permission.USER_MANAGE),
    )


@strawberry.input
class InviteUserInput:
    email: str = strawberry.field(description="The address of a person. No user of the tenant has it.")
    role_ids: list[strawberry.ID] = strawberry.field(
        default_factory=list, description="Roles that the person gets; the caller must be allowed to assign them."
    )
    organization_id: strawberry.ID | None = strawberry.field(
        default=None, description="An organization that the person becomes a member of; needs organization:manage."
    )


@mapped(Parameters({"invitation_id": Uuid()}))
@strawberry.type(directives=[PUBLIC])
class InviteUserPayload:
    invitation: Invitation = one("invitation_id", source=every_invitation)


@strawberry.input
class RevokeInvitationInput:
    invitation_id: strawberry.ID


@mapped(Parameters({"invitation_id": Uuid()}))
@strawberry.type(directives=[PUBLIC])
class RevokeInvitationPayload:
    invitation: Invitation = one("invitation_id", source=every_invitation)


@strawberry.type
class InvitationMutations:
    @mutation(
        requires(Permission.USER_MANAGE),
        "Invite a person by e-mail, instead of an earlier invitation of the address that is still open.",
    )
    async def invite_user(self, info: Info, input: InviteUserInput) -> InviteUserPayload:
        if info.context.services.invitations is None:
            raise Forbidden("there are no invitations here")
        lifetime = info.context.services.invitations.lifetime
        role_ids = [decode(each, Role.declaration.prefix, "roleIds") for each in input.role_ids]
        organization = (
            None
            if input.organization_id is None
            else decode(input.organization_id, Organization.declaration.prefix, "organizationId")
        )
        async with info.context.transaction() as work:
            key = await invitations.invite(
                work,
                info.context.actor,
                email=input.email,
                role_ids=role_ids,
                organization_id=organization,
                lifetime=lifetime,
            )
            return await payload(InviteUserPayload, info, work, invitation_id=key)

    @mutation(requires(Permission.USER_MANAGE), "Revoke an invitation that was not accepted.")
    async def revoke_invitation(self, info: Info, input: RevokeInvitationInput) -> RevokeInvitationPayload:
        key = decode(input.invitation_id, PREFIX, "invitationId")
        async with info.context.transaction() as work:
            await invitations.revoke(work, info.context.actor, key)
            return await payload(RevokeInvitationPayload, info, work, invitation_id=key)
