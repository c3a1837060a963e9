"""The command that issues tickets for SQL sessions."""

from typing import TYPE_CHECKING, Annotated

import typer

from isola.commands.common import TenantOption, act, err
from isola.errors import Forbidden, NotFound

if TYPE_CHECKING:
    from uuid import UUID

    from isola.server.installation import Installation
    from isola.subjects.work import Work


def ticket(
    tenant: TenantOption,
    user: Annotated[str, typer.Option(help="the user's subject, as in the claim sub of their tokens")],
    *,
    organization: Annotated[str | None, typer.Option(help="the name of the organization of new spans")] = None,
    process: Annotated[
        int | None, typer.Option(help="the only session that can use it, as pg_backend_pid() returns it")
    ] = None,
    minutes: Annotated[int, typer.Option(help="how long it is valid, at most 60")] = 5,
) -> None:
    """Print a ticket, which binds one transaction of an SQL session to a tenant and a user.

    The session's login has to be in the role isola_sql: see docs/sql.md.
    """
    from isola.platform import provisioning
    from isola.subjects import roles, tickets
    from isola.subjects.actor import Actor

    async def run(installed: "Installation") -> None:
        async with await installed.control() as control, await installed.tenants() as tenants:
            placed = await provisioning.named(control, tenant)
            async with tenants.transaction(placed, read_only=True) as work:
                standing = await roles.standing(work, subject=user)
                key = await _organization(work, organization)
            if standing is None:
                raise NotFound(f"tenant {tenant} has no user {user!r} who ever signed in")
            if standing.disabled:
                raise Forbidden("the user is disabled")
            actor = Actor(standing.user_id, standing.permissions)
            async with tenants.transaction(placed, about={**actor.reader, "actor": "operator"}) as work:
                made = await tickets.issue(work, actor, organization=key, process=process, minutes=minutes)
        typer.echo(made.text)
        err.print(f"valid until {made.expires_at:%H:%M:%S} UTC, for one transaction: BEGIN; SELECT isola.enter('…');")

    act(run)


async def _organization(work: "Work", name: str | None) -> "UUID | None":
    from sqlalchemy import select

    from isola.subjects import names
    from isola.subjects.organizations import organizations

    if name is None:
        return None
    key: UUID | None = await work.scalar(select(organizations.c.id).where(organizations.c.name_key == names.key(name)))
    if key is None:
        raise NotFound("the tenant has no such organization", value=name)
    return key
