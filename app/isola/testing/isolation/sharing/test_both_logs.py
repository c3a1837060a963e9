"""What happens to a share is in the logs of its owner and of its partner, and the owner never waits for the partner."""

from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from isola.database.transactions import Database
from isola.errors import Unavailable
from isola.platform import provisioning
from isola.platform.sign_in_log import SignInLog
from isola.subjects import partnerships, resources, shares
from isola.subjects.resources import resources as table
from isola.testing.fixtures import Copy
from isola.testing.isolation.sharing.conftest import Grant, actor, end_partnership, manager
from isola.testing.oracles.canary import INSUFFICIENT_PRIVILEGE, Canary, Row, log, tried

ALL: Sequence[str] = table.info["shared_columns"]
RECEIVED = {"owner", "subject", "fields", "note", "access", "granted_at", "expires_at", "revoked_at"}
MOVE = "UPDATE control.tenants SET moving_to = $2 WHERE id = $1"
EXPIRE = "UPDATE control.shares SET expires_at = now()"

Entries = Callable[[Canary], Awaitable[Sequence[Row]]]


@pytest.fixture
def entries_of(control: Database, database: Database) -> Entries:
    """The entries about received shares in a tenant's log, after a server has copied there what waits."""

    async def found(canary: Canary) -> Sequence[Row]:
        async with SignInLog(control, database):
            pass
        entries = await log(database, canary.tenant)
        return [each for each in entries if each["action"].startswith("received_share:")]

    return found


def actions(entries: Sequence[Row]) -> list[str]:
    return [each["action"].partition(":")[2] for each in entries]


async def change(database: Database, sharer: Canary, share: Any, **choice: Any) -> None:
    async with database.transaction(sharer.tenant) as work:
        await shares.change(work, actor(sharer), share, **choice)


async def revoke(database: Database, sharer: Canary, share: Any) -> None:
    async with database.transaction(sharer.tenant) as work:
        await shares.revoke(work, actor(sharer), share)


async def test_grant_change_and_end_are_in_both_logs(
    database: Database, sharer: Canary, partner: Canary, stranger: Canary, grant: Grant, entries_of: Entries
) -> None:
    until = datetime.now(UTC) + timedelta(days=1)
    share = await grant(until)
    await change(database, sharer, share, fields=["name"], note="for review")
    await change(database, sharer, share, fields=["name"])  # changes nothing
    await revoke(database, sharer, share)
    ours = [each for each in await log(database, sharer.tenant) if each["object"] == f"shr_{share}"]
    assert [each["action"] for each in ours] == ["share:create", "share:update", "share:update"]

    entries = await entries_of(partner)
    assert actions(entries) == ["create", "update", "delete"]
    assert {each["object"] for each in entries} == {f"shr_{share}"}
    assert {(each["actor"], each["on_behalf_of"], each["request"]) for each in entries} == {(None, None, None)}
    made, changed, ended = entries
    known = {"owner": sharer.tenant.slug, "subject": "resource"}
    assert (made["old"], made["new"].keys(), ended["old"].keys(), ended["new"]) == (None, RECEIVED, RECEIVED, None)
    assert made["new"].items() >= {**known, "fields": list(ALL), "note": None, "revoked_at": None}.items()
    assert datetime.fromisoformat(made["new"]["expires_at"]) == until
    assert changed["old"] == {**known, "fields": list(ALL), "note": None}
    assert changed["new"].keys() == {*changed["old"], "changed_at"}
    assert changed["new"].items() >= {**known, "fields": ["name"], "note": "for review"}.items()
    assert ended["old"].items() >= {**known, "fields": ["name"], "note": "for review"}.items()
    assert ended["old"]["revoked_at"] is not None
    # Once, and in no other log.
    assert await entries_of(partner) == entries
    assert await entries_of(sharer) == await entries_of(stranger) == []


async def test_the_partners_log_has_nothing_of_the_owners_but_the_share(
    database: Database, sharer: Canary, partner: Canary, grant: Grant, entries_of: Entries
) -> None:
    share = await grant()
    await change(database, sharer, share, fields=["name"])
    await revoke(database, sharer, share)
    entries = await entries_of(partner)
    assert len(entries) == 3
    assert not sharer.traced_in(entries)


async def test_the_end_of_a_row_is_the_end_of_its_shares_in_the_partners_log(
    database: Database, sharer: Canary, partner: Canary, grant: Grant, entries_of: Entries
) -> None:
    await grant()
    async with database.transaction(sharer.tenant) as work:
        await resources.delete(work, actor(sharer), sharer.rows["resources"]["id"])
    assert actions(await entries_of(partner)) == ["create", "delete"]


async def test_the_end_of_a_tenant_is_the_end_of_its_partnerships_in_the_logs_of_its_partners(
    database: Database, owner: Database, control: Database, copy: Copy, placements: tuple[str, str], partner: Canary
) -> None:
    other = await provisioning.create(owner, copy.strategies, slug="ending", name="Ending", strategy=placements[0])
    async with database.transaction(partner.tenant) as work:
        offer = await partnerships.offer(work, manager(partner), "ending")
    async with database.transaction(other) as work:
        await work.value("SELECT isola.accept_partnership($1)", offer)
    await provisioning.drop(owner, copy.strategies, "ending", notice=0)
    for _ in range(2):
        async with SignInLog(control, database):
            pass
        [ended] = [each for each in await log(database, partner.tenant) if each["action"] == "partnership:delete"]
        assert (ended["object"], ended["old"]["partner_slug"], ended["new"]) == (f"prt_{offer}", "ending", None)
        assert str(other.id) not in str(ended)


async def test_what_is_rolled_back_is_in_no_log(
    database: Database, sharer: Canary, partner: Canary, entries_of: Entries
) -> None:
    with pytest.raises(Unavailable):
        async with database.transaction(sharer.tenant) as work:
            resource = sharer.rows["resources"]["id"]
            await shares.grant(work, actor(sharer), "resource", resource, partner.tenant.slug)
            assert await entries_of(partner) == []
            raise Unavailable("the end")
    assert await entries_of(partner) == []


async def test_the_owner_shares_while_the_partner_is_on_its_way_to_another_home(
    database: Database, owner: Database, sharer: Canary, partner: Canary, grant: Grant, entries_of: Entries
) -> None:
    async with owner.unbound() as work:
        await work.value(MOVE, partner.tenant.id, "elsewhere")
        # This is not committed: whoever waits for it waits for this test.
        share = await grant()
        await change(database, sharer, share, fields=["name"])
        await revoke(database, sharer, share)
    assert await entries_of(partner) == []
    async with owner.unbound() as work:
        await work.value(MOVE, partner.tenant.id, None)
    assert actions(await entries_of(partner)) == ["create", "update", "delete"]


async def test_the_owner_ends_what_it_shared_with_a_suspended_partner(
    database: Database, control: Database, sharer: Canary, partner: Canary, grant: Grant, entries_of: Entries
) -> None:
    share = await grant()
    await provisioning.suspend(control, partner.tenant.slug)
    await revoke(database, sharer, share)
    assert await entries_of(partner) == []
    await provisioning.resume(control, partner.tenant.slug)
    assert actions(await entries_of(partner)) == ["create", "delete"]


async def test_an_end_that_both_knew_is_no_entry(
    database: Database, owner: Database, sharer: Canary, partner: Canary, grant: Grant, entries_of: Entries
) -> None:
    """A share that has expired, and one whose partnership has ended, is ended later where the row is shared again."""
    first = await grant(datetime.now(UTC) + timedelta(days=1))
    async with owner.unbound() as work:
        await work.value(EXPIRE)
    second = await grant()
    entries = [(each["action"], each["object"]) for each in await entries_of(partner)]
    assert entries == [("received_share:create", f"shr_{share}") for share in (first, second)]
    async with database.transaction(sharer.tenant) as work:
        [partnership] = await work._connection.fetch(
            "SELECT id FROM isola.partnerships() WHERE slug = $1", partner.tenant.slug
        )
    await end_partnership(database, sharer, partnership["id"])
    async with database.transaction(sharer.tenant) as work:
        await resources.delete(work, actor(sharer), sharer.rows["resources"]["id"])
    assert len(await entries_of(partner)) == 2


async def test_no_tenant_reads_or_writes_what_waits_for_a_log(
    database: Database, sharer: Canary, partner: Canary, grant: Grant
) -> None:
    await grant()
    for canary in (sharer, partner):
        async with database.transaction(canary.tenant) as work:
            for statement in (
                "SELECT * FROM control.share_notices",
                "DELETE FROM control.share_notices",
                "INSERT INTO control.share_notices (tenant_id, action, object) VALUES (gen_random_uuid(), '', '')",
                "SELECT isola.audit_of_partner('{share:create}', '{shr_}', '{null}', '{null}')",
            ):
                assert await tried(work, statement) == INSUFFICIENT_PRIVILEGE
