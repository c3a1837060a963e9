"""If the binding key of the database changes, servers reload it by themselves, and no request fails."""

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest
from sqlalchemy import insert, select
from structlog.testing import capture_logs

from isola.database.binding import BindingKey
from isola.database.transactions import Database
from isola.errors import Unavailable
from isola.platform import secrets
from isola.platform.platform_log import Author, page
from isola.platform.tenants import Tenant
from isola.subjects.users import users
from isola.testing import modes
from isola.testing.fixtures import Copy

BY = Author("operator:ada")
# Without the command, as after restoring a backup.
REPLACE = """UPDATE control.binding_key SET "inner" = "outer", "outer" = uuid_send(gen_random_uuid()) || "inner" """


class Keys:
    """The key as servers read it, and a count of the reads."""

    def __init__(self, control: Database) -> None:
        self._control = control
        self.read = 0

    async def __call__(self) -> BindingKey:
        self.read += 1
        async with self._control.unbound() as work:
            return await secrets.binding_key(work)


@pytest.fixture
def keys(control: Database) -> Keys:
    return Keys(control)


@pytest.fixture
async def serving(copy: Copy, keys: Keys) -> AsyncIterator[Database]:
    """A pool of the size that a server has."""
    with modes.between(copy.where.tenant) as address:
        async with await Database.open(
            address, copy.strategies, keys, size=8, wait=10, statement_cache=modes.STATEMENT_CACHE
        ) as opened:
            yield opened


async def replaced(owner: Database) -> None:
    async with owner.unbound() as work:
        await work.script(REPLACE)


async def write(database: Database, tenant: Tenant, name: str) -> None:
    async with database.transaction(tenant, about={"actor": "usr_ada"}) as work:
        await work.execute(insert(users).values(subject=name, name="written"))
        await work.rows(select(users).where(users.c.subject == name))


@pytest.mark.parametrize("first", ["a statement", "several statements", "a read-only transaction"])
async def test_the_next_transaction_reads_the_new_key_and_no_statement_runs_twice(
    first: str, serving: Database, owner: Database, keys: Keys, a: Tenant
) -> None:
    await write(serving, a, "before")
    await replaced(owner)
    with capture_logs() as logged:
        async with serving.transaction(a, read_only=first == "a read-only transaction") as work:
            if first == "a statement":
                await work.execute(insert(users).values(subject="after", name="written"))
            elif first == "several statements":
                await work.script("SELECT 1; INSERT INTO users (subject, name) VALUES ('after', 'written')")
            assert await work.value("SELECT isola.current_tenant_id()") == a.id
    async with serving.transaction(a) as work:
        found = await work.texts("SELECT subject FROM users ORDER BY subject")
    assert found == (["before"] if first == "a read-only transaction" else ["after", "before"])
    assert keys.read == 2
    assert [entry["log_level"] for entry in logged] == ["info"]


async def test_the_key_is_read_once_for_many_refused_transactions(
    serving: Database, owner: Database, keys: Keys, a: Tenant, b: Tenant
) -> None:
    await asyncio.gather(*(write(serving, a, f"before {number}") for number in range(20)))
    assert keys.read == 1
    await replaced(owner)
    await asyncio.gather(*(write(serving, tenant, f"after {number}") for number in range(40) for tenant in (a, b)))
    assert keys.read == 2
    for tenant, written in ((a, 60), (b, 40)):
        async with serving.transaction(tenant, read_only=True) as work:
            assert await work.value("SELECT count(*) FROM users") == written


async def test_while_it_is_rotated_no_transaction_fails(
    serving: Database, owner: Database, keys: Keys, a: Tenant, b: Tenant
) -> None:
    ended = asyncio.Event()
    written: list[str] = []

    async def client(number: int, tenant: Tenant) -> None:
        turn = 0
        while not ended.is_set():
            name = f"{number}-{turn}"
            async with serving.transaction(tenant) as work:
                await work.execute(insert(users).values(subject=name, name="written"))
                await asyncio.sleep(0.002)
                assert name in await work.texts("SELECT subject FROM users WHERE subject = $1", name)
            written.append(name)
            turn += 1

    async def forty_more() -> None:
        """More than the transactions that run while the key is replaced: so some begin afterwards, and need another."""
        wanted = len(written) + 40
        while len(written) < wanted:  # noqa: ASYNC110  it is a number that grows
            await asyncio.sleep(0.01)

    load = [asyncio.create_task(client(number, (a, b)[number % 2])) for number in range(12)]
    for _ in range(3):
        await forty_more()
        await secrets.rotate_binding_key(owner, BY)
    await forty_more()
    ended.set()
    await asyncio.gather(*load)
    assert keys.read == 4
    total = 0
    for tenant in (a, b):
        async with serving.transaction(tenant, read_only=True) as work:
            total += await work.value("SELECT count(*) FROM users")
    assert total == len(written)


async def test_a_key_rotation_waits_for_open_transactions_and_is_logged(
    serving: Database, owner: Database, control: Database, a: Tenant
) -> None:
    async with serving.transaction(a) as work:
        assert await work.value("SELECT isola.current_tenant_id()") == a.id
        rotation = asyncio.create_task(secrets.rotate_binding_key(owner, BY))
        await asyncio.sleep(0.8)
        assert not rotation.done()
        # Meanwhile the rotation blocks others at most until its lock timeout.
        await write(serving, a, "meanwhile")
        assert await work.value("SELECT isola.current_tenant_id()") == a.id
    await rotation
    await write(serving, a, "after")
    [entry] = await page(control, object="platform:binding_key")
    assert (entry.actor, entry.action, entry.old, entry.new) == (BY.actor, "binding_key:rotate", None, None)


async def test_the_previous_key_is_invalid(serving: Database, owner: Database, copy: Copy, a: Tenant) -> None:
    await write(serving, a, "before")
    await secrets.rotate_binding_key(owner, BY)
    login = await asyncpg.connect(copy.where.tenant)
    try:
        await login.execute("BEGIN")
        await copy.enter(login, a)
        with pytest.raises(asyncpg.PostgresError) as refused:
            await login.fetch("SELECT * FROM users")
        assert refused.value.sqlstate == "IS002"
    finally:
        await login.close()


async def test_sql_with_forged_proofs_causes_at_most_one_key_read_per_second(
    serving: Database, keys: Keys, a: Tenant
) -> None:
    pretend = "DO $$ BEGIN RAISE EXCEPTION 'x' USING ERRCODE = 'IS002'; END $$"

    async def refused() -> None:
        with pytest.raises(Unavailable):
            async with serving.transaction(a) as work:
                await work.value(pretend)

    await write(serving, a, "before")
    with capture_logs() as logged:
        await asyncio.gather(*(refused() for _ in range(60)))
    assert keys.read <= 3
    assert {entry["event"] for entry in logged} == {"a statement tried to reach outside its tenant"}
    await write(serving, a, "after")


async def test_a_wrong_binding_key_refuses_all_transactions(copy: Copy, a: Tenant) -> None:
    async def wrong() -> BindingKey:
        return BindingKey(b"x" * 32, b"y" * 32)

    async with await Database.open(copy.where.tenant, copy.strategies, wrong, size=2) as database:
        for _ in range(2):
            with capture_logs(), pytest.raises(Unavailable):
                async with database.transaction(a) as work:
                    await work.rows(select(users))
