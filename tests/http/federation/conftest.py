"""Two installations, each with a database and a server of its own, whose tenants have the same ids."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from isola.identity import federation
from isola.identity.federation import Installation
from isola.settings import Settings
from isola.testing.fixtures import DEFAULTS, TRIED, Cluster, Copy, copied
from isola.testing.served import Answer, Api, Client, serving

OWNERS, PARTNERS = "https://owner.example", "https://partner.example/isola"
ADD_PARTNER = """mutation ($input: AddRemotePartnerInput!) { addRemotePartner(input: $input) {
    remotePartner { id slug name installation tenantId key } } }"""
ADD_OWNER = "mutation ($input: AddRemoteOwnerInput!) { addRemoteOwner(input: $input) { remoteOwner { id } } }"
CREATE_TOKEN = """mutation ($id: ID!) { createRemoteToken(input: {remoteOwnerId: $id}) { token endpoint expiresAt } }"""
READ = "{ sharedResources { nodes { name kind grantedFields share { owner { slug } note } } } }"


@dataclass(frozen=True, slots=True)
class Sides:
    """The two installations, and an administrator of a tenant of each. ``installation`` is the partner's."""

    owners: Api
    partners: Api
    owners_copy: Copy
    olga: Client
    pia: Client
    installation: Installation
    partner_id: UUID
    """The id of the tenant of ``pia``."""

    def described(self, **changes: Any) -> dict[str, Any]:
        """What the owner has to know of the partner."""
        described = {
            "name": "Pia's",
            "installation": PARTNERS,
            "tenantId": f"ten_{self.partner_id}",
            "key": self.installation.jwk,
        }
        return {**described, **changes}

    async def agree(self, **changes: Any) -> "Agreed":
        """A new partnership, known on both sides."""
        # Another tenant there each time: the partnerships of the tests do not depend on each other.
        described = self.described(**{"tenantId": f"ten_{uuid4()}", **changes})
        made = (await self.olga.ask(ADD_PARTNER, {"input": described})).data["addRemotePartner"]["remotePartner"]
        return Agreed(self, made["id"], made["slug"], UUID(described["tenantId"][4:]))

    def read(self, token: str, document: str = READ) -> Any:
        """Send a query to the owner's installation by a token."""
        return self.olga.saying(f"Bearer {token}").ask(document)


@dataclass(frozen=True, slots=True)
class Agreed:
    sides: Sides
    partnership: str
    slug: str
    subject: UUID

    def token(self, **changes: Any) -> str:
        """A token as the partner's installation signs it."""
        now = datetime.now(UTC)
        stated = {
            "subject": self.subject,
            "installation": OWNERS,
            "partnership": UUID(self.partnership[4:]),
            "token": uuid4(),
            "issued_at": now,
            "expires_at": now + timedelta(minutes=5),
        }
        return self.sides.installation.token(**{**stated, **changes})

    def payload(self) -> Mapping[str, Any]:
        now = datetime.now(UTC).timestamp()
        audience = federation.audience(OWNERS, UUID(self.partnership[4:]))
        return {
            "iss": PARTNERS,
            "sub": str(self.subject),
            "aud": audience,
            "jti": str(uuid4()),
            "iat": int(now),
            "exp": int(now) + 300,
        }

    async def read(self, document: str = READ) -> Answer:
        answer: Answer = await self.sides.read(self.token(), document)
        return answer

    async def share(self, resource: str, **more: Any) -> str:
        asked = {"resourceId": resource, "grantee": self.slug, **more}
        made = await self.sides.olga.run("ShareResource", input=asked)
        return str(made.data["shareResource"]["share"]["id"])


def write_key(path: Path) -> Path:
    key = Ed25519PrivateKey.generate()
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return path


def _settings(directory: Path, installation: str) -> Settings:
    key = write_key(directory / "federation.pem")
    named = {"data_dir": directory, "directory_ttl": 0.2, "installation": installation, "federation_key_file": key}
    return DEFAULTS.model_copy(update=named)


@pytest.fixture(scope="module")
async def installations(
    cluster: Cluster, server: asyncpg.Connection, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[tuple[Api, Api, Copy]]:
    ours = _settings(tmp_path_factory.mktemp("owners"), OWNERS)
    theirs = _settings(tmp_path_factory.mktemp("partners"), PARTNERS)
    async with (
        copied(cluster, server) as one,
        copied(cluster, server) as other,
        serving(one, ours) as owners,
        serving(other, theirs) as partners,
    ):
        yield owners, partners, one


@pytest.fixture(params=TRIED)
def sides(installations: tuple[Api, Api, Copy], request: pytest.FixtureRequest, cluster: Cluster) -> Sides:
    """The owner is under each strategy in turn; its partner under the same, on the other installation."""
    owners, partners, copy = installations
    installation = federation.from_settings(partners.settings)
    assert installation is not None
    slug = f"{request.param}-b"
    pia = partners.client(slug, "pia")
    olga = owners.client(f"{request.param}-a", "olga")
    return Sides(owners, partners, copy, olga, pia, installation, cluster.tenants[slug].id)
