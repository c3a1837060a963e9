import asyncio
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa, x25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from isola.errors import OperatorError, Unauthenticated
from isola.identity import issuers, keys
from isola.identity.tokens import TokenVerifier
from tests.identity.conftest import SECRET, MakeSettings
from tests.identity.forging import hs256, payload

PRIVATE: dict[str, Any] = {
    "RS256": rsa.generate_private_key(65537, 2048),
    "ES256": ec.generate_private_key(ec.SECP256R1()),
    "EdDSA": ed25519.Ed25519PrivateKey.generate(),
}
UNSUITABLE: dict[str, Any] = {
    "RSA of 1024 bits": rsa.generate_private_key(65537, 1024),
    "P-384": ec.generate_private_key(ec.SECP384R1()),
    "secp256k1": ec.generate_private_key(ec.SECP256K1()),
    "Ed448": ed448.Ed448PrivateKey.generate(),
    "X25519": x25519.X25519PrivateKey.generate(),
}

UNKNOWN_TYPE = "-----BEGIN PUBLIC KEY-----\nMAowBAYCKgMDAgAA\n-----END PUBLIC KEY-----\n"


def public_pem(private: Any) -> str:
    pem: bytes = private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return pem.decode()


def private_pem(private: Any) -> str:
    pem: bytes = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return pem.decode()


def refusal(make_settings: MakeSettings, **values: Any) -> str:
    with pytest.raises(OperatorError) as caught:
        keys.from_settings(make_settings(**values))
    return caught.value.message


def verify(make_settings: MakeSettings, token: str, **values: Any) -> str:
    settings = make_settings(**values)
    return asyncio.run(TokenVerifier(issuers.from_settings(settings), settings.token_cache_size).verify(token)).subject


# --- A secret


@pytest.mark.parametrize("secret", ["", "short", "x" * 31])
def test_a_secret_of_less_than_32_bytes_stops_the_start(
    make_settings: MakeSettings, tmp_path: Path, secret: str
) -> None:
    expected = "expected a secret of at least 32 bytes for HS256"
    assert refusal(make_settings, token_key=secret) == f"ISOLA_TOKEN_KEY: {expected}"
    file = tmp_path / "secret"
    file.write_text(secret)
    assert refusal(make_settings, token_key_file=file) == f"ISOLA_TOKEN_KEY_FILE: {expected}"


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_a_secret_file_may_end_with_a_line_break(make_settings: MakeSettings, tmp_path: Path, end: str) -> None:
    file = tmp_path / "secret"
    file.write_bytes(f"{SECRET}{end}".encode())
    assert verify(make_settings, hs256(payload()), token_key_file=file) == "ada"


@pytest.mark.parametrize("algorithm", PRIVATE)
def test_a_public_key_is_refused_as_a_secret(make_settings: MakeSettings, algorithm: str) -> None:
    message = refusal(make_settings, token_key=public_pem(PRIVATE[algorithm]))
    assert message == "ISOLA_TOKEN_KEY: expected a secret, as ISOLA_TOKEN_ALGORITHM says HS256"


# --- A public key


@pytest.mark.parametrize("algorithm", PRIVATE)
def test_a_public_key_verifies_tokens_of_its_algorithm(
    make_settings: MakeSettings, tmp_path: Path, algorithm: str
) -> None:
    token = jwt.encode(payload(), PRIVATE[algorithm], algorithm)
    pem = public_pem(PRIVATE[algorithm])
    file = tmp_path / "key.pem"
    file.write_text(pem)
    assert verify(make_settings, token, token_algorithm=algorithm, token_key=pem) == "ada"
    assert verify(make_settings, token, token_algorithm=algorithm, token_key_file=file) == "ada"


@pytest.mark.parametrize("algorithm", PRIVATE)
@pytest.mark.parametrize("trim", [str, str.strip, lambda pem: "".join(pem.splitlines()[1:-1])])
def test_a_public_key_used_as_a_secret_is_refused(make_settings: MakeSettings, algorithm: str, trim: Any) -> None:
    pem = public_pem(PRIVATE[algorithm])
    confused = hs256(payload(), secret=trim(pem))
    with pytest.raises(Unauthenticated):
        verify(make_settings, confused, token_algorithm=algorithm, token_key=pem)


@pytest.mark.parametrize(
    ("algorithm", "other"),
    [("RS256", "RS384"), ("RS256", "RS512"), ("RS256", "PS256")],
)
def test_another_algorithm_of_the_same_key_is_refused(make_settings: MakeSettings, algorithm: str, other: str) -> None:
    token = jwt.encode(payload(), PRIVATE[algorithm], other)
    with pytest.raises(Unauthenticated):
        verify(make_settings, token, token_algorithm=algorithm, token_key=public_pem(PRIVATE[algorithm]))


def test_another_key_of_the_same_type_is_refused(make_settings: MakeSettings) -> None:
    token = jwt.encode(payload(), ed25519.Ed25519PrivateKey.generate(), "EdDSA")
    with pytest.raises(Unauthenticated):
        verify(make_settings, token, token_algorithm="EdDSA", token_key=public_pem(PRIVATE["EdDSA"]))


@pytest.mark.parametrize("signature", ["A" * 86, "A" * 43, "_" * 86])
def test_a_degenerate_signature_is_refused(make_settings: MakeSettings, signature: str) -> None:
    for algorithm, private in PRIVATE.items():
        signed = jwt.encode(payload(), private, algorithm).rpartition(".")[0]
        with pytest.raises(Unauthenticated):
            verify(make_settings, f"{signed}.{signature}", token_algorithm=algorithm, token_key=public_pem(private))


@pytest.mark.parametrize("algorithm", PRIVATE)
@pytest.mark.parametrize("kind", [*PRIVATE, *UNSUITABLE])
def test_a_key_of_another_type_stops_the_start(make_settings: MakeSettings, algorithm: str, kind: str) -> None:
    if kind != algorithm:
        pem = public_pem((PRIVATE | UNSUITABLE)[kind])
        message = refusal(make_settings, token_algorithm=algorithm, token_key=pem)
        assert message.startswith("ISOLA_TOKEN_KEY: expected ")
        assert message.endswith(" in PEM, as ISOLA_TOKEN_ALGORITHM says")


@pytest.mark.parametrize("algorithm", PRIVATE)
@pytest.mark.parametrize(
    "content", ["", "x" * 64, "-----BEGIN PUBLIC KEY-----\ncanary\n-----END PUBLIC KEY-----\n", UNKNOWN_TYPE]
)
def test_a_malformed_key_stops_the_start(make_settings: MakeSettings, algorithm: str, content: str) -> None:
    message = refusal(make_settings, token_algorithm=algorithm, token_key=content)
    assert message.startswith("ISOLA_TOKEN_KEY: expected ")
    assert "canary" not in message


@pytest.mark.parametrize("algorithm", PRIVATE)
def test_a_private_key_is_refused(make_settings: MakeSettings, algorithm: str) -> None:
    pem = private_pem(PRIVATE[algorithm])
    assert refusal(make_settings, token_algorithm=algorithm, token_key=pem).startswith("ISOLA_TOKEN_KEY: expected ")


# --- Sources


def test_an_unreadable_key_file_stops_the_start(make_settings: MakeSettings, tmp_path: Path) -> None:
    for file in (tmp_path / "missing", tmp_path, Path(), tmp_path / "missing" / "deeper"):
        assert refusal(make_settings, token_key_file=file).startswith("ISOLA_TOKEN_KEY_FILE: the key cannot be read: ")


SOURCES = {"token_key": SECRET, "token_key_file": "/key", "token_jwks_url": "https://login.example/keys"}


@pytest.mark.parametrize("left_out", [*SOURCES, None])
def test_more_than_one_source_stops_the_start(make_settings: MakeSettings, left_out: str | None) -> None:
    values = {name: value for name, value in SOURCES.items() if name != left_out}
    message = refusal(make_settings, **values)
    assert all(f"ISOLA_{name.upper()}" in message for name in values)
    assert SECRET not in message


@pytest.mark.parametrize(
    "url",
    [
        "",
        "login.example/keys",
        "http://login.example/keys",
        "http://127.0.0.1.login.example/keys",
        "http://localhost.login.example/keys",
        "http://127.0.0.1@login.example/keys",
        "http://127.0.0.1\\@login.example/keys",
        "http://0.0.0.0/keys",
        "http://10.0.0.1/keys",
        "https:///keys",
        "https://user:canary@login.example/keys",
        "https://login.example:canary/keys",
        "https://login.example:0/keys",
        "https://[canary/keys",
        "file:///etc/passwd",
        "ftp://login.example/keys",
        "data:application/json,{}",
    ],
)
def test_keys_are_fetched_over_https_or_from_loopback(make_settings: MakeSettings, url: str) -> None:
    message = refusal(make_settings, token_jwks_url=url)
    assert message == "ISOLA_TOKEN_JWKS_URL: expected https://host/path, or http on a loopback interface"


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.1:8080", "[::1]:80", "localhost"])
def test_loopback_needs_no_https(make_settings: MakeSettings, host: str) -> None:
    assert keys.from_settings(make_settings(token_jwks_url=f"http://{host}/keys")).algorithms == {
        "RS256",
        "ES256",
        "EdDSA",
    }


def test_published_keys_are_never_secrets(make_settings: MakeSettings) -> None:
    url = SOURCES["token_jwks_url"]
    assert refusal(make_settings, token_jwks_url=url, token_algorithm="HS256").startswith("ISOLA_TOKEN_ALGORITHM: ")
    only = keys.from_settings(make_settings(token_jwks_url=url, token_algorithm="ES256"))
    assert only.algorithms == {"ES256"}


# --- The development key


def test_a_development_key_is_created_once_and_readable_only_by_its_owner(
    make_settings: MakeSettings, tmp_path: Path
) -> None:
    settings = make_settings()
    first = keys.development_key(settings)
    file = tmp_path / "data" / "development.key"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert len(bytes.fromhex(file.read_text())) == 32
    assert keys.development_key(settings).key == first.key == file.read_bytes()
    assert list(file.parent.iterdir()) == [file]


def test_processes_that_start_together_agree_on_the_development_key(make_settings: MakeSettings) -> None:
    settings = make_settings()
    with ThreadPoolExecutor(16) as pool:
        made = list(pool.map(lambda _: keys.development_key(settings).key, range(64)))
    assert len(set(made)) == 1


def test_production_has_no_development_key(make_settings: MakeSettings, tmp_path: Path) -> None:
    assert refusal(make_settings, production=True).startswith("ISOLA_PRODUCTION is set")
    assert not (tmp_path / "data").exists()


def test_an_algorithm_without_its_key_stops_the_start(make_settings: MakeSettings) -> None:
    assert refusal(make_settings, token_algorithm="ES256").startswith("ISOLA_TOKEN_ALGORITHM is ES256")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o666])
def test_a_development_key_that_others_can_read_stops_the_start(
    make_settings: MakeSettings, tmp_path: Path, mode: int
) -> None:
    keys.development_key(make_settings())
    (tmp_path / "data" / "development.key").chmod(mode)
    assert "expected mode 0600" in refusal(make_settings)


@pytest.mark.parametrize("content", ["", "short"])
def test_a_development_key_that_was_cut_short_stops_the_start(
    make_settings: MakeSettings, tmp_path: Path, content: str
) -> None:
    keys.development_key(make_settings())
    (tmp_path / "data" / "development.key").write_text(content)
    assert refusal(make_settings).startswith("ISOLA_DATA_DIR (")


def test_a_data_directory_that_cannot_hold_a_key_stops_the_start(make_settings: MakeSettings, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert refusal(make_settings, data_dir=tmp_path / "file").startswith("ISOLA_DATA_DIR: no development key at ")
    (tmp_path / "directory" / "development.key").mkdir(parents=True, mode=0o700)
    assert refusal(make_settings, data_dir=tmp_path / "directory").startswith("ISOLA_DATA_DIR: ")
    (tmp_path / "dangling").mkdir()
    (tmp_path / "dangling" / "development.key").symlink_to(tmp_path / "nowhere")
    assert refusal(make_settings, data_dir=tmp_path / "dangling").startswith("ISOLA_DATA_DIR: ")
