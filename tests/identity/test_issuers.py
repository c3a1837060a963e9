"""Several issuers: each has its own keys, audience, claims and users."""

import asyncio
import json
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt import get_algorithm_by_name

from isola.errors import OperatorError, Unauthenticated
from isola.identity import issuers
from isola.identity.claims import Claims, Expired
from isola.identity.tokens import TokenVerifier
from isola.settings import IssuerSettings
from tests.identity.conftest import SECRET, MakeSettings, Provider
from tests.identity.forging import hs256, payload

OTHER_SECRET = "fedcba9876543210fedcba9876543210"
PARTNER = {
    "name": "partner",
    "token_issuer": "https://partner.example",
    "token_audience": "isola-api",
    "token_key": OTHER_SECRET,
    "claim_tenant": "https://partner.example/org",
}
OF_PARTNER = {
    "iss": "https://partner.example",
    "aud": "isola-api",
    "tenant": ...,
    "https://partner.example/org": "acme",
}
Verify = Callable[[str], Claims]


@pytest.fixture
def make_verify(make_settings: MakeSettings) -> Callable[..., Verify]:
    def make(*further: dict[str, Any], **values: Any) -> Verify:
        listed = [IssuerSettings(**each) for each in further]
        settings = make_settings(token_key=SECRET, issuers=listed, **values)
        verifier = TokenVerifier(issuers.from_settings(settings), settings.token_cache_size)
        return lambda token: asyncio.run(verifier.verify(token))

    return make


def partners(secret: str = OTHER_SECRET, **changes: Any) -> str:
    """A token of the partner."""
    return hs256(payload(**{**OF_PARTNER, **changes}), secret=secret)


def refusal(verify: Verify, token: str) -> str:
    with pytest.raises(Unauthenticated) as caught:
        verify(token)
    return caught.value.message


def test_each_issuers_tokens_are_read_by_its_own_settings(make_verify: Callable[..., Verify]) -> None:
    verify = make_verify(PARTNER)

    first, second = verify(hs256(payload())), verify(partners())

    assert (first.tenant, first.subject) == ("acme", "ada")
    assert (second.tenant, second.subject) == ("acme", "iss:partner:ada")


def test_a_key_of_one_issuer_never_verifies_anothers_token(make_verify: Callable[..., Verify]) -> None:
    verify = make_verify(PARTNER)

    messages = {refusal(verify, token) for token in (partners(secret=SECRET), hs256(payload(), secret=OTHER_SECRET))}

    assert messages == {"the token is not signed with an accepted key"}


@pytest.mark.parametrize(
    "changes",
    [{"iss": "isola"}, {"aud": "isola"}, {"iss": "https://partner.example/"}, {"iss": ["https://partner.example"]}],
    ids=str,
)
def test_a_token_is_validated_by_the_settings_of_its_issuer(make_verify: Callable[..., Verify], changes: Any) -> None:
    refusal(make_verify(PARTNER), partners(**changes))


@pytest.mark.parametrize("subject", ["iss:partner:ada", "key:0123456789ab", "iss:", "key:"])
def test_the_first_issuer_cannot_use_reserved_prefixes_of_subjects(
    make_verify: Callable[..., Verify], subject: str
) -> None:
    verify = make_verify(PARTNER)

    assert "reserved" in refusal(verify, hs256(payload(sub=subject)))
    # A further issuer may use any subject: subjects are separate for each issuer.
    assert verify(partners(sub=subject)).subject == f"iss:partner:{subject}"


def test_an_issuer_can_be_configured_to_leave_the_tenant_to_the_request(
    make_verify: Callable[..., Verify],
) -> None:
    without: dict[str, Any] = {"https://partner.example/org": ...}
    assert "https://partner.example/org" in refusal(make_verify(PARTNER), partners(**without))

    verify = make_verify({**PARTNER, "token_tenant_required": False})

    assert verify(partners(**without)).tenant is None
    assert verify(partners()).tenant == "acme"
    assert "tenant" in refusal(verify, hs256(payload(tenant=...)))


def test_the_leeway_is_the_first_issuers_unless_given(make_verify: Callable[..., Verify]) -> None:
    expired = int(time.time()) - 20
    lenient = make_verify(PARTNER, token_leeway=60)
    strict = make_verify({**PARTNER, "token_leeway": 0}, token_leeway=60)

    assert lenient(partners(exp=expired)).subject == "iss:partner:ada"
    with pytest.raises(Expired):
        strict(partners(exp=expired))


def test_keys_are_fetched_for_each_issuer_by_itself(make_verify: Callable[..., Verify], provider: Provider) -> None:
    key = Ed25519PrivateKey.generate()
    entry = get_algorithm_by_name("EdDSA").to_jwk(key.public_key(), as_dict=True)

    def respond(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        handler.wfile.write(json.dumps({"keys": [{**entry, "kid": "one"}]}).encode())

    provider.respond = respond
    verify = make_verify({**PARTNER, "token_key": None, "token_jwks_url": provider.url})
    token = jwt.encode(payload(**OF_PARTNER), key, "EdDSA", headers={"kid": "one"})

    # A token of the first issuer never causes a fetch of another issuer's keys.
    refusal(verify, hs256(payload(), {"alg": "EdDSA", "kid": "unknown"}))
    assert provider.requests == []
    assert verify(token).subject == "iss:partner:ada"
    refusal(verify, partners())
    assert provider.requests == ["/keys"]
    pem = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    assert make_verify({**PARTNER, "token_key": pem, "token_algorithm": "EdDSA"})(
        jwt.encode(payload(**OF_PARTNER), key, "EdDSA")
    )


WRONG = {
    "no key": ({"token_key": None}, "ISOLA_ISSUERS, partner: expected token_key"),
    "two keys": ({"token_jwks_url": "https://x.example"}, "token_key and token_jwks_url are set"),
    "weak key": ({"token_key": "short"}, "ISOLA_ISSUERS, partner: token_key: expected a secret of at least 32"),
    "secret in place of a public key": ({"token_algorithm": "RS256"}, "as token_algorithm says"),
    "keys in the clear": ({"token_key": None, "token_jwks_url": "http://x.example"}, "token_jwks_url: expected https"),
    "the first issuer's name": ({"token_issuer": "isola"}, "ISOLA_ISSUERS, partner: another issuer"),
}


@pytest.mark.parametrize(("changes", "message"), WRONG.values(), ids=WRONG)
def test_an_invalid_issuer_is_named(make_verify: Callable[..., Verify], changes: dict[str, Any], message: str) -> None:
    with pytest.raises(OperatorError) as refused:
        make_verify({**PARTNER, **changes})

    assert message in refused.value.message
    assert SECRET not in refused.value.message
    assert OTHER_SECRET not in refused.value.message


def test_two_issuers_have_two_names(make_verify: Callable[..., Verify]) -> None:
    with pytest.raises(OperatorError, match="another issuer"):
        make_verify(PARTNER, {**PARTNER, "token_issuer": "https://other.example"})


# --- Refusals are cached


class Counted:
    """A key that counts how often it is used."""

    def __init__(self, algorithm: Any) -> None:
        self.algorithm = algorithm
        self.uses = 0

    def verify(self, *arguments: Any) -> bool:
        self.uses += 1
        return bool(self.algorithm.verify(*arguments))


def test_a_refused_token_is_verified_once_and_a_valid_one_is_accepted_in_time(make_settings: MakeSettings) -> None:
    settings = make_settings(token_key=SECRET)
    known = issuers.from_settings(settings)
    now = 1_800_000_000.0
    verifier = TokenVerifier(known, 2, lambda: now)
    key = asyncio.run(known["isola"].keys.find(None))
    assert key is not None
    counted = Counted(key.Algorithm)
    key.Algorithm = counted  # type: ignore[assignment]  # all that is asked of one is to verify
    early = hs256(payload(nbf=now + 1, exp=now + 60))
    bad = [early[:-4] + "AAAA", *(hs256(payload(exp=now + 60, aud=f"other {n}")) for n in range(3))]

    def refused(token: str) -> None:
        with pytest.raises(Unauthenticated):
            asyncio.run(verifier.verify(token))

    for _ in range(100):
        refused(bad[0])
    assert counted.uses == 1
    for token in bad[1:]:
        refused(token)
    # The oldest entry was evicted.
    refused(bad[0])
    assert counted.uses == 5

    refused(early)
    now += 1
    assert asyncio.run(verifier.verify(early)).subject == "ada"
