"""A tenant is moved while it is in use."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import pytest

from isola.database.transactions import Database
from isola.platform import audit, moves, provisioning
from isola.testing.consent import make_partners
from isola.testing.fixtures import Copy
from isola.testing.patience import PATIENCE
from isola.testing.served import Answer, Api, Client, make_tenant
from isola_strategies.base import Strategy

CLIENTS = 3
READ = "{ viewer { tenant { slug } } resources(first: 1) { totalCount } }"
KEY = 'mutation { createApiKey(input: {name: "robot", permissions: ["resource:read"]}) { key } }'


@pytest.fixture
async def mover(copy: Copy, api: Api, strategy: Strategy) -> Client:
    """An administrator of a tenant that a test moves."""
    await make_tenant(copy, "mover", strategy.name)
    return api.client("mover")


def refusal_code(answer: Answer) -> str | None:
    """The code of an answer's first error."""
    errors = answer.body.get("errors")
    return None if errors is None else str(errors[0]["extensions"]["code"])


async def until(done: Callable[[], Awaitable[Any]]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not await done():  # noqa: ASYNC110  nobody tells of it
            await asyncio.sleep(0.02)


@dataclass
class Load:
    """Clients of a tenant that write and read, check every answer, and record acknowledged and rejected writes."""

    client: Client
    acknowledged: list[str] = field(default_factory=list)
    refused: list[Answer] = field(default_factory=list)
    ended: bool = False
    numbers: "count[int]" = field(default_factory=count)

    async def write(self) -> None:
        while not self.ended:
            name = f"number {next(self.numbers)}"
            answer = await self.client.run("CreateResource", input={"name": name})
            if refusal_code(answer) is None:
                self.acknowledged.append(name)
            else:
                self.refused.append(answer)

    async def read(self) -> None:
        while not self.ended:
            at_least = len(self.acknowledged)
            answer = await self.client.ask(READ)
            if refusal_code(answer) is None:
                assert answer.data["viewer"]["tenant"] == {"slug": self.client.tenant}
                assert answer.data["resources"]["totalCount"] >= at_least
            else:
                self.refused.append(answer)

    async def goes_on(self) -> None:
        """Wait until some more writes are acknowledged."""
        before = len(self.acknowledged)

        async def more() -> bool:
            return len(self.acknowledged) >= before + 2 * CLIENTS

        await until(more)


@asynccontextmanager
async def under_load(client: Client) -> AsyncIterator[Load]:
    load = Load(client)
    async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as clients:
        for _ in range(CLIENTS):
            clients.create_task(load.write())
            clients.create_task(load.read())
        await load.goes_on()
        yield load
        await load.goes_on()
        load.ended = True


async def test_under_load_no_write_is_lost_and_no_answer_wrong(
    copy: Copy, api: Api, owner: Database, other: Strategy, mover: Client, bob: Client
) -> None:
    kept = await bob.create("kept")
    async with under_load(bob) as beside, under_load(mover) as load:
        moved = await moves.move(owner, copy.strategies, "mover", to=other.name)

    assert {refusal_code(answer) for answer in load.refused} <= {"UNAVAILABLE"}
    assert {answer.status for answer in load.refused} <= {200, 503}
    assert {answer.response.headers.get("retry-after") for answer in load.refused if answer.status == 503} <= {"1"}
    assert beside.refused == []
    # Acknowledged writes are there, and rejected ones are not.
    found = sorted(row["name"] for row in (await api.content("mover"))["resources"])
    assert found == sorted(load.acknowledged)
    assert kept in [f"res_{row['id']}" for row in (await api.content(bob.tenant))["resources"]]
    assert moved == await provisioning.named(api.control, "mover")
    assert moved.strategy == other.name
    assert (await audit.verify(api.control, api.tenants, moved)).broken is None


async def test_requests_during_a_move_are_told_to_retry(owner: Database, mover: Client, bob: Client) -> None:
    robot = mover.saying(f"Bearer {(await mover.ask(KEY)).data['createApiKey']['key']}")
    async with owner.unbound() as work:
        await work.script("UPDATE control.tenants SET moving_to = 'elsewhere' WHERE slug = 'mover'")

    async def heard() -> bool:
        return (await mover.ask(READ)).status == 503

    await until(heard)
    for client in (mover, robot):
        answer = await client.ask(READ)
        assert (answer.status, answer.code) == (503, "UNAVAILABLE")
        assert answer.response.headers["retry-after"] == "1"
        assert "is being moved" in answer.error["message"]
    assert (await bob.ask(READ)).status == 200


async def test_credentials_and_cursors_of_clients_stay_valid_after_a_move(
    copy: Copy, owner: Database, other: Strategy, mover: Client, bob: Client
) -> None:
    await make_partners(owner)
    ids = [await mover.create(f"map {number}") for number in range(3)]
    page = "query ($after: String) { resources(first: 2, after: $after) { nodes { id } pageInfo { endCursor } } }"
    first = (await mover.ask(page)).data["resources"]
    key = (await mover.ask(KEY)).data["createApiKey"]["key"]
    await mover.run("ShareResource", input={"resourceId": ids[0], "grantee": bob.tenant})
    theirs = await bob.create("of bob")
    await bob.run("ShareResource", input={"resourceId": theirs, "grantee": mover.tenant})

    await moves.move(owner, copy.strategies, "mover", to=other.name)

    async def served() -> bool:
        return (await mover.ask(READ)).status == 200

    await until(served)
    rest = (await mover.ask(page, {"after": first["pageInfo"]["endCursor"]})).data["resources"]
    assert [node["id"] for node in first["nodes"] + rest["nodes"]] == ids
    assert (await mover.saying(f"Bearer {key}").ask(READ)).data["resources"]["totalCount"] == len(ids)
    shared = "{ sharedWithMe { nodes { resource { name } } } }"
    for client, wanted in ((bob, "map 0"), (mover, "of bob")):
        [node] = (await client.ask(shared)).data["sharedWithMe"]["nodes"]
        assert node["resource"]["name"] == wanted
