"""Proof of domain ownership: a TXT record that only the operator of the domain's DNS can publish."""

import ipaddress
import re
from collections.abc import Callable, Sequence
from functools import cache, cached_property
from uuid import UUID

import idna
import structlog
from dns.asyncresolver import Resolver
from dns.exception import DNSException
from dns.rdtypes.txtbase import TXTBase
from dns.resolver import NXDOMAIN, NoAnswer
from publicsuffixlist import PublicSuffixList

from isola.database.transactions import Database
from isola.errors import BadUserInput, Forbidden, Unavailable
from isola.platform.resolving import resolver

log = structlog.get_logger()

RECORD = "_isola-challenge."
"""Prefix of the record's name, before the domain."""

_PROVEN = """
UPDATE control.domains SET proven_at = clock_timestamp()
WHERE tenant_id = $1 AND id = $2 AND name = $3 AND challenge = $4
"""
_TIMEOUT = 4.0
_MAX_NAME = 253 - len(RECORD)
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*", re.ASCII)


class Challenges:
    """Validates domains of tenants, looks challenges up in DNS, and records those that are met.

    ``reserved`` recognises the platform's own names, which no tenant can claim. ``servers`` are the addresses of name
    servers; by default the system's. Without the control plane's database, domains cannot be verified.
    """

    def __init__(
        self,
        reserved: Callable[[str], bool],
        servers: Sequence[str] = (),
        port: int = 53,
        *,
        control: Database | None = None,
    ) -> None:
        self._reserved = reserved
        self._control = control
        self._servers = servers
        self._port = port

    def domain(self, text: str) -> str:
        """Normalise a domain as in DNS: lower case, ASCII, without a trailing dot.

        Raises BadUserInput for what cannot be a tenant's domain: a malformed name, one without a dot, an IP address, a
        public suffix, or one of the platform's own.
        """
        try:
            # Checking a text of a million characters would take long.
            name = idna.encode(text, uts46=True, std3_rules=True).decode().lower() if len(text) <= _MAX_NAME else ""
        except (idna.IDNAError, UnicodeError):
            name = ""
        last = name.rpartition(".")[2]
        if not last or "." not in name or len(name) > _MAX_NAME or _NUMBER.fullmatch(last) or _is_address(text):
            raise BadUserInput("name: expected a domain such as api.example.com", "name")
        if _suffixes().privatesuffix(name) is None or self._reserved(name):
            raise BadUserInput("name: expected a domain of your own", "name")
        return name

    async def prove(self, tenant: UUID, domain_id: UUID, domain: str, challenge: str) -> bool:
        """Whether the record of a tenant's domain contains its challenge; if so, the tenant can mark it verified.

        The control plane's login records the result, since SQL inside a tenant must not be able to. Raises Unavailable
        when DNS gives no answer, and BadUserInput for an invalid domain.
        """
        if self._control is None:
            raise Forbidden("domains cannot be verified here")
        # SQL inside a tenant can have inserted any text.
        if self.domain(domain) != domain or not await self._published(domain, challenge):
            return False
        async with self._control.unbound() as transaction:
            await transaction.value(_PROVEN, tenant, domain_id, domain, challenge)
        return True

    async def _published(self, domain: str, challenge: str) -> bool:
        try:
            answer = await self._resolver.resolve(f"{RECORD}{domain}.", "TXT", lifetime=_TIMEOUT)
        except (NXDOMAIN, NoAnswer):
            return False
        except (DNSException, OSError) as error:
            log.warning("the DNS lookup of a challenge failed", error=type(error).__name__)
            raise Unavailable("DNS does not answer: try again") from error
        records = [record for record in answer.rrset or () if isinstance(record, TXTBase)]
        return any(b"".join(record.strings) == challenge.encode() for record in records)

    @cached_property
    def _resolver(self) -> Resolver:
        # Created lazily: not every server needs it.
        return resolver(self._servers, self._port)


@cache
def _suffixes() -> PublicSuffixList:
    return PublicSuffixList()


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text.strip("[]"))
    except ValueError:
        return False
    return True
