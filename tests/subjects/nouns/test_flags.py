"""Who has a flag follows from its id, a key and a percentage alone."""

import hashlib
from collections.abc import Sequence
from uuid import UUID

import pytest
from sqlalchemy import insert, update

from isola.database.transactions import Database
from isola.errors import BadUserInput, Conflict, Forbidden
from isola.platform.tenants import Tenant
from isola.subjects import flags, operations
from isola.subjects.flags import Flag, FlagState
from isola.subjects.work import Work
from tests.subjects.nouns.conftest import People

KEYS = [f"customer-{number}" for number in range(200)]
# Of the flag 01980000-0000-7000-8000-000000000001, computed by another program.
NUMBERS = {"ada": 82, "bob": 88, "customer-1": 35, "Müller": 75, "usr_01980000-0000-7000-8000-0000000000aa": 6}


def number(flag: UUID, key: str) -> int:
    """The algorithm of docs/settings.md."""
    digest = hashlib.sha256(f"flg_{flag}:{key}".encode()).digest()
    return int.from_bytes(digest[:4], "big") * 100 >> 32


async def made(work: Work, name: str, percentage: int, key: UUID) -> UUID:
    values = {"id": key, "name": name, "state": FlagState.PERCENTAGE, "percentage": percentage}
    await work.execute(insert(Flag.table).values(values))
    return key


async def having(work: Work, name: str, keys: Sequence[str] = KEYS) -> set[str]:
    return {key for key in keys if await flags.is_enabled(work, name, key)}


async def test_known_keys_have_known_numbers(database: Database, a: Tenant) -> None:
    async with database.transaction(a) as work:
        flag = await made(work, "new", 0, UUID("01980000-0000-7000-8000-000000000001"))
        found: dict[str, int] = {}
        for percentage in range(101):
            await work.execute(update(Flag.table).values(percentage=percentage))
            for key in await having(work, "new", list(NUMBERS)):
                found.setdefault(key, percentage - 1)
    assert found == NUMBERS == {key: number(flag, key) for key in NUMBERS}


async def test_a_higher_percentage_takes_a_flag_from_nobody(database: Database, a: Tenant) -> None:
    async with database.transaction(a) as work:
        flag = await made(work, "new", 0, UUID(int=7))
        before: set[str] = set()
        for percentage in (0, 10, 50, 90, 100):
            await work.execute(update(Flag.table).values(percentage=percentage))
            now = await having(work, "new")
            assert before <= now
            assert now == {key for key in KEYS if number(flag, key) < percentage}
            before = now
        assert before == set(KEYS)
        for state, expected in ((FlagState.OFF, []), (FlagState.ON, KEYS)):
            await work.execute(update(Flag.table).values(state=state, percentage=50))
            assert await having(work, "new") == set(expected)
        assert not await flags.is_enabled(work, "unknown", "ada")


async def test_two_flags_of_a_half_choose_different_halves(database: Database, a: Tenant) -> None:
    async with database.transaction(a) as work:
        await made(work, "one", 50, UUID(int=1))
        await made(work, "two", 50, UUID(int=2))
        one, two = await having(work, "one"), await having(work, "two")
    assert all(70 < len(each) < 130 for each in (one, two))
    assert 25 < len(one & two) < 75


async def test_only_administrators_change_flags_and_a_tenant_has_at_most_so_many(
    database: Database, a: Tenant, people: People, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flags, "MOST", 2)
    async with database.transaction(a) as work:
        with pytest.raises(Forbidden, match="flag:manage"):
            await operations.create(work, people.ada, Flag, {"name": "new"})
        await operations.create_all(work, people.admin, Flag, [{"name": "new"}, {"name": "newer.than-that_1"}])
        with pytest.raises(Conflict, match="at most 2 flags"):
            await operations.create(work, people.admin, Flag, {"name": "newest"})


@pytest.mark.parametrize("name", ["", "New", "new flag", "-new", "new-", "new..er", "1st", "nëw", "new\n"])
async def test_a_name_has_the_form_of_a_slug_also_for_raw_sql(
    database: Database, a: Tenant, people: People, name: str
) -> None:
    async with database.transaction(a) as work:
        with pytest.raises(BadUserInput) as refused:
            await operations.create(work, people.admin, Flag, {"name": name})
        assert refused.value.field == "name"
        with pytest.raises(BadUserInput):
            async with work.savepoint():
                await work.execute(insert(Flag.table).values(name=name))
