"""Identities from an OpenID Connect provider, and the claims that must be rejected."""

import base64
import hashlib
import json
import time
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from isola.errors import BadUserInput, OperatorError, Unauthenticated, Unavailable
from isola.identity import openid
from isola.identity.openid import Code, Identity
from isola.settings import ProviderSettings
from tests.identity.conftest import MakeSettings, Provider

CLIENT = "isola"
NONCE = "n-0S6_WzA2Mj"
ACCESS_TOKEN = "jHkWEdUXMU1BwAsC4vtUsZwnNvTIxEl0z9K3vx5KF0Y"
CALLBACK = "https://app.example/callback"
KEYS: dict[str, Any] = {
    "RS256": rsa.generate_private_key(public_exponent=65537, key_size=2048),
    "ES256": ec.generate_private_key(ec.SECP256R1()),
    "EdDSA": ed25519.Ed25519PrivateKey.generate(),
}
STRANGER = ec.generate_private_key(ec.SECP256R1())


class Speaker:
    """A provider whose id tokens contain the claims that a test sets."""

    def __init__(self, provider: Provider) -> None:
        self.issuer = provider.url.removesuffix("/keys")
        self.algorithm = "ES256"
        self.key: Any = None
        self.header: dict[str, Any] = {}
        self.claims: dict[str, Any] = {}
        self.left_out: set[str] = set()
        self.answer: Mapping[str, Any] = {"access_token": ACCESS_TOKEN}
        self.described: Mapping[str, Any] = {}
        self.status = 200
        self.asked: dict[str, list[str]] = {}
        provider.respond = self.respond

    def respond(self, handler: BaseHTTPRequestHandler) -> None:
        match handler.path:
            case "/.well-known/openid-configuration":
                own = {
                    "issuer": self.issuer,
                    "token_endpoint": f"{self.issuer}/token",
                    "jwks_uri": f"{self.issuer}/keys",
                }
                body: Any = {**own, **self.described}
            case "/keys":
                body = {
                    "keys": [
                        {**jwt.get_algorithm_by_name(name).to_jwk(key.public_key(), as_dict=True), "kid": name}
                        for name, key in KEYS.items()
                    ]
                }
            case _:
                length = int(handler.headers["content-length"])
                self.asked = parse_qs(handler.rfile.read(length).decode(), strict_parsing=True)
                body = {"id_token": self.id_token(), **self.answer}
        said = json.dumps(body).encode()
        handler.send_response(self.status)
        handler.send_header("content-length", str(len(said)))
        handler.end_headers()
        handler.wfile.write(said)

    def id_token(self) -> str:
        now = int(time.time())
        payload = {
            "iss": self.issuer,
            "sub": "248289761001",
            "aud": CLIENT,
            "iat": now,
            "exp": now + 600,
            "nonce": NONCE,
            "name": "Jane Doe",
            **self.claims,
        }
        kept = {name: value for name, value in payload.items() if name not in self.left_out}
        header = {"kid": self.algorithm, **self.header}
        key: Any = self.key or KEYS.get(self.algorithm)
        return jwt.encode(kept, key, self.algorithm, headers=header)


@pytest.fixture
def speaker(provider: Provider) -> Speaker:
    return Speaker(provider)


def client(speaker: Speaker) -> openid.Provider:
    return openid.Provider(
        ProviderSettings(
            name="jane",
            issuer=speaker.issuer,
            client_id=CLIENT,
            redirect_uris=frozenset({CALLBACK}),
            tenants=frozenset({"acme"}),
        )
    )


async def identify(speaker: Speaker) -> Identity:
    return await client(speaker).identify(Code("example", "SplxlOBeZQQYbYS6WxSbIA", "verifier", CALLBACK, NONCE))


@pytest.mark.parametrize("algorithm", KEYS)
async def test_a_valid_id_token_identifies_the_user(speaker: Speaker, algorithm: str) -> None:
    speaker.algorithm = algorithm
    digest = (hashlib.sha512 if algorithm == "EdDSA" else hashlib.sha256)(ACCESS_TOKEN.encode()).digest()
    half = base64.urlsafe_b64encode(digest[: len(digest) // 2]).rstrip(b"=").decode()
    speaker.claims = {"at_hash": half, "azp": CLIENT, "aud": [CLIENT], "email": "j@x.org", "email_verified": True}

    identity = await identify(speaker)

    assert (identity.subject, identity.name, identity.email) == ("iss:jane:248289761001", "Jane Doe", "j@x.org")
    assert "Jane" not in repr(identity)
    assert speaker.asked == {
        "grant_type": ["authorization_code"],
        "code": ["SplxlOBeZQQYbYS6WxSbIA"],
        "code_verifier": ["verifier"],
        "redirect_uri": [CALLBACK],
        "client_id": [CLIENT],
    }


@pytest.mark.parametrize(
    "claims",
    [
        {"iss": "https://evil.example"},
        {"aud": "somebody-else"},
        {"aud": ["somebody-else"]},
        {"aud": [CLIENT, "somebody-else"]},
        {"aud": [CLIENT, "somebody-else"], "azp": "somebody-else"},
        {"azp": "somebody-else"},
        {"nonce": "another"},
        {"nonce": 7},
        {"exp": 1},
        {"exp": "soon"},
        {"iat": 4_000_000_000},
        {"nbf": 4_000_000_000},
        {"sub": ""},
        {"sub": 7},
        {"sub": "a" * 255},
        {"sub": "line\nfeed"},
        {"at_hash": "LDktKdoQak3Pk0cnXxCltA"},
        {"at_hash": None},
    ],
    ids=str,
)
async def test_an_id_token_with_other_claims_is_refused(speaker: Speaker, claims: dict[str, Any]) -> None:
    speaker.claims = claims
    with pytest.raises(Unauthenticated, match="does not confirm this sign-in"):
        await identify(speaker)


@pytest.mark.parametrize("claim", ["iss", "sub", "aud", "exp", "iat", "nonce"])
async def test_an_id_token_with_missing_claims_is_refused(speaker: Speaker, claim: str) -> None:
    speaker.left_out = {claim}
    with pytest.raises(Unauthenticated):
        await identify(speaker)


async def test_an_id_token_that_is_not_signed_by_the_provider_is_refused(speaker: Speaker) -> None:
    public = jwt.get_algorithm_by_name("ES256").to_jwk(KEYS["ES256"].public_key(), as_dict=True)
    for algorithm, key, header in (
        ("ES256", STRANGER, {}),
        ("ES256", STRANGER, {"kid": "unknown"}),
        ("ES256", STRANGER, {"jwk": public}),
        ("ES256", KEYS["ES256"], {"kid": "RS256"}),
        ("HS256", b"a client's secret is no key here", {"kid": "ES256"}),
        ("HS256", str(public["x"]).encode(), {"kid": "ES256"}),
        ("none", None, {"kid": "ES256"}),
    ):
        speaker.algorithm, speaker.key, speaker.header = algorithm, key, header
        with pytest.raises(Unauthenticated):
            await identify(speaker)


@pytest.mark.parametrize(
    "answer", [{"id_token": None}, {"id_token": "a.b.c"}, {"id_token": 7}, {"id_token": "a" * 100_000}], ids=ascii
)
async def test_an_answer_without_an_id_token_is_refused(speaker: Speaker, answer: Mapping[str, Any]) -> None:
    speaker.answer = answer
    with pytest.raises(Unauthenticated):
        await identify(speaker)


@pytest.mark.parametrize(
    "described",
    [
        {"issuer": "https://evil.example"},
        {"token_endpoint": "http://evil.example/token"},
        {"token_endpoint": None},
        {"jwks_uri": "file:///etc/passwd"},
        {"jwks_uri": 7},
    ],
    ids=str,
)
async def test_a_provider_with_invalid_discovery_is_unavailable(
    speaker: Speaker, described: Mapping[str, Any], provider: Provider
) -> None:
    speaker.described = described
    with pytest.raises(Unavailable):
        await identify(speaker)
    assert provider.requests == ["/.well-known/openid-configuration"]


async def test_a_failed_provider_is_unavailable_and_recovers(speaker: Speaker, provider: Provider) -> None:
    known = client(speaker)
    given = Code("example", "code", "verifier", CALLBACK, NONCE)
    assert await known.identify(given)
    for status, refusal in ((500, Unavailable), (503, Unavailable), (400, Unauthenticated), (302, Unauthenticated)):
        speaker.status = status
        with pytest.raises(refusal):
            await known.identify(given)
    speaker.status = 200
    assert await known.identify(given)
    # The configuration was fetched once.
    assert provider.requests.count("/.well-known/openid-configuration") == 1


async def test_nothing_is_sent_for_an_address_that_is_not_configured(speaker: Speaker, provider: Provider) -> None:
    with pytest.raises(BadUserInput):
        await client(speaker).identify(Code("example", "code", "verifier", f"{CALLBACK}/", NONCE))
    assert provider.requests == []


def test_providers_that_cannot_be_used_are_named(make_settings: MakeSettings) -> None:
    one = {
        "name": "one",
        "issuer": "https://one.example",
        "client_id": CLIENT,
        "redirect_uris": [CALLBACK],
        "tenants": ["acme"],
    }
    further = {"name": "one", "token_issuer": "https://two.example", "token_audience": "x", "token_key": "s" * 32}
    for settings, reason in (
        ({"sign_in_providers": [one, one]}, "one: another provider has this name already"),
        ({"sign_in_providers": [{**one, "issuer": "http://one.example"}]}, "one: expected an issuer at https://"),
        (
            {"sign_in_providers": [one], "issuers": [further]},
            "one: the issuer of this name in ISOLA_ISSUERS is another",
        ),
    ):
        with pytest.raises(OperatorError, match=reason):
            openid.from_settings(make_settings(**settings))
    assert openid.from_settings(make_settings(sign_in_providers=[one])).keys() == {"one"}
