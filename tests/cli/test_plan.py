"""``isola plan``, ``isola tenant set-plan`` and ``isola platform``."""

import getpass
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.cli.processes import Place, finished


def log(place: Place, *conditions: str) -> Sequence[Mapping[str, Any]]:
    return [json.loads(line) for line in place.run("platform", "log", *conditions).splitlines()]


def test_plans_are_created_and_assigned_and_the_log_names_the_actor(awake: Place, tmp_path: Path) -> None:
    made = awake.run("plan", "create", "small", "--title", "Small", "--quota", "resources=1001", "--quota", "users=9")
    assert {"name: small", "title: Small", "resources: 1001", "users: 9", "shares: none"} <= set(made.splitlines())
    assert "price: none" in made.splitlines()
    priced = awake.run("plan", "change", "small", "--price", "9.50 EUR/year")
    assert "price: 9.5 EUR/year" in priced.splitlines()
    limited = awake.run("plan", "change", "small", "--quota", "users=none", "--limit", "executions=40")
    assert {"users: none", "executions a month: 40"} <= set(limited.splitlines())
    assert awake.run("tenant", "set-plan", "acme", "small") == "tenant acme has the plan small\n"
    assert "plan: small" in awake.run("tenant", "show", "acme").splitlines()
    assert "retire it" in awake.fail("plan", "delete", "small")
    assert awake.run("plan", "delete", "free") == "the plan free is deleted\n"
    assert "retired_at: " in awake.run("plan", "retire", "small")
    listed = awake.run("plan", "list")
    assert any(line.split()[:1] == ["small"] and "1001" in line and "retired" in line for line in listed.splitlines())

    entries = log(awake, "--first", "6")
    assert [(entry["action"], entry["object"]) for entry in entries] == [
        ("plan:retire", "plan:small"),
        ("plan:delete", "plan:free"),
        ("tenant:set_plan", "tenant:acme"),
        ("plan:change", "plan:small"),
        ("plan:change", "plan:small"),
        ("plan:create", "plan:small"),
    ]
    assert {entry["actor"] for entry in entries} == {f"operator:{getpass.getuser()}"}
    assert log(awake, "--action", "tenant:set_plan", "--object", "tenant:acme") == entries[2:3]
    assert awake.run("platform", "verify").endswith("OK\n")

    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"name": "row"}\n' * 1002)
    _, said, status = finished(awake.begin("import", str(rows), "--tenant", "acme"))
    assert status == 1
    assert "resources: the limit is 1001" in said


def test_what_a_plan_does_not_keep_is_counted_and_deleted(awake: Place) -> None:
    made = awake.run("plan", "create", "brief", "--keep", "spans=2d", "--keep", "log=30d")
    assert {"spans kept for: 2 days", "log kept for: 30 days"} <= set(made.splitlines())
    changed = awake.run("plan", "change", "brief", "--keep", "log=none")
    assert "log kept for" not in changed
    assert "spans: expected 1 to 36500 days" in awake.fail("plan", "change", "brief", "--keep", "spans=0d")
    awake.run("tenant", "set-plan", "acme", "brief")
    assert awake.run("retention", "run", "acme", "--dry-run") == "acme would lose: nothing\n"
    said = awake.run("tenant", "override", "set", "acme", "--keep", "spans=9d", "--reason", "a trial")
    assert said == "tenant acme has the retention spans=9d\n"
    assert awake.run("retention", "run") == "deleted: nothing\n"


def test_a_tenant_gets_an_override_for_a_time(awake: Place) -> None:
    override = ("tenant", "override")
    made = awake.run(*override, "set", "acme", "--quota", "users=7", "--reason", "a trial", "--until", "2999-01-01")
    assert made == "tenant acme has the quota users=7 until 2999-01-01T00:00:00+00:00\n"
    assert "a trial" in awake.run(*override, "list", "acme")
    [listed] = json.loads(awake.run(*override, "list", "acme", "--json"))
    assert (listed["kind"], listed["name"], listed["value"], listed["ended"]) == ("quota", "users", 7, False)
    assert "until: expected a moment in the future" in awake.fail(
        *override, "set", "acme", "--quota", "users=7", "--reason", "a trial", "--until", "2001-01-01"
    )
    assert awake.run(*override, "remove", "acme", "users") == "tenant acme has what its plan says of users\n"
    assert "no such override" in awake.fail(*override, "remove", "acme", "users")


def test_a_tenant_gets_another_limit_of_a_meter(awake: Place) -> None:
    override = ("tenant", "override")
    made = awake.run(*override, "set", "acme", "--limit", "executions=70", "--reason", "a trial")
    assert made == "tenant acme has the meter executions=70\n"
    assert awake.run(*override, "remove", "acme", "executions").endswith("of executions\n")
    assert "executions" in awake.run("plan", "meters")


def test_invalid_plans_are_refused(awake: Place) -> None:
    before = awake.run("plan", "list")
    assert "there is no such plan: 'small'" in awake.fail("tenant", "set-plan", "acme", "small")
    assert awake.run("plan", "list") == before


def test_the_owner_reads_and_sets_whether_proofs_are_required(awake: Place) -> None:
    demanded = "proofs are demanded\n"
    assert awake.run("platform", "proofs") == demanded
    said = awake.run("platform", "proofs", "--believe")
    assert said == "proofs are not demanded: arbitrary SQL in one tenant can reach all tenants\n"
    assert awake.run("platform", "proofs") == said
    assert awake.run("platform", "proofs", "--demand") == demanded
    assert [entry["action"] for entry in log(awake, "--object", "platform:proofs")] == [
        "proofs:demand",
        "proofs:believe",
    ]
