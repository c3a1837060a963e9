"""A reused slug: tokens of its former tenant are no longer valid."""

import asyncio
import time

import jwt
import pytest

from isola.database.transactions import Database
from isola.identity.keys import development_key
from isola.platform import provisioning
from isola.platform.tenants import Tenant
from isola.testing.fixtures import Copy
from isola.testing.served import Api, Client
from isola_strategies.base import Strategy
from tests.http.people import counted

WHO = "{ viewer { tenant { name } user { id } } }"


@pytest.fixture
async def former(owner: Database, copy: Copy, strategy: Strategy) -> Tenant:
    return await provisioning.create(owner, copy.strategies, slug="reuse", name="Former", strategy=strategy.name)


@pytest.fixture
async def reused(owner: Database, copy: Copy, strategy: Strategy, former: Tenant, old: Client) -> Tenant:
    assert (await old.ask(WHO)).data["viewer"]["tenant"]["name"] == "Former"
    await provisioning.drop(owner, copy.strategies, former.slug, notice=0)
    return await provisioning.create(
        owner, copy.strategies, slug="reuse", name="Heir", strategy=strategy.name, reuse_slug=True
    )


@pytest.fixture
def old(api: Api, former: Tenant) -> Client:
    """A client with a token that was issued for the former tenant."""
    return api.client(former.slug)


def signed(api: Api, client: Client, tenant: str, **times: float) -> Client:
    """The same client with a token for a tenant, with these time claims."""
    payload = {"iss": api.settings.token_issuer, "aud": api.settings.token_audience, "sub": "ada", "tenant": tenant}
    token = jwt.encode({**payload, "exp": time.time() + 3600, **times}, development_key(api.settings))
    return client.saying(f"Bearer {token}")


async def eventually(client: Client, code: str) -> None:
    """Wait for this error: a server may cache the tenant of a slug for seconds."""
    for _ in range(100):
        answer = await client.ask(WHO)
        if "errors" in answer.body and answer.code == code:
            return
        await asyncio.sleep(0.1)
    raise AssertionError(answer.body)


async def test_a_token_that_was_issued_for_the_former_tenant_is_refused(
    api: Api, old: Client, reused: Tenant, former: Tenant
) -> None:
    await eventually(old, "UNAUTHENTICATED")
    # The id of the former tenant always means the deleted tenant.
    assert (await signed(api, old, str(former.id), iat=time.time()).ask(WHO)).code == "TENANT_DELETED"
    assert (await signed(api, old, former.slug).ask(WHO)).code == "UNAUTHENTICATED"
    new = await signed(api, old, reused.slug, iat=time.time()).ask(WHO)
    assert new.data["viewer"]["tenant"]["name"] == "Heir"
    assert (await signed(api, old, str(reused.id)).ask(WHO)).data["viewer"]["tenant"]["name"] == "Heir"


async def test_a_token_that_is_older_than_its_tenant_is_refused(api: Api, old: Client, former: Tenant) -> None:
    assert (await signed(api, old, former.slug, iat=time.time() - 600).ask(WHO)).code == "UNAUTHENTICATED"
    await counted(api, former.slug, {"former_tenant": 1})
    assert (await signed(api, old, former.slug, iat=time.time() - 5).ask(WHO)).data
    # If no other tenant has had the slug, a token needs no issue time.
    assert (await signed(api, old, former.slug).ask(WHO)).data
