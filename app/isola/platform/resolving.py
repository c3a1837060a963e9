"""Resolves names by DNS, without a cache: what was just published is found, and what was removed is not."""

from collections.abc import Sequence

from dns.asyncresolver import Resolver


def resolver(servers: Sequence[str], port: int) -> Resolver:
    """Asks these name servers, by default the system's: then it reads the system's configuration."""
    made = Resolver(configure=not servers)
    if servers:
        made.nameservers = list(servers)
    made.port = port
    made.cache = None
    return made
