"""Clients behind a proxy that reuses one connection for the requests of all."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from urllib.parse import quote

import httpx
import pytest
from graphql import get_introspection_query

from isola.testing.fixtures import TRIED, Copy
from isola.testing.served import NO_TLS, Api, Client
from isola_strategies.base import Strategy
from tests.http import nginx

UPGRADES = {
    "h2c": {"connection": "Upgrade, HTTP2-Settings", "upgrade": "h2c", "http2-settings": "AAMAAABkAAQAAP__"},
    "websocket": {"connection": "upgrade", "upgrade": "websocket", "sec-websocket-version": "13"},
    "TLS": {"connection": "Upgrade", "upgrade": "TLS/1.2"},
    "anything": {"connection": "upgrade", "upgrade": "anything"},
}
WHO = "{ viewer { tenant { slug } user { id } } }"
# A query that takes the server some time.
SLOW = get_introspection_query()


@pytest.fixture(params=TRIED[:1])
def strategy(request: pytest.FixtureRequest, copy: Copy) -> Strategy:
    """Any strategy: requests are parsed before it matters."""
    return copy.strategies[request.param]


@pytest.fixture
async def proxied(api: Api) -> AsyncIterator[httpx.AsyncClient]:
    with nginx.running(f"127.0.0.1:{api.http.base_url.port}") as url:
        async with httpx.AsyncClient(base_url=url, timeout=10, trust_env=False, verify=NO_TLS) as client:
            yield client


@pytest.mark.parametrize("upgrade", UPGRADES.values(), ids=UPGRADES)
async def test_smuggled_requests_get_no_response(
    upgrade: dict[str, str], proxied: httpx.AsyncClient, alice: Client, bob: Client
) -> None:
    alice, bob = replace(alice, http=proxied), replace(bob, http=proxied)
    own = (await bob.ask(WHO)).data
    hidden = (
        f"GET /graphql?query={quote(SLOW)} HTTP/1.1\r\nhost: localhost\r\n"
        f"authorization: {alice.headers['authorization']}\r\n\r\n"
    ).encode()

    async def body() -> AsyncIterator[bytes]:
        # The body arrives after the head, and before the answer to the head.
        await asyncio.sleep(0.005)
        yield hidden

    for _ in range(10):
        outer = await alice.request(
            "GET", params={"query": SLOW}, content=body(), headers={**upgrade, "content-length": str(len(hidden))}
        )
        assert outer.status == 200
        assert (await bob.ask(WHO)).data == own
