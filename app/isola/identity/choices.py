"""What a tenant accepts for signing in, as a sign-in page shows it before anybody has signed in.

The answer must not tell whether a tenant exists: a name of none has the same as a tenant without a provider.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from isola.identity.openid import Provider
from isola.identity.throttle import Throttle
from isola.identity.visitors import Visitor
from isola.platform.directory import Directory
from isola.platform.domains import Domains
from isola.platform.tenants import Status, Tenant
from isola.settings import ProviderSettings


@dataclass(frozen=True, slots=True)
class Choices:
    """``passwords`` are accepted by the whole server or not at all. ``tenant`` is for isola.identity.branding only."""

    passwords: bool
    providers: Sequence[ProviderSettings] = ()
    tenant: Tenant | None = None


class SignInChoices:
    """Finds what a tenant accepts for signing in."""

    def __init__(
        self, directory: Directory, domains: Domains, providers: Mapping[str, Provider], *, passwords: bool
    ) -> None:
        self._directory = directory
        self._domains = domains
        self._providers = providers
        self._default = Choices(passwords)
        # Not that of sign-ins: pages ask before every one of them.
        self._addresses = Throttle(burst=50, interval=1)

    async def find(self, visitor: Visitor, named: str | None) -> Choices:
        """What the tenant accepts; ``named`` is its name in the input.

        What a tenant without a provider accepts, if there is none of that name, if it is not active, or if the request
        also names another. Raises TenantRequired, Unavailable, and RateLimited after too many questions of an address.
        """
        self._addresses.take(visitor.network)
        visitor = await visitor.named(self._domains)
        tenant = await self._directory.identify(visitor.tenant(named))
        if tenant is None or tenant.status is not Status.ACTIVE or not visitor.means(tenant, named):
            return self._default
        providers = [each.settings for each in self._providers.values() if each.vouches_for(tenant)]
        return Choices(self._default.passwords, sorted(providers, key=lambda each: each.name), tenant)
