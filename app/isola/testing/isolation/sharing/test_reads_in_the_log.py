"""What a partner reads of an owner's rows is in the owner's log, counted, and in no other."""

import asyncio
from collections.abc import Sequence
from uuid import UUID

import pytest

from isola.database.transactions import Database
from isola.platform import sign_in_log
from isola.platform.sign_in_log import SignInLog
from isola.settings import Settings
from isola.testing.fixtures import Copy
from isola.testing.isolation.sharing.conftest import Grant
from isola.testing.oracles.canary import Canary, Row, log
from isola.testing.patience import PATIENCE
from isola.testing.served import serving

SHARE = "SELECT share FROM isola.share('resource', $1, $2, NULL, NULL, NULL)"
DUE = "UPDATE control.reads SET due_at = now()"
LIST = "{ sharedResources { totalCount nodes { name } } }"
RECEIVED = "{ sharedWithMe { nodes { id resource { name kind } } } }"
ONE = "query ($id: ID!) { node(id: $id) { ... on ReceivedShare { resource { name } } } }"


async def read_of(owner: Database, control: Database, database: Database, canary: Canary) -> Sequence[Row]:
    """The entries about reads by partners in a tenant's log, after a server has copied there what waits."""
    async with owner.unbound() as work:
        await work.script(DUE)
    async with SignInLog(control, database):
        pass
    return [each for each in await log(database, canary.tenant) if each["action"] == "share_read:create"]


@pytest.fixture
async def second(database: Database, stranger: Canary, partner: Canary) -> UUID:
    """Another owner's share with the partner."""
    async with database.transaction(stranger.tenant, about=stranger.about) as work:
        share: UUID = await work.value(SHARE, stranger.rows["resources"]["id"], partner.tenant.slug)
    return share


@pytest.mark.usefixtures("second")
async def test_each_read_by_a_partner_is_in_the_log_of_the_owner(
    copy: Copy,
    settings: Settings,
    owner: Database,
    control: Database,
    database: Database,
    sharer: Canary,
    stranger: Canary,
    partner: Canary,
    grant: Grant,
) -> None:
    share = await grant()
    # The server stores what it has counted before it stops.
    async with serving(copy, settings) as api:
        reader = api.client(partner.tenant.slug)
        for document in (LIST, RECEIVED):
            assert sharer.traced_in((await reader.ask(document)).response.text)
        assert (await reader.ask(ONE, {"id": f"shr_{share}"})).data["node"]["resource"] is not None
        # No owner reads a row of its own by this.
        assert (await api.client(sharer.tenant.slug).ask(LIST)).data["sharedResources"]["nodes"] == []
    for canary, count in ((sharer, 3), (stranger, 2)):
        entries = await read_of(owner, control, database, canary)
        assert sum(each["new"]["count"] for each in entries) == count
        assert {each["object"] for each in entries} == {"shared:resource"}
        assert {(each["new"]["partner"], each["new"]["subject"]) for each in entries} == {
            (partner.tenant.slug, "resource")
        }
        for each in entries:
            assert each["new"].keys() == {"partner", "subject", "count", "first_at", "last_at"}
            assert (each["actor"], each["old"]) == (None, None)
        assert not partner.traced_in(entries)
    assert await read_of(owner, control, database, partner) == []


async def test_many_reads_are_one_entry(
    owner: Database,
    control: Database,
    database: Database,
    sharer: Canary,
    partner: Canary,
    grant: Grant,
    second: UUID,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    share = await grant()
    monkeypatch.setattr(sign_in_log, "STORED_AFTER", 3600)
    monkeypatch.setattr(sign_in_log, "INTERVAL", 3600)
    for _ in range(2):  # two servers
        async with SignInLog(control, database) as counting:
            for _ in range(100):
                counting.read_shared(partner.tenant.id, {str(share), str(second)})
    async with owner.unbound() as work:
        kept = "SELECT concat(count, ' ', due_at - first_at) FROM control.reads WHERE tenant_id = $1::uuid"
        assert await work.texts(kept.replace("$1", f"'{sharer.tenant.id}'")) == ["200 00:00:01"]
    [entry] = await read_of(owner, control, database, sharer)
    assert entry["new"]["count"] == 200


async def test_reads_are_stored_soon_and_not_only_when_the_logs_are_written(
    owner: Database,
    control: Database,
    database: Database,
    partner: Canary,
    grant: Grant,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    share = await grant()
    monkeypatch.setattr(sign_in_log, "STORED_AFTER", 0.01)
    monkeypatch.setattr(sign_in_log, "INTERVAL", 3600)
    async with SignInLog(control, database) as counting:
        for count in (1, 2):
            counting.read_shared(partner.tenant.id, {str(share)})
            async with asyncio.timeout(PATIENCE), owner.unbound() as work:
                while await work.value("SELECT sum(count) FROM control.reads") != count:  # noqa: ASYNC110  only asking tells
                    await asyncio.sleep(0.01)
