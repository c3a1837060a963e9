"""Many tenants at once over few connections: no answer contains another tenant's data."""

import asyncio
import json
import random

from isola.settings import Settings
from isola.testing.fixtures import STRATEGIES, Copy
from isola.testing.served import Client, make_tenant, serving

TENANTS_A_STRATEGY = 4
CONNECTIONS = 3
AT_ONCE = 40
REQUESTS = 500
ROWS = 3


def marker(tenant: str) -> str:
    return f"canary<{tenant}>"


async def plant(client: Client) -> str:
    """Write the tenant's marker into every text field; return the id of a resource."""
    canary = marker(client.tenant)
    resource = ""
    for number in range(ROWS):
        resource = await client.create(f"{canary}{number}", data={"note": canary}, kind=canary)
    made = await client.ask(
        """mutation ($canary: String!, $resource: ID!) {
            createOrganization(input: {name: $canary}) { organization { id } }
            createSpan(input: {title: $canary, payload: [$canary], resourceId: $resource}) { span { id } }
        }""",
        {"canary": canary, "resource": resource},
    )
    assert made.data
    return resource


async def test_no_response_holds_a_foreign_canary(copy: Copy, settings: Settings) -> None:
    slugs = [f"{strategy}-{number}" for number in range(TENANTS_A_STRATEGY) for strategy in STRATEGIES]
    for slug in slugs:
        await make_tenant(copy, slug, slug.partition("-")[0])
    few = settings.model_copy(update={"pool_size": CONNECTIONS, "pool_wait": 20})
    async with serving(copy, few) as api:
        clients = [api.client(slug, f"user of {marker(slug)}") for slug in slugs]
        targets = dict(zip(slugs, await asyncio.gather(*map(plant, clients)), strict=True))
        chance = random.Random(1)  # noqa: S311

        room = asyncio.Semaphore(AT_ONCE)

        async def request(number: int) -> tuple[str, str]:
            client = clients[number % len(clients)]
            change = {"id": targets[chance.choice(slugs)], "kind": marker(client.tenant)}
            async with room:
                match chance.randrange(6):
                    case 0:
                        answer = await client.run("ResourcesWithSpans")
                    case 1:
                        answer = await client.run("Nodes", ids=list(targets.values()))
                    case 2:
                        answer = await client.run("Viewer")
                    case 3:
                        answer = await client.run("UpdateResource", input=change)
                    case 4:
                        answer = await client.run("CreateResource", input={"name": ""})
                    case _:
                        answer = await client.run("Organizations")
            assert answer.status == 200, answer.response.text
            return client.tenant, json.dumps(answer.body, ensure_ascii=False)

        seen = await asyncio.gather(*map(request, range(REQUESTS)))

        for tenant, text in seen:
            assert not [slug for slug in slugs if slug != tenant and marker(slug) in text]
        # Most answers do contain their own marker, so the search above is able to find markers.
        assert sum(marker(tenant) in text for tenant, text in seen) > REQUESTS / 2
        for client in clients:
            rows = str(await api.content(client.tenant))
            assert marker(client.tenant) in rows
            assert not [slug for slug in slugs if slug != client.tenant and marker(slug) in rows]
