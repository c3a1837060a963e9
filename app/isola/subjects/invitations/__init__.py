"""Invitations of people by e-mail. They are stored outside of the tenants' tables.

Whoever invites gives roles and a membership, so both are checked by the rules of giving them: when the invitation is
made, and with the rights that the inviting user then has when it is accepted.
"""

import re
from collections.abc import Collection
from datetime import timedelta
from uuid import UUID

from sqlalchemy import ARRAY, Interval, LargeBinary, Text, Uuid, func, literal, select

from isola.errors import BadUserInput, Conflict, Forbidden, NotFound, RateLimited, Unauthenticated
from isola.subjects import organizations, roles, users
from isola.subjects.actor import Actor
from isola.subjects.permissions import Permission
from isola.subjects.roles import Standing
from isola.subjects.work import Work

MAX_ADDRESS = 254
MAX_ROLES = 20
_RETRY_AFTER = 3600
_LABEL = "[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
# What browsers accept in a field for an address, with a dot in the domain. It has no quotes, spaces or brackets.
_ADDRESS = re.compile(rf"[A-Za-z0-9.!#$%&'*+/=?^_`{{|}}~-]{{1,64}}@{_LABEL}(?:\.{_LABEL})+", re.ASCII)


async def invite(
    work: Work,
    actor: Actor,
    *,
    email: str,
    role_ids: Collection[UUID] = (),
    organization_id: UUID | None = None,
    lifetime: timedelta,
) -> UUID:
    """Invite the owner of an address. The invitation is sent after the commit, and replaces an open one.

    Raises Forbidden, also for roles that the actor may not assign; NotFound for a role or organization; BadUserInput;
    Conflict if a user has the address; and RateLimited.
    """
    actor.require(Permission.USER_MANAGE)
    address = email.lower()
    if len(address) > MAX_ADDRESS or not _ADDRESS.fullmatch(address) or ".." in address:
        raise BadUserInput(f"email: expected an ASCII address of at most {MAX_ADDRESS} characters", "email")
    if len(role_ids) > MAX_ROLES:
        raise BadUserInput(f"roleIds: expected at most {MAX_ROLES}", "roleIds")
    if await users.kind(work, actor.user_id) != users.UserKind.PERSON:
        raise Forbidden("only people of the tenant invite")
    for role_id in sorted(set(role_ids)):
        if not await roles.give_to(work, actor, None, role_id):
            raise NotFound("there is no such role", "roleIds")
    if organization_id is not None:
        actor.require(Permission.ORGANIZATION_MANAGE)
        if not await organizations.exists(work, organization_id):
            raise NotFound("there is no such organization", "organizationId")
    if await users.has_address(work, address):
        raise Conflict("a user of the tenant has this address", "email")
    invitation: UUID | None = await work.scalar(
        select(
            func.isola.invite(
                literal(address, Text()),
                literal(sorted(set(role_ids)), ARRAY(Uuid())),
                literal(organization_id, Uuid()),
                literal(lifetime, Interval()),
            )
        )
    )
    if invitation is None:
        raise RateLimited("too many invitations of this tenant or address within a day", _RETRY_AFTER)
    return invitation


async def revoke(work: Work, actor: Actor, invitation: UUID) -> None:
    """Revoke an invitation. Raises Forbidden, and NotFound if there is none that was not accepted."""
    actor.require(Permission.USER_MANAGE)
    if not await work.scalar(select(func.isola.revoke_invitation(invitation))):
        raise NotFound("there is no such invitation, or it was accepted")


async def accept(
    work: Work, *, invitation: UUID, digest: bytes, subject: str, name: str | None, email: str
) -> Standing:
    """Make a person who has the token a user of the tenant, with what the invitation grants.

    ``email`` is the address of the invitation, which the token verifies. Roles and an organization that have been
    deleted since are left out. Raises Unauthenticated, always the same, if the invitation is not open, or if the
    inviting user may no longer give what it grants; and Conflict for a person who is a user already.
    """
    if await roles.standing(work, subject=subject) is not None:
        raise Conflict("this person is a user of the tenant already: sign in instead")
    # Waits here for a concurrent acceptance.
    user = await users.ensure(work, subject=subject, name=name, email=email)
    accepted = func.isola.accept_invitation(invitation, literal(digest, LargeBinary()), user)
    columns = accepted.table_valued("role_ids", "organization_id", "invited_by")
    rows = await work.rows(select(columns))
    if not rows:
        raise invalid()
    [granted] = rows
    inviting = await roles.standing_of(work, granted["invited_by"])
    if inviting is None or inviting.disabled:
        raise invalid()
    await roles.admit(work, subject=subject, name=name, email=email, role=None)
    actor = Actor(inviting.user_id, inviting.permissions)
    try:
        actor.require(Permission.USER_MANAGE)
        for role_id in granted["role_ids"]:
            await roles.give_to(work, actor, user, role_id)
        organization = granted["organization_id"]
        if organization is not None and await organizations.exists(work, organization):
            await organizations.add_member(work, actor, organization, user)
    except Forbidden:
        raise invalid() from None
    return await roles.admit(work, subject=subject, name=name, email=email, role=None)


def invalid() -> Unauthenticated:
    return Unauthenticated("the invitation is invalid or no longer valid")
