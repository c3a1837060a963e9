"""Security incidents: staff open, note and close them; a tenant sees what they show it, and nothing else of them."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from isola.platform import platform_log
from isola.settings import Settings
from isola.subjects.permissions import Role
from isola.testing.fixtures import Copy
from isola.testing.served import Api, serving
from isola_strategies.base import Strategy
from tests.http.staff import StaffClient, admitting, token

OPEN = """mutation ($title: String!, $tenants: [String!], $showTo: [String!], $text: String!) {
  openIncident(title: $title, severity: HIGH, tenants: $tenants, showTo: $showTo, text: $text) {
    id tenants shownTo openedBy closedAt notes { text shown } } }"""
NOTE = """mutation ($id: ID!, $text: String!, $entries: [ID!], $shown: Boolean!, $showTo: [String!]) {
  noteIncident(incident: $id, text: $text, entries: $entries, shown: $shown, showTo: $showTo) {
    shownTo notes { text entries shown notedBy } } }"""
CLOSE = "mutation ($id: ID!) { closeIncident(incident: $id) { closedAt } }"
EVERY = "query ($open: Boolean) { incidents(open: $open) { id title severity } }"
SEEN = "{ incidents { nodes { title severity openedAt closedAt notes { nodes { text notedAt } } } } }"
ENTRY = "01a22db6-ef8d-7949-aa8a-d405cee6ba2b"


@pytest.fixture
async def api(copy: Copy, settings: Settings) -> AsyncIterator[Api]:
    async with serving(copy, admitting(settings)) as api:
        yield api


@pytest.fixture
def sam(api: Api) -> StaffClient:
    return StaffClient(api.http, token())


async def opened(sam: StaffClient, *tenants: str, show_to: tuple[str, ...] = ()) -> Any:
    asked: dict[str, Any] = {"title": "A key was stolen", "tenants": tenants, "showTo": show_to, "text": "Internal"}
    return (await sam.ask(OPEN, **asked)).data["openIncident"]


async def test_a_tenant_sees_what_staff_show_it_and_nothing_else(
    api: Api, sam: StaffClient, strategy: Strategy
) -> None:
    a, b = f"{strategy.name}-a", f"{strategy.name}-b"
    made = await opened(sam, b, show_to=(a,))
    assert (made["tenants"], made["shownTo"], made["closedAt"]) == ([a, b], [a], None)
    shown = {"id": made["id"], "text": "The key is revoked.", "shown": True, "entries": [f"aud_{ENTRY}"]}
    noted = (await sam.ask(NOTE, **shown)).data["noteIncident"]
    assert noted["notes"][1] == {"text": shown["text"], "entries": [ENTRY], "shown": True, "notedBy": "staff:sam"}

    [seen] = (await api.client(a).ask(SEEN)).data["incidents"]["nodes"]
    assert (seen["title"], seen["severity"], seen["closedAt"]) == ("A key was stolen", "HIGH", None)
    assert [each["text"] for each in seen["notes"]["nodes"]] == ["The key is revoked."]
    assert (await api.client(b).ask(SEEN)).data == {"incidents": {"nodes": []}}
    assert (await api.client(a, "eve", Role.EDITOR).ask(SEEN)).code == "FORBIDDEN"

    await sam.ask(NOTE, id=made["id"], text="", shown=False, showTo=[b])
    assert (await sam.ask(CLOSE, id=made["id"])).data["closeIncident"]["closedAt"] is not None
    [seen] = (await api.client(b).ask(SEEN)).data["incidents"]["nodes"]
    assert seen["closedAt"] is not None


async def test_each_step_is_in_the_platforms_log(api: Api, sam: StaffClient, strategy: Strategy) -> None:
    made = await opened(sam, f"{strategy.name}-a")
    await sam.ask(NOTE, id=made["id"], text="Seen", shown=False, entries=[ENTRY])
    await sam.ask(CLOSE, id=made["id"])

    log = await platform_log.page(api.control, object=f"incident:{made['id']}")
    assert [(each.action, each.actor) for each in log] == [
        ("incident:close", "staff:sam"),
        ("incident:note", "staff:sam"),
        ("incident:open", "staff:sam"),
    ]
    assert log[1].new == {"text": "Seen", "entries": [ENTRY], "shown": False}
    assert log[2].new
    assert (log[2].new["title"], log[2].new["tenants"]) == ("A key was stolen", [f"{strategy.name}-a"])
    assert (await sam.ask(EVERY, open=True)).data == {"incidents": []}
    listed = (await sam.ask(EVERY, open=False)).data["incidents"]
    assert listed == [{"id": made["id"], "title": "A key was stolen", "severity": "HIGH"}]


async def test_invalid_steps_are_refused_and_nothing_is_half_done(
    api: Api, sam: StaffClient, strategy: Strategy
) -> None:
    made = await opened(sam)
    invalid: list[tuple[dict[str, Any], str, str]] = [
        ({"title": "x\ty"}, "BAD_USER_INPUT", "title: expected 1 to 200 printable characters"),
        ({"tenants": [f"{strategy.name}-a", "zwvxqj"]}, "NOT_FOUND", "there is no such tenant"),
        ({"text": "x" * 4001}, "BAD_USER_INPUT", "text: expected at most 4000 printable characters"),
    ]
    for fields, code, message in invalid:
        error = (await sam.ask(OPEN, **{"title": "Again", "text": "", **fields})).error
        assert (error["extensions"]["code"], error["message"]) == (code, message)
    note: dict[str, Any] = {"id": made["id"], "text": "x", "shown": False}
    for fields, code in (
        ({"entries": ["Zwvxqj"]}, "BAD_USER_INPUT"),
        ({"text": " "}, "BAD_USER_INPUT"),
        ({"id": "Zwvxqj"}, "NOT_FOUND"),
        ({"id": ENTRY}, "NOT_FOUND"),
    ):
        assert (await sam.ask(NOTE, **{**note, **fields})).code == code
    assert (await sam.ask(CLOSE, id=made["id"])).data
    assert (await sam.ask(CLOSE, id=made["id"])).code == "CONFLICT"
    assert len((await sam.ask(EVERY)).data["incidents"]) == 1
    assert len(await platform_log.page(api.control, object=f"incident:{made['id']}")) == 2
