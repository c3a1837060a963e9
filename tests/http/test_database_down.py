"""The database is down, slow or busy: a timely, clean error, and no restart of the server afterwards."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import asyncpg
import pytest

from isola.database import embedded
from isola.database.transactions import Database
from isola.platform import logins, migrations, provisioning
from isola.settings import Settings
from isola.testing.fixtures import DEFAULTS, FAST, STRATEGIES, Copy
from isola.testing.served import Api, Client, serving
from isola_strategies import registry
from isola_strategies.base import Strategy
from tests.http.listening import Ended, listening


class Stoppable:
    """A separate PostgreSQL for one test."""

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir
        self._held = ExitStack()

    def start(self) -> str:
        return self._held.enter_context(embedded.running(self._data_dir, FAST))

    def stop(self) -> None:
        self._held.close()


async def test_requests_are_refused_while_the_database_is_down_and_served_when_it_is_back(settings: Settings) -> None:
    with TemporaryDirectory(prefix="isola-test-") as directory:
        postgresql = Stoppable(Path(directory))
        where = logins.addresses(DEFAULTS, postgresql.start())
        try:
            strategies = registry.load(where.tenant_login)
            assert where.owner
            async with await Database.open(where.owner, size=2, statement_timeout=60) as owner:
                await migrations.migrate(owner, strategies, where)
                for name in strategies:
                    await provisioning.create(owner, strategies, slug=name, name=name, strategy=name)
            async with serving(Copy(where, strategies), settings) as api:
                clients = [api.client(name) for name in strategies]
                for client in clients:
                    await client.create("before")

                postgresql.stop()

                for client in (*clients, *(api.client(name, "somebody new") for name in strategies)):
                    for attempt in ("Resources", "Viewer"):
                        await _is_unavailable(client, attempt)
                    refused = await client.run("CreateResource", input={"name": "while it was down"})
                    assert refused.code == "UNAVAILABLE"
                    assert not refused.body.get("data")
                assert (await api.http.get("/livez")).status_code == 200
                assert (await api.http.get("/readyz")).status_code == 503

                postgresql.start()

                assert (await api.http.get("/readyz")).status_code == 200
                for client in clients:
                    found = (await client.run("Resources")).data["resources"]["nodes"]
                    assert [resource["name"] for resource in found] == ["before"]
                    await client.create("after")
                    assert len((await api.content(client.tenant))["resources"]) == 2
        finally:
            postgresql.stop()


async def _is_unavailable(client: Client, operation: str) -> None:
    refused = await client.run(operation)
    assert refused.status == 503
    assert {error["extensions"]["code"] for error in refused.body["errors"]} == {"UNAVAILABLE"}
    assert not refused.body.get("data")
    assert refused.response.headers["retry-after"] == "1"
    assert "Traceback" not in refused.response.text


@asynccontextmanager
async def _locked(
    copy: Copy, api: Api, client: Client, strategy: Strategy
) -> AsyncIterator[Callable[[int], Awaitable[None]]]:
    """Lock the tenant's resources, so that statements on them wait. The yielded function awaits that many waiters."""
    tenant = await provisioning.named(api.control, client.tenant)
    connection = await asyncpg.connect(copy.where.owner)
    async with connection.transaction():
        await connection.execute(f"LOCK TABLE {strategy.home(tenant.id).schema}.resources IN ACCESS EXCLUSIVE MODE")

        async def waiting(number: int) -> None:
            question = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = $1::text::regclass"
            table = f"{strategy.home(tenant.id).schema}.resources"
            async with asyncio.timeout(20):
                while await connection.fetchval(question, table) < number:  # noqa: ASYNC110  others are waited for
                    await asyncio.sleep(0.01)

        yield waiting
    await connection.close()


async def test_a_statement_that_takes_too_long_is_ended(copy: Copy, settings: Settings, strategy: Strategy) -> None:
    impatient = settings.model_copy(update={"statement_timeout": 0.1, "pool_size": 1})
    async with serving(copy, impatient) as api:
        client = api.client(f"{strategy.name}-a")
        await client.create("before")

        async with _locked(copy, api, client, strategy):
            await _is_unavailable(client, "Resources")
            refused = await client.run("CreateResource", input={"name": "too late"})
            assert refused.code == "UNAVAILABLE"

        # The only connection works again.
        found = (await client.run("Resources")).data["resources"]["nodes"]
        assert [resource["name"] for resource in found] == ["before"]


async def test_slow_live_queries_of_a_user_delay_nobody_else_and_go_on_afterwards(
    copy: Copy, settings: Settings, strategy: Strategy
) -> None:
    slow = "query ($first: Int!) @live { resources(first: $first) { totalCount } }"
    impatient = settings.model_copy(update={"statement_timeout": 0.3})
    async with serving(copy, impatient) as api:
        client, other = (api.client(f"{strategy.name}-a", user) for user in ("ada", "eve"))
        async with listening(client) as one, listening(other) as another:
            delayed = [await one.subscribe(slow, {"first": first}) for first in (1, 2)]
            prompt = await another.subscribe("query @live { organizations { totalCount } }")
            assert [(await each.next())["totalCount"] for each in (*delayed, prompt)] == [0, 0, 0]

            async with _locked(copy, api, client, strategy) as in_line:
                made = 'mutation { createOrganization(input: {name: "new"}) { organization { id } } }'
                assert (await client.ask(made)).data
                await in_line(1)
                assert (await prompt.next())["totalCount"] == 1
                for each in delayed:
                    with pytest.raises(Ended) as ended:
                        await each.next()
                    assert ended.value.code == "UNAVAILABLE"

            await client.create("afterwards")
            assert [(await each.next())["totalCount"] for each in delayed] == [1, 1]


async def test_a_request_without_a_connection_in_time_is_refused_and_others_are_served(
    copy: Copy, settings: Settings, strategy: Strategy
) -> None:
    small = settings.model_copy(update={"pool_size": 3, "pool_wait": 1.0})
    async with serving(copy, small) as api:
        client = api.client(f"{strategy.name}-a")
        await client.run("Viewer")

        async with _locked(copy, api, client, strategy) as in_line:
            waiting = [asyncio.create_task(client.run("Resources")) for _ in range(2)]
            await in_line(2)
            await _is_unavailable(client, "Resources")

        assert [(await answer).status for answer in waiting] == [200, 200]
        assert (await client.run("Resources")).status == 200


@pytest.mark.parametrize("slug", [f"{strategy}-a" for strategy in STRATEGIES])
async def test_a_killed_connection_is_replaced_transparently(copy: Copy, api: Api, slug: str) -> None:
    client = api.client(slug)
    await client.create("before")
    connection = await asyncpg.connect(copy.where.owner)
    killed = await connection.fetch(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    await connection.close()

    assert killed
    found = (await client.run("Resources")).data["resources"]["nodes"]
    assert [resource["name"] for resource in found] == ["before"]
    await client.create("after")
