"""Servers that accept a tenant's name from every source, and the sources."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import httpx
import jwt
from sqlalchemy import func, insert, update

from isola.database.transactions import Database
from isola.identity.keys import development_key
from isola.platform import provisioning
from isola.platform.domains import domains
from isola.platform.tenants import Status, tenants
from isola.settings import Settings
from isola.testing.fixtures import Copy
from isola.testing.served import Api, make_tenant, serving

QUERY = '{"query": "{ viewer { tenant { slug } } }"}'
PLATFORM = "platform.test"
SUSPENDED, DELETED = "asleep", "gone"

Request = tuple[str, Mapping[str, str]]
"""A path, with its parameters, and headers."""

SOURCES: Mapping[str, Callable[[str], Request]] = {
    "subdomain": lambda name: ("/graphql", {"host": f"{name}.{PLATFORM}"}),
    "domain": lambda name: ("/graphql", {"host": f"{name}.own.test"}),
    "header": lambda name: ("/graphql", {"x-tenant-id": name}),
    "path": lambda name: (f"/t/{name}/graphql", {}),
    "query": lambda name: (f"/graphql?tenant={name}", {}),
}


@asynccontextmanager
async def naming(copy: Copy, settings: Settings, owner: Database) -> AsyncIterator[Api]:
    """A server where each tenant has a subdomain and a domain, and where one is suspended and one deleted."""
    for slug in (SUSPENDED, DELETED):
        await make_tenant(copy, slug, min(copy.strategies))
    for tenant in await provisioning.every(owner):
        await own(owner, tenant.id, f"{tenant.slug}.own.test")
    async with owner.unbound() as work:
        for slug, status in ((SUSPENDED, Status.SUSPENDED), (DELETED, Status.DELETED)):
            await work.execute(update(tenants).where(tenants.c.slug == slug).values(status=status))
    async with serving(copy, settings.model_copy(update={"platform_domain": PLATFORM})) as api:
        yield api


async def own(owner: Database, tenant: UUID, name: str) -> None:
    """Give a tenant a verified domain."""
    met = {"challenge": "met", "challenge_expires_at": func.now(), "verified_at": func.now()}
    async with owner.unbound() as work:
        await work.execute(insert(domains).values(tenant_id=tenant, name=name, **met))


async def ask(api: Api, credential: Mapping[str, str], *requests: Request) -> httpx.Response:
    """Query the caller with a credential, naming a tenant in several sources at once."""
    path = max((path for path, _ in requests), key=len, default="/graphql")
    headers = {name: value for _, each in requests for name, value in each.items()}
    return await api.http.post(
        path, content=QUERY, headers={"content-type": "application/json", **headers, **credential}
    )


def expired(api: Api, credential: Mapping[str, str], **changes: object) -> Mapping[str, str]:
    """The credential with a token that was valid an hour ago, with other claims, correctly signed."""
    token = credential["authorization"].removeprefix("Bearer ")
    claims = jwt.decode(token, options={"verify_signature": False})
    past = {"iat": claims["iat"] - 7200, "exp": claims["iat"] - 3600}
    return {"authorization": "Bearer " + jwt.encode({**claims, **past, **changes}, development_key(api.settings))}


async def raw(api: Api, target: bytes, *headers: bytes) -> tuple[int, dict[str, Any]]:
    """Send a request line and headers that no client library would send; return the status and the body's JSON."""
    url = api.http.base_url
    reader, writer = await asyncio.open_connection(url.host, url.port)
    content = [b"Content-Type: application/json", b"Content-Length: %d" % len(QUERY), b"Connection: close"]
    lines = [b"POST %b HTTP/1.1" % target, *headers, *content, b"", QUERY.encode()]
    writer.write(b"\r\n".join(lines))
    try:
        head, _, body = (await asyncio.wait_for(reader.read(), 30)).partition(b"\r\n\r\n")
    finally:
        writer.close()
        await writer.wait_closed()
    return int(head.split()[1]), json.loads(body) if body.startswith(b"{") else {}
