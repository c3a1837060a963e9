"""Commands that revoke tokens and sessions before they expire."""

from typing import TYPE_CHECKING, Annotated

import typer

from isola.commands.common import TenantOption, act
from isola.errors import NotFound

if TYPE_CHECKING:
    from isola.platform.revocations import Revocable
    from isola.server.installation import Installation

revoke_app = typer.Typer(no_args_is_help=True, help="Revoke tokens and sessions before they expire.")

Issuer = Annotated[str, typer.Option(help="the token's claim iss")]


@revoke_app.command("token")
def revoke_token(token_id: Annotated[str, typer.Argument(help="the token's claim jti")], *, issuer: Issuer) -> None:
    """Revoke one token."""
    from isola.platform.revocations import Revocable

    _revoke(Revocable.token(issuer, token_id))


@revoke_app.command("session")
def revoke_session(
    session_id: Annotated[str, typer.Argument(help="the claim sid of the session's tokens")],
    *,
    issuer: Annotated[str | None, typer.Option(help="their claim iss; by default this server's issuer")] = None,
) -> None:
    """Revoke a session: refuse its access tokens and its refresh tokens."""
    from isola.platform import revocations, sessions, sign_in_log
    from isola.platform.revocations import Revocable
    from isola.settings import load

    own = load().session_issuer
    revocable = Revocable.session(issuer or own, session_id)

    async def run(installed: "Installation") -> None:
        async with await installed.control() as control, await installed.tenants() as tenants:
            async with control.unbound() as transaction:
                await revocations.revoke(transaction, revocable)
                tenant = await sessions.revoke(transaction, own, session_id) if revocable.scope == own else None
            if tenant is not None:
                await sign_in_log.carry(tenants, tenant)
        typer.echo("the session is revoked")

    act(run)


@revoke_app.command("user")
def revoke_user(subject: Annotated[str, typer.Argument(help="the user's subject")], tenant: TenantOption) -> None:
    """Sign a user of a tenant out: refuse all tokens that were issued to them until now."""
    from isola.platform import provisioning
    from isola.subjects import roles, sessions

    async def run(installed: "Installation") -> None:
        async with await installed.control() as control:
            placed = await provisioning.named(control, tenant)
        async with await installed.tenants() as tenants, tenants.transaction(placed) as work:
            standing = await roles.standing(work, subject=subject)
            if standing is None:
                raise NotFound(f"the tenant {tenant} has no user {subject!r}")
            await sessions.sign_out(work, standing.user_id)
        typer.echo(f"{subject} is signed out")

    act(run)


def _revoke(revocable: "Revocable") -> None:
    from isola.platform import revocations

    async def run(installed: "Installation") -> None:
        async with await installed.control() as control, control.unbound() as transaction:
            await revocations.revoke(transaction, revocable)
        typer.echo(f"the {revocable.kind} is revoked")

    act(run)
