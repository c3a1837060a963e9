import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from structlog.testing import capture_logs

from isola.errors import Refusal, Unauthenticated, Unavailable
from isola.identity import fetch, issuers, jwks
from isola.identity.tokens import TokenVerifier
from isola.testing.patience import PATIENCE
from tests.identity.conftest import SECRET, MakeSettings, Provider
from tests.identity.forging import encode, hs256, payload

ADA, BOB = ed25519.Ed25519PrivateKey.generate(), ed25519.Ed25519PrivateKey.generate()
RSA = rsa.generate_private_key(65537, 2048)
EC = ec.generate_private_key(ec.SECP256R1())

Respond = Callable[[BaseHTTPRequestHandler], None]


def published(private: Any, **members: Any) -> dict[str, Any]:
    algorithm = {RSA: "RS256", EC: "ES256"}.get(private, "EdDSA")
    return {**jwt.get_algorithm_by_name(algorithm).to_jwk(private.public_key(), as_dict=True), **members}


def body(content: bytes | dict[str, Any], status: int = 200, headers: dict[str, str] | None = None) -> Respond:
    data = content if isinstance(content, bytes) else json.dumps(content).encode()

    def respond(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **(headers or {})}.items():
            handler.send_header(name, value)
        handler.end_headers()
        with suppress(OSError):
            handler.wfile.write(data)

    return respond


def key_set(*entries: Any) -> Respond:
    return body({"keys": list(entries)})


def token(private: Any, kid: str | None = "a", algorithm: str = "EdDSA", **claims: Any) -> str:
    return jwt.encode(payload(**claims), private, algorithm, headers={"kid": kid} if kid is not None else None)


Answer = Callable[..., str]


@pytest.fixture
def answer(make_settings: MakeSettings, provider: Provider) -> Iterator[Answer]:
    """Verifies a token, with one key cache for a whole test: returns the subject or the error code."""
    with asyncio.Runner() as runner:
        made: list[TokenVerifier] = []

        async def verify(text: str) -> str:
            try:
                return (await made[0].verify(text)).subject
            except Refusal as refused:
                return refused.code

        def run(*texts: str, **values: Any) -> str:
            if not made:
                settings = make_settings(**{"token_jwks_url": provider.url, "token_jwks_cooldown": 0, **values})
                made.append(TokenVerifier(issuers.from_settings(settings), settings.token_cache_size))

            async def together() -> list[str]:
                return await asyncio.gather(*map(verify, texts))

            (one,) = set(runner.run(together()))
            return one

        yield run


# --- What is fetched


@pytest.mark.parametrize(("private", "algorithm"), [(ADA, "EdDSA"), (RSA, "RS256"), (EC, "ES256")])
@pytest.mark.parametrize("members", [{}, {"use": "sig"}, {"key_ops": ["verify"]}])
def test_a_published_key_verifies_tokens(
    answer: Answer, provider: Provider, private: Any, algorithm: str, members: dict[str, Any]
) -> None:
    provider.respond = key_set(published(private, kid="a", **members))
    assert answer(token(private, "a", algorithm)) == "ada"


def test_the_query_of_the_address_is_sent(answer: Answer, provider: Provider) -> None:
    provider.respond = key_set(published(ADA, kid="a"))
    assert answer(token(ADA), token_jwks_url=f"{provider.url}?tenant=isola") == "ada"
    assert provider.requests == ["/keys?tenant=isola"]


def test_keys_are_fetched_once_for_many_tokens_at_once(answer: Answer, provider: Provider) -> None:
    provider.respond = key_set(published(ADA, kid="a"))
    assert answer(*(token(ADA, nonce=n) for n in range(50))) == "ada"
    assert answer(token(ADA, nonce=50)) == "ada"
    assert len(provider.requests) == 1


def test_a_token_without_a_key_id_is_valid_only_if_there_is_one_key(answer: Answer, provider: Provider) -> None:
    provider.respond = key_set(published(ADA, kid="a"))
    assert answer(token(ADA, kid=None)) == "ada"
    provider.respond = key_set(published(ADA, kid="a"), published(BOB, kid="b"))
    assert answer(token(BOB, kid="b")) == "ada"
    assert answer(token(ADA, kid=None, nonce=1)) == "UNAUTHENTICATED"


@pytest.mark.parametrize(
    "entry",
    [
        {"kty": "oct", "k": encode(SECRET.encode())},
        {"kty": "oct", "k": encode(SECRET.encode()), "alg": "HS256"},
        {"kty": "oct"},
        {"kty": []},
        {"kty": "EC", "crv": "P-384"},
        {"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"},
        {"kty": "RSA", "n": "AQAB", "e": "AQAB"},
        {"kty": "RSA", "n": 7, "e": "AQAB"},
        jwt.get_algorithm_by_name("RS256").to_jwk(rsa.generate_private_key(65537, 1024).public_key(), as_dict=True),
        published(ADA, use="enc"),
        published(ADA, key_ops=["encrypt"]),
        published(ADA, key_ops=None),
        published(ADA, alg="HS256"),
        published(ADA, alg="none"),
        published(ADA, alg=["EdDSA"]),
        published(RSA, alg="RS512"),
        jwt.get_algorithm_by_name("EdDSA").to_jwk(ADA, as_dict=True),
        None,
        7,
        "key",
        [],
    ],
)
def test_an_unusable_published_key_is_ignored(answer: Answer, provider: Provider, entry: Any) -> None:
    named = {**entry, "kid": "x"} if isinstance(entry, dict) else entry
    provider.respond = key_set(named, published(BOB, kid="b"))
    assert answer(token(BOB, kid="b")) == "ada"
    assert answer(token(ADA, kid="x")) == "UNAUTHENTICATED"
    assert answer(token(RSA, kid="x", algorithm="RS256")) == "UNAUTHENTICATED"
    assert answer(hs256(payload(), {"alg": "HS256", "kid": "x"})) == "UNAUTHENTICATED"


@pytest.mark.parametrize("kid", [7, [], {}, True])
def test_a_published_key_whose_id_is_not_a_text_is_ignored(answer: Answer, provider: Provider, kid: Any) -> None:
    provider.respond = key_set(published(ADA, kid=kid), published(BOB, kid="b"))
    assert answer(token(BOB, kid="b")) == "ada"


def test_one_algorithm_a_key(answer: Answer, provider: Provider) -> None:
    provider.respond = key_set(published(ADA, kid="a"), published(RSA, kid="r"), published(EC, kid="e"))
    assert answer(token(RSA, "r", "RS256")) == "ada"
    assert answer(token(RSA, "a", "RS256")) == "UNAUTHENTICATED"
    assert answer(token(ADA, "r")) == "UNAUTHENTICATED"
    assert answer(token(RSA, "r", "PS256")) == "UNAUTHENTICATED"


def test_a_header_that_contradicts_its_key_is_refused_despite_a_valid_signature(
    answer: Answer, provider: Provider
) -> None:
    provider.respond = key_set(published(ADA, kid="a"), published(RSA, kid="r"))
    signed = f"{encode({'alg': 'RS256', 'kid': 'a'})}.{encode(payload())}"
    assert answer(f"{signed}.{encode(ADA.sign(signed.encode()))}") == "UNAUTHENTICATED"


def test_only_the_configured_algorithm_is_accepted(answer: Answer, provider: Provider) -> None:
    provider.respond = key_set(published(ADA, kid="a"), published(RSA, kid="r"))
    assert answer(token(RSA, "r", "RS256"), token_algorithm="RS256") == "ada"
    assert answer(token(ADA, "a")) == "UNAUTHENTICATED"
    assert answer(token(RSA, None, "RS256", nonce=1)) == "ada"


# --- When nothing is fetched


@pytest.mark.parametrize(
    "header",
    [
        {"alg": "none"},
        {"alg": "HS256", "kid": "unknown"},
        {"alg": "RS512", "kid": "unknown"},
        {"alg": "EdDSA", "kid": "unknown", "jku": "http://127.0.0.1/"},
        {"alg": "EdDSA", "kid": "unknown", "x5u": "http://127.0.0.1/"},
        {"alg": "EdDSA", "kid": "unknown", "jwk": {}},
        {"alg": "EdDSA", "kid": "unknown", "crit": ["exp"]},
        {"alg": "EdDSA", "kid": ["unknown"]},
    ],
)
def test_a_token_that_is_invalid_with_any_key_causes_no_fetch(
    answer: Answer, provider: Provider, header: dict[str, Any]
) -> None:
    assert answer(hs256(payload(), header)) == "UNAUTHENTICATED"
    assert provider.requests == []


@pytest.mark.parametrize("kid", ["unknown", "../../etc/passwd", "' OR 1=1 --", "http://127.0.0.1/", "\ud800", ""])
def test_unknown_key_ids_cause_one_fetch_however_many_they_are(answer: Answer, provider: Provider, kid: str) -> None:
    provider.respond = key_set(published(ADA, kid="a"))
    assert answer(token(ADA), token_jwks_cooldown=60) == "ada"
    header = {"alg": "EdDSA", "kid": kid}
    assert answer(*(hs256(payload(nonce=n), header) for n in range(50))) == "UNAUTHENTICATED"
    assert provider.requests == ["/keys"] * 2


def test_many_unknown_key_ids_cause_few_fetches_and_do_not_affect_valid_tokens(
    answer: Answer, provider: Provider
) -> None:
    provider.respond = key_set(published(ADA, kid="a"))
    assert answer(token(ADA), token_jwks_cooldown=60) == "ada"
    refused = [answer(hs256(payload(nonce=n), {"alg": "EdDSA", "kid": f"unknown-{n}"})) for n in range(50)]
    assert refused == ["UNAUTHENTICATED"] * (jwks.BURST - 1) + ["UNAVAILABLE"] * (51 - jwks.BURST)
    assert provider.requests == ["/keys"] * jwks.BURST
    assert answer(token(ADA, nonce=1)) == "ada"


# --- Rotation


def test_a_rotated_key_is_fetched(answer: Answer, provider: Provider) -> None:
    provider.respond = key_set(published(ADA, kid="a"))
    assert answer(token(ADA)) == "ada"
    provider.respond = key_set(published(ADA, kid="a"), published(BOB, kid="b"))
    assert answer(token(BOB, kid="b")) == "ada"
    assert answer(token(ADA, nonce=1)) == "ada"
    assert len(provider.requests) == 2


def test_many_with_a_rotated_key_wait_for_one_fetch(answer: Answer, provider: Provider) -> None:
    provider.respond = key_set(published(ADA, kid="a"))
    assert answer(token(ADA), token_jwks_cooldown=60) == "ada"
    provider.respond = key_set(published(BOB, kid="b"))
    assert answer(*(token(BOB, kid="b", nonce=n) for n in range(200))) == "ada"
    assert provider.requests == ["/keys"] * 2


def test_a_withdrawn_key_ends_with_the_lifetime(answer: Answer, provider: Provider) -> None:
    provider.respond = key_set(published(ADA, kid="a"), published(BOB, kid="b"))
    assert answer(token(ADA), token_jwks_lifetime=0.2) == "ada"
    provider.respond = key_set(published(BOB, kid="b"))
    time.sleep(0.2)
    assert answer(token(ADA, nonce=1)) == "UNAUTHENTICATED"


def test_a_provider_can_withdraw_all_its_keys(answer: Answer, provider: Provider) -> None:
    provider.respond = key_set(published(ADA, kid="a"))
    assert answer(token(ADA), token_jwks_lifetime=0.01) == "ada"
    provider.respond = key_set()
    time.sleep(0.01)
    with capture_logs() as logs:
        assert answer(token(ADA, nonce=1)) == "UNAUTHENTICATED"
    assert [entry["event"] for entry in logs] == ["identity.no_usable_key"]


# --- A provider that fails


def redirect(handler: BaseHTTPRequestHandler) -> None:
    if handler.path == "/keys":
        body(b"", 302, {"Location": "/elsewhere"})(handler)
    else:
        key_set(published(ADA, kid="a"))(handler)


def hang_up(handler: BaseHTTPRequestHandler) -> None:
    handler.connection.close()


GOOD = json.dumps({"keys": [published(ADA, kid="a")]}).encode()

TROUBLE: dict[str, Respond] = {
    "status 500": body(GOOD, 500),
    "status 404": body(GOOD, 404),
    "redirect": redirect,
    "no JSON": body(b"<html>canary</html>"),
    "no UTF-8": body(b"\xff\xff"),
    "deep": body(b"[" * 100_000),
    "a list": body(b"[]"),
    "no keys": body(b"{}"),
    "keys of another type": body(b'{"keys":{}}'),
    "keys in a text": body(b'{"keys":"canary"}'),
    "huge": body(GOOD + b" " * fetch.MAX_BYTES),
    "huge and endless": body(GOOD + b" " * fetch.MAX_BYTES, headers={"Content-Length": str(10**12)}),
    "hangs up": hang_up,
}


@pytest.mark.parametrize("trouble", TROUBLE.values(), ids=TROUBLE)
def test_without_keys_tokens_cannot_be_verified(answer: Answer, provider: Provider, trouble: Respond) -> None:
    provider.respond = trouble
    with capture_logs() as logs:
        assert answer(token(ADA)) == "UNAVAILABLE"
    assert provider.requests == ["/keys"]
    assert [entry["event"] for entry in logs] == ["identity.keys_not_fetched"]
    assert "canary" not in str(logs)
    provider.respond = body(GOOD)
    assert answer(token(ADA)) == "ada"


@pytest.mark.parametrize("trouble", TROUBLE.values(), ids=TROUBLE)
def test_fetched_keys_are_used_while_the_provider_fails(answer: Answer, provider: Provider, trouble: Respond) -> None:
    provider.respond = body(GOOD)
    assert answer(token(ADA), token_jwks_lifetime=0.01) == "ada"
    provider.respond = trouble
    time.sleep(0.01)
    assert answer(token(ADA, nonce=1)) == "ada"
    # The provider may have published this key by now.
    assert answer(token(BOB, kid="b")) == "UNAVAILABLE"


def test_fetched_keys_expire(answer: Answer, provider: Provider, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jwks, "STALE_LIMIT", 0.05)
    provider.respond = body(GOOD)
    assert answer(token(ADA), token_jwks_lifetime=0.01) == "ada"
    provider.respond = hang_up
    time.sleep(0.05)
    assert answer(token(ADA, nonce=1)) == "UNAVAILABLE"


def test_a_failed_provider_is_not_requested_again_at_once(answer: Answer, provider: Provider) -> None:
    provider.respond = hang_up
    assert answer(token(ADA), token_jwks_cooldown=60) == "UNAVAILABLE"
    assert answer(token(ADA)) == "UNAVAILABLE"
    assert len(provider.requests) == 1


def never_end(start: bytes, drip: bytes, released: threading.Event) -> Respond:
    """Sends ``start`` and then ``drip`` again and again, until released or hung up on; then sets ``released``.

    It ends after some seconds in any case: otherwise the reading thread would keep a failing test from ending.
    """

    def respond(handler: BaseHTTPRequestHandler) -> None:
        with suppress(OSError):
            handler.wfile.write(start)
            for _ in range(250):
                if released.wait(0.02):
                    break
                handler.wfile.write(drip)
        released.set()

    return respond


HEADER = b"HTTP/1.0 200 OK\r\n\r\n"


@pytest.mark.parametrize(
    ("begin", "drip"),
    [(b"", b""), (b"HTTP/1.0 200 OK\r\nX: ", b"x"), (HEADER, b""), (HEADER, b" ")],
    ids=["silent", "dripping header", "silent body", "dripping body"],
)
def test_an_endless_response_of_a_provider_is_aborted(
    answer: Answer, provider: Provider, monkeypatch: pytest.MonkeyPatch, begin: bytes, drip: bytes
) -> None:
    monkeypatch.setattr(fetch, "TIMEOUT", 0.2)
    released = threading.Event()
    provider.respond = never_end(begin, drip, released)
    # Only the timeout ends the fetch.
    assert answer(token(ADA)) == "UNAVAILABLE"
    released.set()


def test_a_body_that_never_ends_is_disconnected(
    answer: Answer, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch, "TIMEOUT", 0.2)
    hung_up = threading.Event()
    provider.respond = never_end(HEADER, b" ", hung_up)
    assert answer(token(ADA)) == "UNAVAILABLE"
    assert hung_up.wait(PATIENCE)


def test_only_the_first_token_waits_for_a_provider_that_hangs(
    answer: Answer, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider.respond = body(GOOD)
    assert answer(token(ADA), token_jwks_lifetime=0.01) == "ada"
    monkeypatch.setattr(fetch, "TIMEOUT", 0.5)
    released = threading.Event()
    provider.respond = never_end(b"", b"", released)
    time.sleep(0.01)
    assert answer(token(ADA, nonce=1)) == "ada"
    monkeypatch.setattr(fetch, "TIMEOUT", PATIENCE)
    hung_up = threading.Event()
    provider.respond = never_end(b"", b"", hung_up)
    assert answer(*(token(ADA, nonce=n) for n in range(2, 50))) == "ada"
    assert not hung_up.is_set()
    hung_up.set()
    released.set()


def test_a_cancelled_client_does_not_cancel_the_fetch_of_others(
    make_settings: MakeSettings, provider: Provider
) -> None:
    arrived, released = threading.Event(), threading.Event()

    def respond(handler: BaseHTTPRequestHandler) -> None:
        arrived.set()
        released.wait(5)
        body(GOOD)(handler)

    async def scenario() -> str:
        settings = make_settings(token_jwks_url=provider.url, token_jwks_cooldown=60)
        verifier = TokenVerifier(issuers.from_settings(settings), settings.token_cache_size)
        leaves = asyncio.create_task(verifier.verify(token(ADA)))
        stays = asyncio.create_task(verifier.verify(token(ADA)))
        await asyncio.to_thread(arrived.wait, 5)
        leaves.cancel()
        with suppress(asyncio.CancelledError):
            await leaves
        released.set()
        return (await stays).subject

    provider.respond = respond
    assert asyncio.run(scenario()) == "ada"
    assert len(provider.requests) == 1


def test_tokens_cannot_be_verified_while_the_provider_is_unreachable(
    make_settings: MakeSettings, provider: Provider
) -> None:
    settings = make_settings(token_jwks_url=provider.url)
    provider.server_close()
    with pytest.raises(Unavailable):
        asyncio.run(TokenVerifier(issuers.from_settings(settings), settings.token_cache_size).verify(token(ADA)))


def test_a_forged_token_gets_the_same_refusal_whether_or_not_its_key_exists(
    make_settings: MakeSettings, provider: Provider
) -> None:
    provider.respond = key_set(published(ADA, kid="a"))
    settings = make_settings(token_jwks_url=provider.url)
    verifier = TokenVerifier(issuers.from_settings(settings), settings.token_cache_size)

    async def messages() -> set[str]:
        seen = set()
        for forged in (token(BOB, kid="a"), token(BOB, kid="b"), token(BOB, kid=None), token(RSA, "a", "RS256")):
            with pytest.raises(Unauthenticated) as caught:
                await verifier.verify(forged)
            seen.add(caught.value.message)
        return seen

    assert len(asyncio.run(messages())) == 1
