"""Clients without a credential, and the tenant that they name."""

import ipaddress
from dataclasses import dataclass, replace

from isola.errors import TenantRequired
from isola.identity.cookies import Jar
from isola.identity.resolution import identifies
from isola.platform.domains import Domains
from isola.platform.tenants import Tenant


@dataclass(frozen=True, slots=True)
class Visitor:
    """A client without a credential. ``names`` are tenant slugs and ids from all sources in the request.

    The owner of ``domain`` has not been looked up yet: not every request needs that.
    """

    address: str
    names: tuple[str, ...] = ()
    domain: str | None = None
    request_id: str = ""
    user_agent: str | None = None
    jar: Jar | None = None
    """The cookie, if the client wants its refresh token there."""

    @property
    def network(self) -> str:
        """The rate limit's unit, about one household: an IPv4 address, or the /64 network of an IPv6 address."""
        try:
            parsed = ipaddress.ip_address(self.address)
        except ValueError:
            return self.address
        if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is None:
            return str(ipaddress.ip_network((parsed, 64), strict=False))
        return str(getattr(parsed, "ipv4_mapped", None) or parsed)

    async def named(self, domains: Domains) -> "Visitor":
        """The same, with the owner of its domain among its names."""
        if self.domain is None:
            return self
        # An unowned domain becomes "None", which no tenant can have as its name.
        owner = await domains.tenant(self.domain)
        return replace(self, names=(*self.names, str(owner)), domain=None)

    def tenant(self, named: str | None) -> str:
        """A name of the tenant; ``named`` is the one in the input. Raises TenantRequired if there is none."""
        name = named or next(iter(self.names), None)
        if name is None:
            raise TenantRequired(
                "tenant: expected a slug, because the request does not name a tenant otherwise", "tenant"
            )
        return name

    def means(self, tenant: Tenant, named: str | None) -> bool:
        """Whether all names, and that in the input, are of this tenant."""
        return all(identifies(name, tenant) for name in (*self.names, *((named,) if named else ())))

    def require_own_page(self) -> None:
        """Raise Forbidden if another site may have caused a request that asks for the cookie."""
        if self.jar is not None:
            self.jar.require_own_page()
