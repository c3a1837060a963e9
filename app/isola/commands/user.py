"""Commands for the users of a tenant: access for the server's operator, if no user inside the tenant has any."""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import typer

from isola.commands.common import TenantOption, act
from isola.errors import NotFound

if TYPE_CHECKING:
    from isola.server.installation import Installation
    from isola.subjects.actor import Actor
    from isola.subjects.roles import Standing
    from isola.subjects.work import Work

user_app = typer.Typer(no_args_is_help=True, help="Grant and revoke roles of users, and disable users.")

Subject = Annotated[str, typer.Argument(help="the user's subject, as in the claim sub of their tokens")]
RoleName = Annotated[str, typer.Argument(help="the name of the role")]
Change = Callable[["Work", "Standing"], Awaitable[None]]


@user_app.command()
def assign(subject: Subject, role: RoleName, tenant: TenantOption) -> None:
    """Grant a role to a user. Creates a user who never signed in, so that a tenant can get its first owner."""
    from isola.subjects import roles

    async def change(work: "Work", standing: "Standing") -> None:
        await roles.assign(work, _operator(), standing.user_id, await _role(work, role))

    _act(subject, tenant, change, made=True)


@user_app.command()
def unassign(subject: Subject, role: RoleName, tenant: TenantOption) -> None:
    """Revoke a role of a user. The last owner keeps the role."""
    from isola.subjects import roles

    async def change(work: "Work", standing: "Standing") -> None:
        await roles.unassign(work, _operator(), standing.user_id, await _role(work, role))

    _act(subject, tenant, change)


@user_app.command()
def disable(subject: Subject, tenant: TenantOption) -> None:
    """Disable a user: refuse all their requests."""
    from isola.subjects import roles

    async def change(work: "Work", standing: "Standing") -> None:
        await roles.disable(work, _operator(), standing.user_id)

    _act(subject, tenant, change)


@user_app.command()
def enable(subject: Subject, tenant: TenantOption) -> None:
    """Enable a disabled user again."""
    from isola.subjects import roles

    async def change(work: "Work", standing: "Standing") -> None:
        await roles.enable(work, _operator(), standing.user_id)

    _act(subject, tenant, change)


def _act(subject: str, tenant: str, change: Change, *, made: bool = False) -> None:
    from sqlalchemy import func, select

    from isola.platform import provisioning
    from isola.subjects import roles

    async def run(installed: "Installation") -> None:
        async with await installed.control() as control, await installed.tenants() as tenants:
            placed = await provisioning.named(control, tenant)
            async with tenants.transaction(placed, about={"actor": "operator"}) as work:
                # As for an import of resources: this fails for a suspended tenant, whose data must not change.
                await work.scalar(select(func.isola.bound_tenant()))
                if made:
                    await roles.admit(work, subject=subject, name=None, email=None, role=None)
                standing = await roles.standing(work, subject=subject)
                if standing is None:
                    raise NotFound(f"tenant {tenant} has no user {subject!r} who ever signed in")
                await change(work, standing)
                now = await roles.standing(work, subject=subject)
        if now is not None:
            state = "disabled" if now.disabled else "enabled"
            typer.echo(f"{subject}: {', '.join(now.roles) or 'no role'}, {state}")

    act(run)


def _operator() -> "Actor":
    """An actor outside of the tenant, with all rights and the id of no user."""
    from isola.subjects.actor import Actor
    from isola.subjects.permissions import all_permissions

    return Actor(UUID(int=0), all_permissions())


async def _role(work: "Work", name: str) -> UUID:
    from sqlalchemy import select

    from isola.subjects import names, roles
    from isola.subjects.permissions import Role

    key: UUID | None = await work.scalar(select(roles.roles.c.id).where(roles.roles.c.name_key == names.key(name)))
    if key is None:
        raise NotFound(f"there is no role {name!r}; built in are {', '.join(Role)}")
    return key
