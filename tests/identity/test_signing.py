"""The access tokens that this server signs itself."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat

from isola.errors import OperatorError, Unauthenticated
from isola.identity import issuers, signing
from isola.identity.claims import Expired
from isola.identity.signing import Signer
from isola.identity.tokens import TokenVerifier
from isola.settings import Settings
from tests.identity.conftest import SECRET, MakeSettings

TENANT, SESSION, TOKEN = (UUID(int=number) for number in (1, 2, 3))
PrivateKey = ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
KEYS: dict[str, PrivateKey] = {
    "EdDSA": ed25519.Ed25519PrivateKey.generate(),
    "ES256": ec.generate_private_key(ec.SECP256R1()),
}


def written(path: Path, key: PrivateKey) -> Path:
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return path


def token(signer: Signer, subject: str = "iss:google:1234", *, ttl: float = 600) -> str:
    now = datetime.now(UTC)
    return signer.access_token(
        tenant=TENANT,
        subject=subject,
        session=SESSION,
        token=TOKEN,
        issued_at=now,
        expires_at=now + timedelta(seconds=ttl),
    )


def signer_of(settings: Settings) -> Signer:
    signer = signing.from_settings(settings)
    assert signer is not None
    return signer


def verifier(settings: Settings, *signers: Signer) -> TokenVerifier:
    own = {signer.name: signer.issuer for signer in signers}
    return TokenVerifier({**issuers.from_settings(settings), **own}, 100)


@pytest.mark.parametrize("algorithm", KEYS)
async def test_a_token_is_valid_on_every_server_with_the_key(
    make_settings: MakeSettings, tmp_path: Path, algorithm: str
) -> None:
    file = written(tmp_path / "session.pem", KEYS[algorithm])
    settings = make_settings(session_key_file=file, token_key=SECRET, production=True)
    signer, same = (signer_of(settings) for _ in range(2))

    claims = await verifier(settings, same).verify(token(signer))

    assert (claims.subject, claims.tenant) == ("iss:google:1234", str(TENANT))
    assert (claims.session_id, claims.token_id, claims.issuer) == (str(SESSION), str(TOKEN), "isola/sessions")
    assert claims.role is None
    header = jwt.get_unverified_header(token(signer))
    assert (header["alg"], header["typ"], len(header["kid"])) == (algorithm, "at+jwt", 16)


async def test_a_token_of_another_key_is_refused(make_settings: MakeSettings, tmp_path: Path) -> None:
    one = make_settings(session_key_file=written(tmp_path / "one.pem", KEYS["EdDSA"]))
    two = make_settings(session_key_file=written(tmp_path / "two.pem", ed25519.Ed25519PrivateKey.generate()))
    with pytest.raises(Unauthenticated):
        await verifier(two, signer_of(two)).verify(token(signer_of(one)))
    with pytest.raises(Unauthenticated):
        await verifier(two).verify(token(signer_of(two)))


async def test_a_token_expires(make_settings: MakeSettings) -> None:
    settings = make_settings()
    signer = signer_of(settings)
    with pytest.raises(Expired):
        await verifier(settings, signer).verify(token(signer, ttl=-signing.LEEWAY - 1))


def test_the_development_key_is_used_only_in_development(make_settings: MakeSettings) -> None:
    assert signer_of(make_settings()).algorithm == "HS256"
    assert signing.from_settings(make_settings(production=True, token_key=SECRET)) is None
    assert signing.from_settings(make_settings(token_key=SECRET)) is None


def test_a_key_that_cannot_be_used_is_refused(make_settings: MakeSettings, tmp_path: Path) -> None:
    weak = written(tmp_path / "rsa.pem", rsa.generate_private_key(public_exponent=65537, key_size=2048))
    curve = written(tmp_path / "curve.pem", ec.generate_private_key(ec.SECP384R1()))
    text = tmp_path / "text.pem"
    text.write_text("nonsense")
    locked = tmp_path / "locked.pem"
    locked.write_bytes(
        KEYS["EdDSA"].private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"password"))
    )
    for file in (weak, curve, text, locked, tmp_path / "nothing"):
        with pytest.raises(OperatorError, match="ISOLA_SESSION_KEY_FILE"):
            signing.from_settings(make_settings(session_key_file=file))


def test_no_two_issuers_have_one_name(make_settings: MakeSettings) -> None:
    with pytest.raises(OperatorError, match="ISOLA_SESSION_ISSUER"):
        signing.from_settings(make_settings(session_issuer="isola"))
