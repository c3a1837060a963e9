"""Tokens of partners on other installations that are refused."""

import asyncio
import hmac
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from isola.database.transactions import Database
from isola.errors import Conflict
from isola.identity import federation
from isola.platform import hierarchy, provisioning
from isola.testing.served import serving
from tests.http.federation.conftest import ADD_PARTNER, OWNERS, PARTNERS, READ, Agreed, Sides, write_key
from tests.identity.forging import encode

CHANGE_KEY = """mutation ($id: ID!, $key: JSON!) {
    changeRemotePartnerKey(input: {partnershipId: $id, key: $key}) { remotePartner { id } } }"""
REFUSED = ("UNAUTHENTICATED", "the token is not accepted here")


def changed(**changes: Any) -> Callable[[Agreed, Any], str]:
    """The payload with changes, correctly signed. A number is added to the claim; ``...`` drops it."""

    def make(agreed: Agreed, key: Any) -> str:
        claims = dict(agreed.payload())
        for name, value in changes.items():
            claims[name] = claims[name] + value if isinstance(value, int) and name in {"iat", "exp"} else value
        claims = {name: value for name, value in claims.items() if value is not ...}
        return jwt.encode(claims, key, "EdDSA", headers={"typ": federation.TYPE})

    return make


def with_alg_none(agreed: Agreed, _: Any) -> str:
    return f"{encode({'alg': 'none', 'typ': federation.TYPE})}.{encode(agreed.payload())}.AAAA"


def with_the_public_key_as_secret(agreed: Agreed, key: Any) -> str:
    pem = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    signed = f"{encode({'alg': 'HS256', 'typ': federation.TYPE})}.{encode(agreed.payload())}"
    return f"{signed}.{encode(hmac.digest(pem, signed.encode(), 'sha256'))}"


def with_another_key(agreed: Agreed, _: Any) -> str:
    return changed()(agreed, Ed25519PrivateKey.generate())


def as_an_ordinary_token(agreed: Agreed, key: Any) -> str:
    return jwt.encode(dict(agreed.payload()), key, "EdDSA")


FORGED: dict[str, Callable[[Agreed, Any], str]] = {
    "of another issuer": changed(iss="https://else.example"),
    "of no issuer": changed(iss=...),
    "of another tenant there": changed(sub=str(uuid4())),
    "for another installation": changed(aud=f"https://else.example/partnerships/prt_{uuid4()}"),
    "for no partnership": changed(aud=OWNERS),
    "for an unknown partnership": changed(aud=federation.audience(OWNERS, uuid4())),
    "without an id": changed(jti=...),
    "with an id that is none": changed(jti="x"),
    "expired": changed(iat=-400, exp=-340),
    "of the future": changed(iat=1000, exp=1000),
    "that lives too long": changed(exp=1),
    "that does not say since when": changed(iat=...),
    "that ends before it begins": changed(exp=-301),
    "with no algorithm": with_alg_none,
    "signed with the public key": with_the_public_key_as_secret,
    "signed with another key": with_another_key,
}


@pytest.fixture
def key(sides: Sides) -> Any:
    """The private key of the partner's installation."""
    file = sides.partners.settings.federation_key_file
    assert file is not None
    return load_pem_private_key(file.read_bytes(), None)


async def test_a_forged_token_is_refused_and_all_are_refused_alike(sides: Sides, key: Any) -> None:
    agreed = await sides.agree()

    for what, forge in FORGED.items():
        answer = await sides.read(forge(agreed, key))
        assert (answer.status, answer.code, answer.error["message"]) == (401, *REFUSED), what
    assert (await sides.read(as_an_ordinary_token(agreed, key))).code == "UNAUTHENTICATED"
    assert (await sides.read(changed()(agreed, key))).data == {"sharedResources": {"nodes": []}}


async def test_a_token_for_another_partnership_is_refused(sides: Sides, key: Any) -> None:
    one, other = await sides.agree(), await sides.agree()

    crossed = changed(aud=other.payload()["aud"])(one, key)

    assert (await sides.read(crossed)).code == "UNAUTHENTICATED"


async def test_a_token_for_another_installation_is_refused_though_it_has_the_same_partnership(
    sides: Sides, key: Any
) -> None:
    agreed = await sides.agree()
    elsewhere = changed(aud=agreed.payload()["aud"].replace(OWNERS, PARTNERS))(agreed, key)

    assert (await sides.read(elsewhere)).code == "UNAUTHENTICATED"


async def test_of_a_hundred_requests_with_one_token_one_is_answered(sides: Sides) -> None:
    agreed = await sides.agree()
    token = agreed.token()

    answers = await asyncio.gather(*(sides.read(token) for _ in range(100)))

    assert sorted(answer.status for answer in answers) == [200, *[401] * 99]
    assert (await sides.read(token)).code == "UNAUTHENTICATED"


async def test_a_rotated_key_is_refused_until_it_is_pinned(sides: Sides, tmp_path: Path) -> None:
    agreed = await sides.agree()
    rotated = federation.from_settings(
        sides.partners.settings.model_copy(update={"federation_key_file": write_key(tmp_path / "new.pem")})
    )
    assert rotated is not None

    def token() -> str:
        now = datetime.now(UTC)
        return rotated.token(
            subject=agreed.subject,
            installation=OWNERS,
            partnership=UUID(agreed.partnership[4:]),
            token=uuid4(),
            issued_at=now,
            expires_at=now + timedelta(minutes=1),
        )

    assert (await sides.read(token())).code == "UNAUTHENTICATED"
    await sides.olga.ask(CHANGE_KEY, {"id": agreed.partnership, "key": rotated.jwk})
    assert (await sides.read(token())).data == {"sharedResources": {"nodes": []}}
    assert (await agreed.read()).code == "UNAUTHENTICATED"


async def test_nobody_else_gets_into_the_tenant_that_stands_for_a_partner(sides: Sides) -> None:
    agreed = await sides.agree()
    anybody = sides.owners.client(agreed.slug, "mallory")
    assert (await anybody.ask("{ viewer { permissions } }")).code == "UNAUTHENTICATED"
    named = {**sides.olga.headers, "x-tenant-id": agreed.slug}
    assert (await sides.olga.request("POST", headers=named, json={"query": READ})).code == "FORBIDDEN"

    control = sides.owners.control
    with pytest.raises(Conflict):
        await provisioning.named(control, agreed.slug)
    with pytest.raises(Conflict):
        await hierarchy.place(control, sides.olga.tenant, under=agreed.slug)
    assert (await agreed.read()).data == {"sharedResources": {"nodes": []}}
    await provisioning.suspend(control, agreed.slug)
    # The server notices within seconds; until then, the database refuses.
    for _ in range(600):
        answer = await agreed.read()
        assert answer.body.get("data") in (None, {"sharedResources": None})
        if answer.code == "TENANT_SUSPENDED":
            return
        await asyncio.sleep(0.05)
    raise AssertionError(answer.body)


async def test_what_stands_for_partners_is_erased_with_the_tenant(sides: Sides) -> None:
    copy, control = sides.owners_copy, sides.owners.control
    assert copy.where.owner
    slug = f"leaving-{uuid4().hex[:8]}"
    async with await Database.open(copy.where.owner, statement_timeout=60) as owner:
        strategy = (await provisioning.named(control, sides.olga.tenant)).strategy
        await provisioning.create(owner, copy.strategies, slug=slug, name="Leaving", strategy=strategy)
        leaving = sides.owners.client(slug, "lea")
        made = (await leaving.ask(ADD_PARTNER, {"input": sides.described()})).data["addRemotePartner"]["remotePartner"]

        await provisioning.drop(owner, copy.strategies, slug, notice=0)

        async with owner.unbound() as work:
            left = await work.texts(
                "SELECT t.status || coalesce(t.home, '') FROM control.tenants t WHERE slug = $1", made["slug"]
            )
            assert left == ["deleted"]
            assert (
                await work.value(
                    "SELECT count(*) FROM control.remote_partners WHERE owner_id <> ALL ("
                    "SELECT id FROM control.tenants WHERE status <> 'deleted')"
                )
                == 0
            )


async def test_an_installation_without_a_name_has_no_partners_elsewhere(sides: Sides) -> None:
    agreed = await sides.agree()
    unnamed = sides.owners.settings.model_copy(update={"installation": None, "federation_key_file": None})

    async with serving(sides.owners_copy, unnamed) as api:
        olga = api.client(sides.olga.tenant, "olga")
        assert (await olga.ask(ADD_PARTNER, {"input": sides.described()})).code == "FORBIDDEN"
        assert (await olga.saying(f"Bearer {agreed.token()}").ask(READ)).code == "UNAUTHENTICATED"
