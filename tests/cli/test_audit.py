"""``isola audit`` and ``isola user``."""

from isola.database.transactions import Database
from isola.platform import provisioning
from isola.testing.fixtures import Copy
from tests.cli.processes import Place


def test_a_tenant_gets_its_first_owner_from_whoever_runs_the_server(awake: Place) -> None:
    awake.run("tenant", "create", "umbrella")
    assert awake.run("user", "assign", "albert", "owner", "--tenant", "umbrella") == "albert: owner, enabled\n"
    assert "the last owner" in awake.fail("user", "unassign", "albert", "owner", "--tenant", "umbrella")
    assert "the last owner" in awake.fail("user", "disable", "albert", "--tenant", "umbrella")
    awake.run("user", "assign", "william", "owner", "--tenant", "umbrella")
    assert awake.run("user", "disable", "albert", "--tenant", "umbrella") == "albert: owner, disabled\n"
    assert awake.run("user", "enable", "albert", "--tenant", "umbrella") == "albert: owner, enabled\n"
    assert awake.run("user", "unassign", "albert", "owner", "--tenant", "umbrella") == "albert: no role, enabled\n"
    assert "no role 'boss'" in awake.fail("user", "assign", "albert", "boss", "--tenant", "umbrella")
    assert "no user 'nobody'" in awake.fail("user", "disable", "nobody", "--tenant", "umbrella")
    checked, verdict = awake.run("audit", "verify", "--tenant", "umbrella").splitlines()
    assert (checked.split()[1:3], verdict) == (["entries", "checked,"], "OK")


async def test_the_first_changed_entry_of_a_log_is_reported(empty: Place, copy: Copy, owner: Database) -> None:
    assert copy.where.owner
    there = {"ISOLA_DATABASE_URL": copy.where.owner}
    tenant = await provisioning.named(owner, "schema-a")
    verify = ("audit", "verify", "--tenant", "schema-a")
    assert empty.run(*verify, **there) == "0 entries checked, up to the beginning\nOK\n"
    empty.run("user", "assign", "ada", "owner", "--tenant", "schema-a", **there)
    assert empty.run(*verify, **there) == "7 entries checked, up to the beginning; 7 of them not sealed yet\nOK\n"
    sealed = empty.run("audit", "seal", **there)
    assert sealed.endswith(" entries sealed; 0 left\n")
    checked, _ = empty.run(*verify, **there).splitlines()
    assert checked.startswith("7 entries checked, up to ")
    assert not checked.endswith("sealed")
    async with owner.unbound() as work:
        home = copy.strategies["schema"].home(tenant.id).schema
        third = f"(SELECT ids[3] FROM control.audit_seals WHERE tenant_id = '{tenant.id}')"
        await work.script(f"UPDATE {home}.audit_entries SET action = 'user:delete' WHERE id = {third}")
    assert "the log of schema-a is broken: entry 3 (aud_" in empty.fail(*verify, **there)
