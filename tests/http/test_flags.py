"""Flags over HTTP: a front end asks once for all of them, for its user or for a key."""

import hashlib
from typing import Any

from isola.testing.served import Client

CREATE = "mutation ($input: CreateFlagInput!) { createFlag(input: $input) { flag { id name state percentage on } } }"
UPDATE = "mutation ($input: UpdateFlagInput!) { updateFlag(input: $input) { flag { percentage on } } }"
VALUES = "query ($key: String) { flagValues(key: $key) { name on } viewer { user { id } } }"
LISTED = "{ flags { nodes { name on } } }"


def is_below(flag: str, key: str, percentage: int) -> bool:
    return int.from_bytes(hashlib.sha256(f"{flag}:{key}".encode()).digest()[:4], "big") * 100 >> 32 < percentage


async def test_flags_are_evaluated_for_the_caller_and_for_a_key(alice: Client, eve: Client, bob: Client) -> None:
    made: dict[str, Any] = {}
    for given in (
        {"name": "checkout.new", "state": "PERCENTAGE", "percentage": 37},
        {"name": "beta", "state": "ON"},
        {"name": "dark", "percentage": 100},
    ):
        made[str(given["name"])] = (await alice.ask(CREATE, {"input": given})).data["createFlag"]["flag"]
    assert (made["dark"]["state"], made["dark"]["on"]) == ("OFF", False)

    for client in (alice, eve):
        answer = (await client.ask(VALUES)).data
        key = answer["viewer"]["user"]["id"]
        assert answer["flagValues"] == [
            {"name": "beta", "on": True},
            {"name": "checkout.new", "on": is_below(made["checkout.new"]["id"], key, 37)},
            {"name": "dark", "on": False},
        ]
        assert (await client.ask(LISTED)).data == {"flags": {"nodes": answer["flagValues"]}}
    for number in range(20):
        answer = (await eve.ask(VALUES, {"key": f"customer-{number}"})).data
        expected = is_below(made["checkout.new"]["id"], f"customer-{number}", 37)
        assert answer["flagValues"][1] == {"name": "checkout.new", "on": expected}
    assert (await bob.ask(VALUES)).data["flagValues"] == []


async def test_changes_of_flags_are_checked_and_logged(alice: Client, eve: Client) -> None:
    refused = await eve.ask(CREATE, {"input": {"name": "new"}})
    assert (refused.code, refused.error["message"]) == ("FORBIDDEN", "this needs the permission flag:manage")
    flag = (await alice.ask(CREATE, {"input": {"name": "new"}})).data["createFlag"]["flag"]["id"]
    for given, field in (({"percentage": 101}, "percentage"), ({"name": "New"}, "name")):
        wrong = await alice.ask(UPDATE, {"input": {"id": flag, **given}})
        assert (wrong.code, wrong.error["extensions"]["field"]) == ("BAD_USER_INPUT", f"input.{field}")
    assert (await alice.ask(CREATE, {"input": {"name": "new"}})).code == "CONFLICT"
    for key in ("", "k" * 201, "\x00"):
        assert (await eve.ask(VALUES, {"key": key})).code == "BAD_USER_INPUT"
    changed = await alice.ask(UPDATE, {"input": {"id": flag, "state": "ON"}})
    assert changed.data["updateFlag"]["flag"] == {"percentage": 0, "on": True}

    log = (await alice.ask("{ auditLog(first: 2) { nodes { action object } } }")).data["auditLog"]["nodes"]
    assert log == [{"action": f"flag:{verb}", "object": flag} for verb in ("update", "create")]
