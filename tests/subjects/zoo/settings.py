"""Settings of all types over HTTP under each strategy: tests/subjects/test_zoo.py runs this with the zoo."""

from typing import Any

import pytest
from sqlalchemy import insert

from isola.database.transactions import Database
from isola.errors import BadUserInput
from isola.platform import provisioning
from isola.subjects import settings
from isola.testing.served import Api, Client
from tests.subjects.zoo.subjects import House

FIELDS = "motto opened visitors symbol fee hours closed until"
CURRENT = f"{{ currentHouse {{ {FIELDS} }} }}"
CHANGE = f"mutation ($input: ChangeHouseInput!) {{ changeHouse(input: $input) {{ house {{ number {FIELDS} }} }} }}"
HISTORY = f"{{ houseHistory {{ nodes {{ number {FIELDS} }} }} }}"
DEFAULTS = {
    "motto": 'It\'s "wild".',
    "opened": True,
    "visitors": 100,
    "symbol": "FISH",
    "fee": "2.5",
    "hours": {"from": 9},
    "closed": [],
    "until": None,
}
CHANGED: dict[str, Any] = {
    "motto": "",
    "opened": False,
    "visitors": 500,
    "symbol": "BIRD",
    "fee": "0.01",
    "hours": {"to": [17, None]},
    "closed": ["2026-12-24"],
    "until": "2026-12-31",
}
WRONG: dict[str, Any] = {
    "motto": "x" * 21,
    "opened": None,
    "visitors": 501,
    "fee": "0.001",
    "hours": {"from": "x" * 100},
    "closed": [None],
}


async def test_settings_have_defaults_until_they_are_changed(alice: Client, bob: Client, api: Api) -> None:
    tenant = await provisioning.named(api.control, alice.tenant)
    async with api.tenants.transaction(tenant) as work:
        assert await settings.read(work, House) == settings.defaults(House)
    assert (await alice.ask(CURRENT)).data == {"currentHouse": DEFAULTS}

    for number, (name, value) in enumerate(CHANGED.items(), start=1):
        before = (await alice.ask(CURRENT)).data["currentHouse"]
        changed = await alice.ask(CHANGE, {"input": {name: value}})
        assert changed.data == {"changeHouse": {"house": {"number": number, **before, name: value}}}
    assert (await alice.ask(CURRENT)).data == {"currentHouse": CHANGED}
    assert (await bob.ask(CURRENT)).data == {"currentHouse": DEFAULTS}

    versions = (await alice.ask(HISTORY)).data["houseHistory"]["nodes"]
    assert [each["number"] for each in versions] == list(range(len(CHANGED), 0, -1))
    assert versions[0] == {"number": len(CHANGED), **CHANGED}
    async with api.tenants.transaction(tenant) as work:
        found = await settings.read(work, House)
    assert (found["visitors"], found["hours"], found["symbol"].name) == (500, {"to": [17, None]}, "BIRD")


async def test_the_database_refuses_what_the_declaration_does_not_have(
    alice: Client, api: Api, database: Database
) -> None:
    for name, value in WRONG.items():
        assert (await alice.ask(CHANGE, {"input": {name: value}})).code == "BAD_USER_INPUT", name
    tenant = await provisioning.named(api.control, alice.tenant)
    async with database.transaction(tenant) as work:
        [user] = await work.texts("SELECT min(id::text) FROM users")
        for column, value in (("motto", "x" * 21), ("visitors", 501), ("symbol", "beast"), ("hours", {"x": "x" * 100})):
            with pytest.raises(BadUserInput):
                async with work.savepoint():
                    await work.execute(insert(House.table).values(number=1, changed_by_id=user, **{column: value}))
    assert (await alice.ask(HISTORY)).data == {"houseHistory": {"nodes": []}}
