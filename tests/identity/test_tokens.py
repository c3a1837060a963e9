import asyncio
import math
import time
from collections.abc import Callable
from typing import Any

import jwt
import pytest

from isola.errors import OperatorError, Unauthenticated
from isola.identity import issuers, tokens
from isola.identity.claims import Claims, Expired
from isola.identity.tokens import TokenVerifier, bearer, mint
from isola.subjects.permissions import Role
from tests.identity.conftest import SECRET, MakeSettings
from tests.identity.forging import encode, hs256, payload

MakeVerifier = Callable[..., TokenVerifier]

NOW = 1_800_000_000.0


class Clock:
    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def make_verifier(make_settings: MakeSettings) -> MakeVerifier:
    def make(clock: Callable[[], float] = time.time, **values: Any) -> TokenVerifier:
        settings = make_settings(**{"token_key": SECRET, **values})
        return TokenVerifier(issuers.from_settings(settings), settings.token_cache_size, clock)

    return make


@pytest.fixture
def verify(make_verifier: MakeVerifier) -> Callable[[str], Claims]:
    verifier = make_verifier()
    return lambda token: asyncio.run(verifier.verify(token))


Verify = Callable[[str], Claims]


def refusal(verify: Verify, token: str) -> str:
    with pytest.raises(Unauthenticated) as caught:
        verify(token)
    return caught.value.message


def said(claims: Claims) -> tuple[object, ...]:
    return claims.tenant, claims.subject, claims.role, claims.name, claims.email, claims.expires_at


# --- What is accepted


def test_a_valid_token_returns_its_claims(verify: Verify) -> None:
    token = hs256(payload(role="admin", name="Ada Lovelace", email="ada@acme.example", email_verified=True, exp=4e9))
    assert said(verify(token)) == ("acme", "ada", Role.ADMIN, "Ada Lovelace", "ada@acme.example", 4e9)


def test_role_name_and_email_are_optional_claims(verify: Verify) -> None:
    claims = verify(hs256(payload()))
    assert (claims.role, claims.name, claims.email) == (None, None, None)


@pytest.mark.parametrize("unknown", [None, ""])
def test_a_placeholder_name_of_the_issuer_is_ignored(verify: Verify, unknown: str | None) -> None:
    assert verify(hs256(payload(name=unknown, email=unknown))).name is None


@pytest.mark.parametrize("aud", ["isola", ["isola"], ["other", "isola"]])
def test_the_audience_is_one_or_among_several(verify: Verify, aud: object) -> None:
    assert verify(hs256(payload(aud=aud))).tenant == "acme"


@pytest.mark.parametrize("subject", ["a", "é" * 255, "auth0|5f7c", "o'hara; --", "名前"])
def test_subject_and_tenant_are_any_printable_text(verify: Verify, subject: str) -> None:
    claims = verify(hs256(payload(sub=subject, tenant=subject)))
    assert (claims.subject, claims.tenant) == (subject, subject)


def test_claim_names_issuer_and_audience_are_settings(make_verifier: MakeVerifier) -> None:
    verifier = make_verifier(
        token_issuer="https://login.example",
        token_audience="api",
        claim_tenant="https://login.example/org",
        claim_user="oid",
        claim_role="access",
        claim_name="full_name",
        claim_email="mail",
        claim_email_verified="mail_checked",
    )
    claims = {
        "iss": "https://login.example",
        "aud": "api",
        "exp": 4e9,
        "https://login.example/org": "acme",
        "oid": "ada",
        "access": "viewer",
        "full_name": "Ada",
        "mail": "ada@acme.example",
        "mail_checked": True,
    }
    expected = ("acme", "ada", Role.VIEWER, "Ada", "ada@acme.example", 4e9)
    assert said(asyncio.run(verifier.verify(hs256(claims)))) == expected


@pytest.mark.parametrize("typ", ["JWT", "jwt", "at+jwt", "application/at+jwt", ...])
def test_the_type_may_be_that_of_an_access_token(verify: Verify, typ: object) -> None:
    header = {"alg": "HS256", "typ": typ} if typ is not ... else {"alg": "HS256"}
    assert verify(hs256(payload(), header)).tenant == "acme"


def test_a_key_may_be_named_if_it_has_that_name(make_verifier: MakeVerifier) -> None:
    verifier = make_verifier(token_key_id="2027-01")
    assert asyncio.run(verifier.verify(hs256(payload(), {"alg": "HS256", "kid": "2027-01"}))).tenant == "acme"
    assert asyncio.run(verifier.verify(hs256(payload()))).tenant == "acme"


# --- Signature, algorithm and key (ATTACKS 19, 20)

NONE = ["none", "None", "NONE", "nOnE", " none", "none ", "", "none\x00"]


@pytest.mark.parametrize("alg", [*NONE, "HS384", "hs256", "HS256 ", "RS256", "ES256", "EdDSA", None, 5, True, [], {}])
def test_any_other_algorithm_is_refused_despite_a_valid_signature(verify: Verify, alg: object) -> None:
    refusal(verify, hs256(payload(), {"alg": alg}))


@pytest.mark.parametrize("alg", NONE)
@pytest.mark.parametrize("signature", ["", encode(b""), "AA", "e30"])
def test_an_unsigned_token_is_refused(verify: Verify, alg: str, signature: str) -> None:
    refusal(verify, f"{encode({'alg': alg})}.{encode(payload())}.{signature}")


@pytest.mark.parametrize(
    "signature",
    ["", "A", "AA", "=", "A" * 42, "A" * 43, "A" * 44, "A" * 86, "A" * 342, "!" * 43, "é" * 43, "\ud800", "\n"],
)
def test_an_empty_or_wrong_signature_is_refused(verify: Verify, signature: str) -> None:
    signed = hs256(payload()).rpartition(".")[0]
    refusal(verify, f"{signed}.{signature}")
    refusal(verify, signed)


def test_a_single_flipped_bit_anywhere_is_refused(verify: Verify) -> None:
    token = hs256(payload())
    verify(token)
    for position, character in enumerate(token):
        for bit in (1, 2, 32):
            refusal(verify, token[:position] + chr(ord(character) ^ bit) + token[position + 1 :])


@pytest.mark.parametrize("secret", ["", " ", "secret", SECRET[:-1], SECRET + "\n", "\0" * 32])
def test_another_secret_is_refused(verify: Verify, secret: str) -> None:
    refusal(verify, hs256(payload(), secret=secret))


@pytest.mark.parametrize(
    "kid",
    ["", "unknown", "../../../../dev/null", "/etc/passwd", "' OR 1=1 --", "a\x00b", "http://localhost/", "k" * 9_000],
)
def test_an_unknown_key_id_is_refused_despite_a_valid_signature(verify: Verify, kid: str) -> None:
    refusal(verify, hs256(payload(), {"alg": "HS256", "kid": kid}))


@pytest.mark.parametrize("kid", [0, 1.5, True, [], ["a"], {}])
def test_a_key_id_that_is_not_a_text_is_refused(verify: Verify, kid: object) -> None:
    refusal(verify, hs256(payload(), {"alg": "HS256", "kid": kid}))


@pytest.mark.parametrize(
    "parameter",
    [
        {"jku": "http://127.0.0.1:1/keys"},
        {"jwk": {"kty": "oct", "k": encode(SECRET.encode())}},
        {"x5u": "http://127.0.0.1:1/certificate"},
        {"x5c": ["MIIB"]},
        {"crit": ["exp"], "exp": 4e9},
        {"crit": ["b64"], "b64": True},
        {"crit": []},
        {"crit": None},
        {"b64": False},
        {"b64": False, "crit": ["b64"]},
        {"typ": "logout+jwt"},
        {"typ": "dpop+jwt"},
        {"typ": None},
        {"typ": ["JWT"]},
    ],
)
def test_a_header_with_a_key_an_extension_or_another_type_is_refused(
    verify: Verify, parameter: dict[str, object]
) -> None:
    refusal(verify, hs256(payload(), {"alg": "HS256", **parameter}))


@pytest.mark.parametrize("header", [b"", b"[]", b"null", b'"HS256"', b"{", b"\xff\xfe", b"[" * 9_000, b'{"a":' * 2_000])
def test_a_header_that_is_not_a_json_object_is_malformed(verify: Verify, header: bytes) -> None:
    assert refusal(verify, hs256(payload(), header)) == "the token is malformed"


@pytest.mark.parametrize("body", [b"", b"[]", b"null", b"7", b"{", b"\xff", b"[" * 9_000, b'{"a":' * 2_000 + b"1"])
def test_a_payload_that_is_not_a_json_object_is_malformed(verify: Verify, body: bytes) -> None:
    assert refusal(verify, hs256(body)) == "the token is malformed"


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "..",
        "...",
        "a.b",
        "a.b.c.d",
        "a.b.c",
        "null",
        "x" * 100,
        "é.é.é",
        "\ud800.\ud800.\ud800",
        "٣.٣.٣",
        "a b",
    ],
)
def test_a_text_that_is_not_a_token_is_malformed(verify: Verify, text: str) -> None:
    assert refusal(verify, text) == "the token is malformed"


@pytest.mark.parametrize("around", ["{}\n", " {}", "{}=", "{}==", "{}.", "{}\x00"])
def test_a_token_has_one_spelling(verify: Verify, around: str) -> None:
    assert refusal(verify, around.format(hs256(payload()))) == "the token is malformed"


def test_unused_bits_of_an_encoded_signature_must_be_zero(verify: Verify) -> None:
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    token = hs256(payload())
    for spare in (1, 2, 3):
        other = token[:-1] + alphabet[alphabet.index(token[-1]) + spare]
        assert refusal(verify, other) == "the token is malformed"


# --- Claims (ATTACKS 21)


@pytest.mark.parametrize("claim", ["iss", "aud", "exp", "sub", "tenant"])
@pytest.mark.parametrize(
    "value", [..., None, "", 7, 1.5, True, False, [], {}, ["acme", 7], {"isola": 1}, [None], [["isola"]]]
)
def test_a_required_claim_that_is_missing_or_of_another_type_is_refused(
    verify: Verify, claim: str, value: object
) -> None:
    refusal(verify, hs256(payload(**{claim: value})))


@pytest.mark.parametrize("aud", [["isola", 7], ["isola", None], [["isola"], "isola"]])
def test_an_audience_list_with_other_types_is_refused(verify: Verify, aud: object) -> None:
    assert refusal(verify, hs256(payload(aud=aud))) == "the token's claim aud must be a text or a list of texts"


@pytest.mark.parametrize("claim", ["exp", "nbf", "iat"])
@pytest.mark.parametrize(
    "value",
    [None, "1", "4000000000", True, False, [], {}, math.nan, math.inf, -math.inf, -1, 1e300, 10**400, 253_402_300_800],
)
def test_a_time_that_is_no_real_number_is_refused(verify: Verify, claim: str, value: object) -> None:
    assert refusal(verify, hs256(payload(**{claim: value}))) == (
        f"the token's claim {claim} must be a time in seconds since 1970"
    )


def test_a_number_too_long_to_read_is_malformed(verify: Verify) -> None:
    assert refusal(verify, hs256(b'{"exp":' + b"9" * 5_000 + b"}")) == "the token is malformed"


NO_TEXTS = ["a" * 256, "a\x00", "\n", "a\x7f", "a\x85", "a\u2028", "\ud800", 7, True, ["a"], {}]


@pytest.mark.parametrize("claim", ["sub", "tenant"])
@pytest.mark.parametrize("value", NO_TEXTS)
def test_a_text_that_is_too_long_or_unprintable_is_refused(verify: Verify, claim: str, value: object) -> None:
    assert refusal(verify, hs256(payload(**{claim: value}))).startswith(f"the token's claim {claim} must be a text")


@pytest.mark.parametrize("value", NO_TEXTS)
def test_a_name_or_address_that_cannot_be_stored_is_omitted(verify: Verify, value: object) -> None:
    claims = verify(hs256(payload(name=value, email=value, email_verified=True)))
    assert (claims.name, claims.email) == (None, None)


@pytest.mark.parametrize("verified", [None, False, "true", 1, [True], {}])
def test_an_email_address_that_the_issuer_did_not_verify_is_omitted(verify: Verify, verified: object) -> None:
    said = {} if verified is None else {"email_verified": verified}
    assert verify(hs256(payload(email="ada@acme.example", **said))).email is None


@pytest.mark.parametrize("role", ["root", "Admin", "admin ", "", 0, True, [], ["admin"], {}, {"admin": True}])
def test_an_unknown_role_is_refused(verify: Verify, role: object) -> None:
    expected = "the token's claim role must be one of viewer, editor, admin, owner"
    assert refusal(verify, hs256(payload(role=role))) == expected


@pytest.mark.parametrize("iss", ["Isola", "isola ", "isola/", "https://isola"])
def test_another_issuer_is_refused(verify: Verify, iss: str) -> None:
    assert refusal(verify, hs256(payload(iss=iss))) == "the token is from another issuer"


@pytest.mark.parametrize("aud", ["other", "isol", "isola2", "ISOLA", [], ["other"], ["isola "]])
def test_another_audience_is_refused(verify: Verify, aud: object) -> None:
    assert refusal(verify, hs256(payload(aud=aud))) == "the token is for another audience"


def test_a_refusal_before_signature_verification_reveals_no_claims(verify: Verify) -> None:
    forged = [hs256(payload(**change), secret="x" * 32) for change in ({}, {"exp": 1}, {"aud": "b"}, {"sub": ...})]
    assert len({refusal(verify, token) for token in forged}) == 1


@pytest.mark.parametrize("leeway", [0, 0.5, 30, 300])
def test_time_limits_are_exact_at_the_leeway(make_verifier: MakeVerifier, leeway: float) -> None:
    def answer(now: float, **times: float) -> str:
        verifier = make_verifier(clock=Clock(now), token_leeway=leeway)
        try:
            return asyncio.run(verifier.verify(hs256(payload(**{"exp": NOW + 9_999, **times})))).subject
        except Unauthenticated as refused:
            return refused.message

    end = NOW + leeway
    assert answer(math.nextafter(end, 0), exp=NOW) == "ada"
    assert answer(end, exp=NOW) == "the token is not valid"
    for claim in ("nbf", "iat"):
        start = NOW - leeway
        assert answer(start, **{claim: NOW}) == "ada"
        assert answer(math.nextafter(start, 0), **{claim: NOW}) == "the token is not yet valid"


def test_fractions_of_a_second_count(make_verifier: MakeVerifier) -> None:
    verifier = make_verifier(clock=Clock(NOW + 0.5))
    assert asyncio.run(verifier.verify(hs256(payload(exp=NOW + 0.75)))).expires_at == NOW + 0.75
    with pytest.raises(Expired):
        asyncio.run(verifier.verify(hs256(payload(exp=NOW + 0.25))))


@pytest.mark.parametrize("change", [{"aud": "b"}, {"iss": "b"}, {"sub": ...}, {"tenant": ...}, {"role": "root"}])
def test_a_token_with_another_fault_is_not_called_expired(verify: Verify, change: dict[str, Any]) -> None:
    for _ in range(2):  # the second time from the cache
        with pytest.raises(Expired) as expired:
            verify(hs256(payload(exp=1)))
        assert said(expired.value.claims)[:2] == ("acme", "ada")
        with pytest.raises(Unauthenticated) as refused:
            verify(hs256(payload(exp=1, **change)))
        assert not isinstance(refused.value, Expired)


# --- Size (ATTACKS 22)


@pytest.mark.parametrize(
    "token",
    [
        "a" * 1_000_000,
        "a." * 500_000,
        "." * 1_000_000,
        hs256(payload(padding="x" * 1_000_000)),
        hs256(payload(**{f"claim{n}": n for n in range(10_000)})),
        hs256(b'{"a":' * 100_000 + b"1" + b"}" * 100_000),
        hs256(payload(), {"alg": "HS256", "padding": "x" * 1_000_000}),
        hs256(b"[" * 12_000),
        hs256(payload(), b"[" * 12_000),
    ],
    ids=["text", "segments", "dots", "claim", "claims", "depth", "header", "small depth", "small header depth"],
)
def test_an_oversized_token_is_refused_quickly(verify: Verify, token: str) -> None:
    start = time.process_time()
    assert refusal(verify, token) == "the token is malformed"
    # CPU time, independent of other load: parsing the whole token would take longer.
    assert time.process_time() - start < 1


def test_the_longest_token_is_16_kib(verify: Verify) -> None:
    def token(padding: int) -> str:
        return hs256(payload(exp=4e9, padding="x" * padding))

    longest = next(n for n in range(12_300, 0, -1) if len(token(n)) <= 16 * 1024)
    assert verify(token(longest)).tenant == "acme"
    refusal(verify, token(longest + 2))


# --- Caching


def test_a_verified_token_is_cached_until_it_expires(make_verifier: MakeVerifier) -> None:
    clock = Clock(NOW)
    verifier = make_verifier(clock=clock, token_leeway=5)
    token = hs256(payload(exp=NOW + 60))
    assert verifier.cached(token) is None
    claims = asyncio.run(verifier.verify(token))
    clock.now = math.nextafter(NOW + 65, 0)
    assert verifier.cached(token) is claims
    assert asyncio.run(verifier.verify(token)) is claims
    clock.now = NOW + 65
    assert verifier.cached(token) is None
    with pytest.raises(Expired):
        asyncio.run(verifier.verify(token))


def test_a_cached_token_is_verified_again_after_some_time(make_verifier: MakeVerifier) -> None:
    clock = Clock(NOW)
    verifier = make_verifier(clock=clock)
    token = hs256(payload(exp=NOW + 86_400))
    claims = asyncio.run(verifier.verify(token))
    clock.now = NOW + tokens.REVERIFY_AFTER - 1
    assert verifier.cached(token) is claims
    clock.now = NOW + tokens.REVERIFY_AFTER
    assert verifier.cached(token) is None
    assert asyncio.run(verifier.verify(token)) == claims


def test_the_least_recently_used_token_is_evicted_first(make_verifier: MakeVerifier) -> None:
    verifier = make_verifier(token_cache_size=2)
    first, second, third = (hs256(payload(sub=subject)) for subject in ("ada", "bob", "eve"))
    for token in (first, second):
        asyncio.run(verifier.verify(token))
    verifier.cached(first)
    asyncio.run(verifier.verify(third))
    assert [verifier.cached(token) is not None for token in (first, second, third)] == [True, False, True]


def test_a_refused_token_is_not_cached(make_verifier: MakeVerifier) -> None:
    verifier = make_verifier()
    token = hs256(payload(aud="other"))
    for _ in range(2):
        with pytest.raises(Unauthenticated):
            asyncio.run(verifier.verify(token))
        assert verifier.cached(token) is None


@pytest.mark.parametrize("text", ["", "\ud800", "a" * 1_000_000])
def test_looking_up_a_text_that_is_not_a_token_finds_nothing(make_verifier: MakeVerifier, text: str) -> None:
    assert make_verifier().cached(text) is None


def test_claims_do_not_show_when_printed(verify: Verify) -> None:
    claims = verify(hs256(payload(email="ada@acme.example")))
    assert "ada" not in f"{claims} {claims!r}"


@pytest.mark.parametrize("claim", ["iss", "aud", "exp", "nbf", "sub", "tenant", "role"])
def test_no_refusal_quotes_the_token(verify: Verify, claim: str) -> None:
    assert "canary" not in refusal(verify, hs256(payload(**{claim: "canary\n"})))


# --- The header


@pytest.mark.parametrize("authorization", ["Bearer a.b.c", "bearer a.b.c", "BEARER  a.b.c"])
def test_bearer_parses_the_token_in_the_header(authorization: str) -> None:
    assert bearer(authorization) == "a.b.c"


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        "a.b.c",
        "Basic YWRhOnB3",
        "Bearera.b.c",
        "Bearer\ta.b.c",
        " Bearer a.b.c",
        "Bearer a.b.c\n",
        "Bearer a.b.c, Bearer d.e.f",
        "Bearer a b",
        "Bearer é",
        "Bearer =",
        "Bearer a=b",
        "\u212aearer a.b.c",
        "Bearer " * 100_000,
    ],
)
def test_bearer_refuses_everything_else(authorization: str | None) -> None:
    with pytest.raises(Unauthenticated, match="expected the header Authorization: Bearer <token>"):
        bearer(authorization)


# --- Minting


def test_a_minted_token_is_verified_with_the_same_settings(make_settings: MakeSettings) -> None:
    settings = make_settings(claim_tenant="org", claim_user="oid", token_issuer="dev", token_audience="api")
    token = mint(settings, "acme", "ada", Role.ADMIN, 60, name="Ada", email="ada@acme.example")
    claims = asyncio.run(TokenVerifier(issuers.from_settings(settings), settings.token_cache_size).verify(token))
    assert (claims.tenant, claims.subject, claims.role) == ("acme", "ada", Role.ADMIN)
    assert (claims.name, claims.email) == ("Ada", "ada@acme.example")
    assert 59 < claims.expires_at - time.time() <= 61


def test_a_minted_token_omits_unknown_claims(make_settings: MakeSettings) -> None:
    token = mint(make_settings(), "acme", "ada", Role.VIEWER, 60)
    said = jwt.decode(token, options={"verify_signature": False})
    assert set(said) == {"iss", "aud", "iat", "exp", "tenant", "sub", "role"}


@pytest.mark.parametrize(
    ("values", "blamed"),
    [
        ({"production": True}, "ISOLA_PRODUCTION"),
        ({"token_key": SECRET}, "ISOLA_TOKEN_KEY"),
        ({"token_key_file": "/key"}, "ISOLA_TOKEN_KEY_FILE"),
        ({"token_jwks_url": "https://login.example/keys"}, "ISOLA_TOKEN_JWKS_URL"),
        ({"token_algorithm": "RS256"}, "ISOLA_TOKEN_ALGORITHM"),
    ],
)
def test_tokens_are_minted_with_the_development_key_only(
    make_settings: MakeSettings, values: dict[str, Any], blamed: str
) -> None:
    with pytest.raises(OperatorError, match=rf"^{blamed} is "):
        mint(make_settings(**values), "acme", "ada", Role.ADMIN, 60)


@pytest.mark.parametrize("ttl", [0, -1, math.nan, math.inf, 1e300])
def test_a_minted_token_needs_a_valid_lifetime(make_settings: MakeSettings, ttl: float) -> None:
    with pytest.raises(OperatorError):
        mint(make_settings(), "acme", "ada", Role.ADMIN, ttl)


@pytest.mark.parametrize("text", ["", "a" * 256, "a\nb", "\ud800"])
def test_no_token_is_minted_that_would_be_refused(make_settings: MakeSettings, text: str) -> None:
    with pytest.raises(OperatorError, match="the token's claim tenant must be a text"):
        mint(make_settings(), text, "ada", Role.ADMIN, 60)
    with pytest.raises(OperatorError, match="the token's claim sub must be a text"):
        mint(make_settings(), "acme", text, Role.ADMIN, 60)
