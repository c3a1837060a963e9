"""A tenant is dropped while it is in use."""

import asyncio
from collections.abc import Callable

from isola.database.transactions import Database
from isola.platform import provisioning
from isola.testing.fixtures import Copy
from isola.testing.patience import PATIENCE
from isola.testing.served import Api, Client, make_tenant
from isola_strategies.base import Strategy

NOTICE = 2.0
CLIENTS = 4
REFUSED = 403, "TENANT_DELETED"


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not holds():  # noqa: ASYNC110  the clients of the test are waited for
            await asyncio.sleep(0.01)


async def test_a_tenant_dropped_under_load_ends_cleanly_and_its_slug_starts_empty(
    copy: Copy, api: Api, owner: Database, strategy: Strategy, bob: Client
) -> None:
    await make_tenant(copy, "doomed", strategy.name)
    doomed = api.client("doomed")
    await doomed.create("old")
    await bob.create("kept")
    told: list[tuple[int, str | None]] = []
    ended = asyncio.Event()

    async def load(number: int) -> None:
        while not ended.is_set():
            operation, values = ("Resources", {}) if number % 2 else ("CreateResource", {"input": {"name": "more"}})
            answer = await doomed.run(operation, **values)
            errors = answer.body.get("errors", [{"extensions": {"code": None}}])
            told.append((answer.status, errors[0]["extensions"]["code"]))

    async with asyncio.TaskGroup() as clients:
        for number in range(CLIENTS):
            clients.create_task(load(number))
        await until(lambda: len(told) > CLIENTS)
        await provisioning.drop(owner, copy.strategies, "doomed", notice=NOTICE)
        await until(lambda: told[-CLIENTS:] == [REFUSED] * CLIENTS)
        ended.set()

    # Served until the change reached the server, refused afterwards. In between, the database already rejects writes.
    turn = told.index(REFUSED)
    assert turn > 0
    assert {(200, None)} <= set(told[:turn]) <= {(200, None), (200, "FORBIDDEN")}
    under_way = [answer for answer in told[turn:] if answer != REFUSED]
    assert len(under_way) < CLIENTS
    assert set(under_way) <= {(200, None), (200, "FORBIDDEN")}

    await provisioning.create(
        owner, copy.strategies, slug="doomed", name="Heir", strategy=strategy.name, reuse_slug=True
    )
    # With a new token: older ones are not valid for the new tenant, and issue times are in seconds.
    await asyncio.sleep(1 + api.settings.directory_ttl)
    assert (await api.client("doomed").run("Resources")).data["resources"]["nodes"] == []
    assert (await bob.run("Resources")).data["resources"]["nodes"][0]["name"] == "kept"
