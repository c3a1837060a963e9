"""The host of a request: stated once, in a header, by the client or by a trusted proxy."""

from collections.abc import AsyncIterator

import pytest

from isola.database.transactions import Database
from isola.identity.hosts import forwarded_for
from isola.settings import Settings
from isola.testing.fixtures import Copy
from isola.testing.served import Api, Client
from tests.http.naming import PLATFORM, naming, raw

ACCEPTED, MALFORMED, UNKNOWN, ANOTHERS = (
    (200, None),
    (400, "host: expected"),
    (400, "host: not a host"),
    (403, "credential"),
)
Expected = tuple[int, str | None]


@pytest.fixture
def proxies() -> list[str]:
    return []


behind_a_proxy = pytest.mark.parametrize("proxies", [["10.0.0.0/8", "127.0.0.0/8"]], ids=["behind a proxy"])


@pytest.fixture
async def api(copy: Copy, settings: Settings, owner: Database, proxies: list[str]) -> AsyncIterator[Api]:
    changed = {"trusted_proxies": proxies, "hosts": ["api.test"]}
    async with naming(copy, settings.model_copy(update=changed), owner) as api:
        yield api


async def outcome(api: Api, client: Client, *headers: bytes, target: bytes = b"/graphql") -> Expected:
    authorization = f"Authorization: {client.headers['authorization']}".encode()
    status, body = await raw(api, target, authorization, *headers)
    message = body["errors"][0]["message"] if "errors" in body else None
    for expected in (MALFORMED, UNKNOWN, ANOTHERS):
        if message is not None and expected[1] is not None and expected[1] in message:
            message = expected[1]
    return status, message


HOSTS: dict[bytes, Expected] = {
    b"localhost": ACCEPTED,
    b"LocalHost:8000": ACCEPTED,
    b"127.0.0.1": ACCEPTED,
    b"127.8.8.8:1": ACCEPTED,
    b"[::1]:8000": ACCEPTED,
    b"api.test": ACCEPTED,
    b"platform.test": ACCEPTED,
    b"{tenant}.platform.test": ACCEPTED,
    b"{tenant}.PLATFORM.test:443": ACCEPTED,
    b"{tenant}.own.test": ACCEPTED,
    b"{tenant}.Own.Test:443": ACCEPTED,
    b"{other}.platform.test": ANOTHERS,
    b"{other}.own.test": ANOTHERS,
    b"a.{tenant}.platform.test": ANOTHERS,
    b"xn--80ak6aa92e.platform.test": ANOTHERS,
    b"evil.test": UNKNOWN,
    b"{tenant}.platform.test.evil.test": UNKNOWN,
    b"evilplatform.test": UNKNOWN,
    b"{tenant}.api.test": UNKNOWN,
    b"10.0.0.1": UNKNOWN,
    b"[2001:db8::1]": UNKNOWN,
    b"2130706433": UNKNOWN,
    b"a" * 63: UNKNOWN,
    b"": MALFORMED,
    b"localhost.": MALFORMED,
    b"{tenant}.platform.test.": MALFORMED,
    b".platform.test": MALFORMED,
    b"{tenant}..platform.test": MALFORMED,
    b"localhost:": MALFORMED,
    b"localhost:x": MALFORMED,
    b"localhost:99999": MALFORMED,
    b"localhost:80:80": MALFORMED,
    b"localhost/graphql": MALFORMED,
    b"localhost, {tenant}.platform.test": MALFORMED,
    b"localhost {tenant}.platform.test": MALFORMED,
    b"user@localhost": MALFORMED,
    b"localhost#": MALFORMED,
    b"local%68ost": MALFORMED,
    b"\xc3\xa4cme.platform.test": MALFORMED,
    b"{tenant}\xe3\x80\x82platform.test": MALFORMED,
    b"{tenant}_.platform.test": MALFORMED,
    b"-{tenant}.platform.test": MALFORMED,
    b"[::1": MALFORMED,
    b"::1": MALFORMED,
    b"a" * 64: MALFORMED,
    b".".join([b"a" * 60] * 5): MALFORMED,
}


async def test_a_host_belongs_to_the_server_or_to_a_tenant_or_is_refused(api: Api, alice: Client, bob: Client) -> None:
    names = alice.tenant.encode(), bob.tenant.encode()
    for host, expected in HOSTS.items():
        sent = host.replace(b"{tenant}", names[0]).replace(b"{other}", names[1])
        assert await outcome(api, alice, b"Host: " + sent) == expected, host


async def test_an_unauthenticated_client_cannot_probe_hosts(api: Api, alice: Client) -> None:
    stranger = alice.saying("Bearer a.b.c")
    tenant = alice.tenant.encode()

    answers = {
        await outcome(api, stranger, b"Host: " + host)
        for host in (b"localhost", b"evil.test", tenant + b".own.test", tenant + b".platform.test")
    }

    assert len(answers) == 1
    assert {status for status, _ in answers} == {401}


@pytest.mark.parametrize("count", [0, 2], ids=["none", "two"])
async def test_a_request_names_its_host_once(api: Api, alice: Client, count: int) -> None:
    assert await outcome(api, alice, *[b"Host: localhost"] * count) == MALFORMED


async def test_a_control_character_in_a_host_is_refused(api: Api, alice: Client) -> None:
    for character in (b"\x00", b"\x0b", b"\x7f"):
        status, _ = await outcome(api, alice, b"Host: local" + character + b"host")
        assert status == 400


async def test_the_host_of_an_absolute_target_is_ignored(api: Api, alice: Client, bob: Client) -> None:
    elsewhere = f"http://{bob.tenant}.{PLATFORM}/graphql".encode()

    assert await outcome(api, alice, b"Host: localhost", target=elsewhere) == ACCEPTED
    assert await outcome(api, alice, f"Host: {bob.tenant}.{PLATFORM}".encode(), target=elsewhere) == ANOTHERS
    assert await outcome(api, alice, target=elsewhere) == MALFORMED


FORWARDED = [b"X-Forwarded-Host: %b", b"Forwarded: for=192.0.2.1;host=%b;proto=https", b'forwarded: host="%b"']


@pytest.mark.parametrize("header", FORWARDED)
async def test_forwarding_headers_are_ignored_unless_the_proxy_is_trusted(
    api: Api, alice: Client, bob: Client, header: bytes
) -> None:
    for host in (f"{bob.tenant}.{PLATFORM}".encode(), b"evil.test", b"%", b""):
        twice = [header % host] * 2
        assert await outcome(api, alice, b"Host: localhost", *twice, b"X-Forwarded-For: 127.0.0.1") == ACCEPTED
    assert await outcome(api, alice, b"Host: evil.test", header % b"localhost") == UNKNOWN


@behind_a_proxy
@pytest.mark.parametrize("header", FORWARDED)
async def test_a_trusted_proxy_reports_the_requested_host(api: Api, alice: Client, bob: Client, header: bytes) -> None:
    own_host, others = f"{alice.tenant}.{PLATFORM}:443".encode(), f"{bob.tenant}.{PLATFORM}".encode()

    assert await outcome(api, alice, b"Host: localhost", header % own_host) == ACCEPTED
    assert await outcome(api, alice, b"Host: localhost", header % others) == ANOTHERS
    assert await outcome(api, alice, b"Host: localhost", header % b"evil.test") == UNKNOWN
    assert await outcome(api, alice, b"Host: localhost") == ACCEPTED


@behind_a_proxy
@pytest.mark.parametrize(
    "headers",
    [
        [b"X-Forwarded-Host: localhost", b"X-Forwarded-Host: api.test"],
        [b"X-Forwarded-Host: localhost, api.test"],
        [b"X-Forwarded-Host: localhost", b"Forwarded: host=api.test"],
        [b"X-Forwarded-Host: \xc3\xa4.test"],
        [b"Forwarded: host=localhost, host=localhost"],
        [b"Forwarded: host=localhost;host=api.test"],
        [b'Forwarded: host="localhost'],
        [b"Forwarded: nonsense"],
        [b"Forwarded: "],
    ],
)
async def test_headers_of_a_trusted_proxy_are_parsed_strictly(api: Api, alice: Client, headers: list[bytes]) -> None:
    status, _ = await outcome(api, alice, b"Host: localhost", *headers)

    assert status == 400


@pytest.mark.parametrize(
    ("headers", "address"),
    [
        ([(b"x-forwarded-for", b"192.0.2.1")], "192.0.2.1"),
        ([(b"x-forwarded-for", b"10.9.9.9, 192.0.2.1:50123")], "192.0.2.1"),
        ([(b"x-forwarded-for", b"10.9.9.9"), (b"x-forwarded-for", b" [2001:db8::1]:443")], "2001:db8::1"),
        ([(b"forwarded", b'for="[2001:db8::1]:443";proto=https')], "2001:db8::1"),
        ([(b"forwarded", b"host=acme.test;for=192.0.2.1")], "192.0.2.1"),
        ([(b"forwarded", b"for=unknown")], None),
        ([(b"x-forwarded-for", b"anything else")], None),
        ([(b"x-forwarded-for", b"")], None),
        ([], None),
    ],
)
def test_the_address_of_a_client_is_one_whatever_port_a_proxy_adds(
    headers: list[tuple[bytes, bytes]], address: str | None
) -> None:
    assert forwarded_for(headers) == address
