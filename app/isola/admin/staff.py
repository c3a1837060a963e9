"""Authenticates the platform's staff, by tokens of an issuer of their own."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from isola.errors import TokenExpired, Unauthenticated
from isola.identity.claims import Expired
from isola.identity.hosts import Hosts
from isola.identity.resolution import PATH, Resolution
from isola.identity.revocations import Revocations
from isola.identity.tokens import TokenVerifier
from isola.settings import Settings

# Staff are in no tenant. No tenant has this id.
_NOWHERE = UUID(int=0)
# The subjects that a tenant's log accepts.
_SUBJECT = re.compile(r"staff:[\w.:@|-]{1,150}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Staff:
    """A staff member. ``subject`` is their issuer's subject for them, after ``staff:``."""

    subject: str


class StaffVerifier:
    """Authenticates requests of staff. ``tokens`` verifies tokens of their issuer only."""

    def __init__(self, settings: Settings, hosts: Hosts, tokens: TokenVerifier, revocations: Revocations) -> None:
        # Only the path names a tenant, and only tokens are accepted.
        self._resolution = Resolution(settings.model_copy(update={"tenant_sources": ["token"]}), hosts)
        self._tokens = tokens
        self._revocations = revocations

    async def staff(self, scope: Mapping[str, Any]) -> Staff:
        """The caller, from an ASGI scope.

        Raises Unauthenticated without a valid token of staff, BadUserInput for a host that is not the platform's own,
        and Unavailable.
        """
        parsed = self._resolution.read({**scope, "path": PATH})
        try:
            claims = await self._tokens.verify(parsed.token or "")
        except Expired:
            # The token's issuer has no tenants: nothing else could be wrong with it.
            raise TokenExpired("the token has expired") from None
        await self._revocations.refuse_revoked(claims, _NOWHERE)
        if not _SUBJECT.fullmatch(claims.subject):
            raise Unauthenticated("the token's subject has a form that is not accepted")
        return Staff(claims.subject)
