"""``isola incident``."""

import json

from tests.cli.processes import Place


def test_incidents_are_opened_noted_closed_and_listed(awake: Place) -> None:
    key = awake.run(
        *("incident", "open", "A key was stolen", "--severity", "high", "--tenant", "globex", "--show-to", "acme")
    ).strip()
    awake.run("incident", "note", key, "The key is revoked.", "--shown")
    assert "A key was stolen" in awake.run("incident", "list", "--open")
    awake.run("incident", "close", key, "No data was read.")

    [found] = json.loads(awake.run("incident", "list", "--json"))
    assert (found["severity"], found["tenants"], found["shown_to"]) == ("high", ["acme", "globex"], ["acme"])
    assert [(each["text"], each["shown"]) for each in found["notes"]] == [
        ("The key is revoked.", True),
        ("No data was read.", False),
    ]
    assert json.loads(awake.run("incident", "list", "--open", "--json")) == []
    assert "the incident is closed already" in awake.fail("incident", "close", key)
    assert "there is no such incident: 'zwvxqj'" in awake.fail("incident", "note", "zwvxqj", "x")
