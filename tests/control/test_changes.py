"""Cache invalidation between servers: changes reach every server, and possibly stale entries are not used."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest

from isola.database.transactions import Database
from isola.errors import Forbidden, Refusal, Unavailable
from isola.platform import changes as hearing, migrations, provisioning
from isola.platform.cache import MISSING, Cache
from isola.platform.changes import EFFECTIVE_WITHIN, Changes, Kind, announce
from isola.platform.directory import Directory
from isola.platform.tenants import Status, Tenant
from isola.testing import pgbouncer
from isola.testing.fixtures import Copy
from isola.testing.patience import PATIENCE


@pytest.fixture
def heard(changes: Changes) -> list[str | None]:
    """The keys of users whose changes were received."""
    keys: list[str | None] = []
    changes.listen(Kind.USER, keys.append)
    return keys


async def say(control: Database, key: str) -> None:
    async with control.unbound() as transaction:
        await announce(transaction, Kind.USER, key)


async def test_a_change_reaches_the_listeners_of_its_kind_once(
    changes: Changes, control: Database, heard: list[str | None]
) -> None:
    roles: list[str | None] = []
    changes.listen(Kind.ROLE, roles.append)
    await say(control, "ada")

    for _ in range(3):
        await changes.poll()

    assert heard == ["ada"]
    assert roles == []


async def test_uncommitted_changes_are_not_announced(
    changes: Changes, control: Database, heard: list[str | None]
) -> None:
    with pytest.raises(LookupError):
        async with control.unbound() as transaction:
            await announce(transaction, Kind.USER, "ada")
            await changes.poll()
            raise LookupError

    await changes.poll()

    assert heard == []


async def test_a_change_that_commits_after_a_later_one_is_processed(
    changes: Changes, control: Database, heard: list[str | None]
) -> None:
    async with control.unbound() as slow:
        await announce(slow, Kind.USER, "first")
        for name in ("second", "third"):
            await say(control, name)
            await changes.poll()
        assert heard == ["second", "third"]

    await changes.poll()
    await changes.poll()

    assert heard == ["second", "third", "first"]


async def test_changes_before_the_start_of_a_server_are_ignored(
    copy: Copy, control: Database, heard: list[str | None]
) -> None:
    await say(control, "ada")
    keys: list[str | None] = []
    async with await Database.open(copy.where.control) as database:
        late = Changes(database)
        late.listen(Kind.USER, keys.append)
        await late.poll()
        await late.poll()
    assert keys == [None]
    assert heard == []


async def test_the_cache_is_cleared_when_transaction_ids_go_back(changes: Changes, heard: list[str | None]) -> None:
    """The address leads to another database."""
    assert changes._horizon is not None
    changes._horizon += 1_000_000

    await changes.poll()
    await changes.poll()

    assert heard == [None]


async def test_a_bound_transaction_announces_changes_of_its_own_tenant(
    changes: Changes, database: Database, a: Tenant, b: Tenant, heard: list[str | None]
) -> None:
    async with database.transaction(a) as work:
        await work.value("SELECT isola.announce('user', $1)", f"{b.id}/ada")

    await changes.poll()

    assert heard == [f"{a.id}/{b.id}/ada"]


async def test_only_functions_announce_changes(
    database: Database, changes: Changes, a: Tenant, heard: list[str | None]
) -> None:
    with pytest.raises(Exception, match="permission denied"):
        async with database.unbound() as work:
            await work.value("INSERT INTO control.changes (kind, key) VALUES ('user', 'ada')")
    with pytest.raises(Forbidden):
        async with database.unbound() as work:
            await work.value("SELECT isola.announce('user', 'ada')")
    for kind, key in (("nonsense", "ada"), ("user", "x" * 2000)):
        with pytest.raises(Refusal):
            async with database.transaction(a) as work:
                await work.value("SELECT isola.announce($1, $2)", kind, key)
    await changes.poll()
    assert heard == []


async def test_every_change_of_a_tenant_invalidates_the_directory(
    changes: Changes, control: Database, owner: Database, copy: Copy, a: Tenant, b: Tenant
) -> None:
    directory = Directory(control, changes, 3600, migrations.unprotected)
    names = [a.slug, str(a.id), a.id.hex.upper(), "new", "renamed"]
    before = [await directory.find(name) for name in names]
    assert before == [a, a, a, None, None]

    suspended = await provisioning.suspend(control, a.slug)
    new = await provisioning.create(owner, copy.strategies, slug="new", name="New", strategy=a.strategy)
    assert [await directory.find(name) for name in names] == before
    await changes.poll()
    assert [await directory.find(name) for name in names] == [suspended] * 3 + [new, None]

    async with owner.unbound() as transaction:
        await transaction.script("UPDATE control.tenants SET slug = 'renamed' WHERE slug = 'new'")
    await changes.poll()
    renamed = await directory.find("renamed")
    assert renamed is not None
    assert renamed.id == new.id
    assert await directory.find("new") is None
    assert await directory.find(b.slug) == b


async def test_an_answer_that_is_outdated_by_a_change_is_not_cached(changes: Changes, control: Database) -> None:
    cache: Cache[str, int] = Cache(changes, size=10)
    changes.listen(Kind.USER, cache.invalidate)

    async def overtaken() -> int:
        await say(control, "ada")
        await changes.poll()
        return 1

    assert await cache.get_or_fetch("ada", overtaken) == 1
    assert cache.get("ada") is MISSING
    assert await cache.get_or_fetch("ada", answering(2)) == 2
    assert cache.get("ada") == 2


async def test_cached_data_is_not_used_while_changes_cannot_be_polled(
    copy: Copy, control: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hearing, "_TRUSTED_FOR", 0.5)
    async with await Database.open(copy.where.control, wait=1) as alone, Changes(alone, interval=0.02) as listener:
        cache: Cache[str, str] = Cache(listener, size=10)
        listener.listen(Kind.USER, cache.invalidate)
        for name in ("ada", "grace"):
            await cache.get_or_fetch(name, answering("before"))
        async with alone.unbound():  # its one connection is taken
            await say(control, "ada")
            await eventually(lambda: not listener.fresh)
            assert cache.get("ada") is cache.get("grace") is MISSING
            with pytest.raises(Unavailable):
                await cache.get_or_fetch("ada", failing)
        await eventually(lambda: listener.fresh)
        assert cache.get("ada") is MISSING
        assert cache.get("grace") == "before"


async def test_after_a_long_interruption_the_cache_is_cleared(changes: Changes, heard: list[str | None]) -> None:
    changes._polled_at -= hearing._KEPT_FOR

    await changes.poll()

    assert heard == [None]


async def test_processed_changes_are_deleted(changes: Changes, control: Database, heard: list[str | None]) -> None:
    async def rows() -> list[str]:
        async with control.unbound() as transaction:
            return await transaction.texts("SELECT key FROM control.changes WHERE kind = 'user' ORDER BY id")

    await say(control, "old")
    await changes.poll()
    changes._prune_at = time.monotonic()  # a minute has passed
    await changes.poll()
    await say(control, "new")
    assert await rows() == ["old", "new"]
    changes._prune_at = time.monotonic()  # another minute
    await changes.poll()
    assert await rows() == ["new"]
    assert heard == ["old", "new"]


@pytest.fixture(params=["directly", "behind PgBouncer"])
async def listeners(copy: Copy, request: pytest.FixtureRequest) -> AsyncIterator[list[Changes]]:
    """The listeners of two servers, at their default interval."""
    async with AsyncExitStack() as held:
        url = copy.where.control
        if request.param != "directly":
            url = held.enter_context(pgbouncer.running(url))
        databases = [await held.enter_async_context(await Database.open(url, statement_cache=False)) for _ in range(2)]
        yield [await held.enter_async_context(Changes(database)) for database in databases]


async def test_every_server_processes_a_change_within_five_seconds(
    listeners: list[Changes], control: Database, a: Tenant
) -> None:
    directories = [Directory(control, listener, 3600, migrations.unprotected) for listener in listeners]
    for directory in directories:
        assert await directory.find(a.slug) == a

    await provisioning.suspend(control, a.slug)
    committed = time.monotonic()

    for directory in directories:
        asked = time.monotonic()
        while (found := await directory.find(a.slug)) == a:
            assert asked - committed < EFFECTIVE_WITHIN
            await asyncio.sleep(0.02)
            asked = time.monotonic()
        assert found is not None
        assert found.status is Status.SUSPENDED


def answering(value: Any) -> Callable[[], Awaitable[Any]]:
    async def answer() -> Any:
        return value

    return answer


async def failing() -> str:
    raise Unavailable("the database cannot be reached")


async def eventually(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not holds():  # noqa: ASYNC110  nobody tells when a moment has passed
            await asyncio.sleep(0.01)
