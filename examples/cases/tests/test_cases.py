"""Cases over GraphQL and over their HTTP paths, under each strategy."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from uuid import UUID

import httpx
import pytest

from isola.subjects.permissions import Role
from isola.testing.served import Answer, Api, Client

MOVE = """mutation ($id: ID!, $state: CaseState) { updateCase(input: {id: $id, state: $state}) {
  case { state activities { nodes { kind oldState newState author { name } } } } } }"""
COMMENT = """mutation ($input: CommentCaseInput!) { commentCase(input: $input) {
  activity { kind text author { name } } case { activities { totalCount } } } }"""
ASSIGN = "mutation ($input: UpdateCaseInput!) { updateCase(input: $input) { case { assignee { name } } } }"


async def send(client: Client, method: str, path: str = "", tenant: str | None = None, **more: Any) -> httpx.Response:
    headers = {**client.headers, "accept": "application/json"}
    url = f"/api/v1/tenants/{tenant or client.tenant}/cases{path}"
    return await client.http.request(method, url, headers=headers, **more)


async def made(client: Client, **more: Any) -> str:
    response = await send(client, "POST", json={"title": "It does not work", **more})
    assert response.status_code == 201, response.text
    return str(response.json()["id"])


def error(response: httpx.Response) -> Mapping[str, Any]:
    """The single error of a response, with the same guarantees for clients as in GraphQL."""
    answer = Answer(response)
    return {"status": answer.status, "code": answer.code, "message": answer.error["message"]}


async def cases(client: Client) -> Any:
    return (await client.ask("{ cases { nodes { id title state activities { totalCount } } } }")).data["cases"]["nodes"]


async def me(client: Client) -> str:
    return str((await client.ask("{ viewer { user { id } } }")).data["viewer"]["user"]["id"])


async def test_a_case_moves_through_its_states_and_each_move_is_an_activity(alice: Client) -> None:
    case = await made(alice)
    for state in ("OPEN", "WAITING", "SOLVED", "OPEN", "SOLVED", "CLOSED"):
        answer = await alice.ask(MOVE, {"id": case, "state": state})
        assert answer.data["updateCase"]["case"]["state"] == state
    activities = answer.data["updateCase"]["case"]["activities"]["nodes"]
    assert [(each["oldState"], each["newState"]) for each in activities] == [
        ("NEW", "OPEN"),
        ("OPEN", "WAITING"),
        ("WAITING", "SOLVED"),
        ("SOLVED", "OPEN"),
        ("OPEN", "SOLVED"),
        ("SOLVED", "CLOSED"),
    ]
    assert {(each["kind"], each["author"]["name"]) for each in activities} == {("MOVE", "ada")}


@pytest.mark.parametrize(
    ("path", "state", "expected"),
    [
        ([], "WAITING", "a case that is NEW can become OPEN or CLOSED"),
        (["OPEN"], "NEW", "a case that is OPEN can become WAITING or SOLVED"),
        (["CLOSED"], "OPEN", "a case that is CLOSED can become no other one"),
    ],
)
async def test_a_move_that_cannot_follow_is_refused(alice: Client, path: list[str], state: str, expected: str) -> None:
    case = await made(alice)
    for each in path:
        await alice.ask(MOVE, {"id": case, "state": each})
    before = await cases(alice)
    answer = await alice.ask(MOVE, {"id": case, "state": state})
    assert (answer.code, answer.error["message"]) == ("CONFLICT", f"state: {expected}")
    assert answer.error["extensions"]["field"] == "input.state"
    response = await send(alice, "PATCH", f"/{case}", json={"state": state})
    assert error(response) == {"status": 409, "code": "CONFLICT", "message": f"state: {expected}"}
    assert response.json()["errors"][0]["extensions"]["field"] == "state"
    assert await cases(alice) == before


async def test_a_case_stays_in_its_state_without_an_activity(alice: Client) -> None:
    case = await made(alice)
    answer = await alice.ask(MOVE, {"id": case, "state": "NEW"})
    assert answer.data["updateCase"]["case"] == {"state": "NEW", "activities": {"nodes": []}}


async def test_a_case_begins_as_a_new_one(alice: Client) -> None:
    create = 'mutation { createCase(input: {title: "t", state: OPEN}) { case { id } } }'
    answer = await alice.ask(create)
    assert (answer.code, answer.error["message"]) == ("BAD_USER_INPUT", "state: expected NEW, or nothing")
    assert await cases(alice) == []


async def test_comments_are_appended_by_whoever_may_comment(alice: Client, api: Api) -> None:
    case = await made(alice)
    editor = api.client(alice.tenant, "ed", Role.EDITOR)
    for count, text in enumerate(("first", "second"), 1):
        answer = await editor.ask(COMMENT, {"input": {"id": case, "text": text}})
        assert answer.data["commentCase"] == {
            "activity": {"kind": "COMMENT", "text": text, "author": {"name": "ed"}},
            "case": {"activities": {"totalCount": count}},
        }
    viewer = api.client(alice.tenant, "vera", Role.VIEWER)
    assert (await viewer.ask(COMMENT, {"input": {"id": case, "text": "third"}})).code == "FORBIDDEN"
    assert (await editor.ask(COMMENT, {"input": {"id": case, "text": ""}})).code == "BAD_USER_INPUT"
    [found] = await cases(alice)
    assert found["activities"]["totalCount"] == 2


async def test_who_works_on_a_case_may_change_it(alice: Client, api: Api) -> None:
    case = await made(alice)
    editor, other = (api.client(alice.tenant, name, Role.EDITOR) for name in ("ed", "eve"))
    assert (await editor.ask(MOVE, {"id": case, "state": "OPEN"})).code == "FORBIDDEN"
    await alice.ask(ASSIGN, {"input": {"id": case, "assigneeId": await me(editor)}})
    assert (await editor.ask(MOVE, {"id": case, "state": "OPEN"})).data
    assert (await other.ask(MOVE, {"id": case, "state": "SOLVED"})).code == "FORBIDDEN"
    answer = await editor.ask(ASSIGN, {"input": {"id": case, "assigneeId": None}})
    assert answer.data["updateCase"]["case"]["assignee"] is None
    assert (await editor.ask(MOVE, {"id": case, "state": "SOLVED"})).code == "FORBIDDEN"


async def test_paths_list_show_make_and_change_cases(alice: Client) -> None:
    one, two = await made(alice), await made(alice, title="Nor does this", assigneeId=await me(alice))
    assert (await send(alice, "PATCH", f"/{two}", json={"state": "OPEN"})).json()["state"] == "OPEN"

    shown = (await send(alice, "GET", f"/{two}")).json()
    assert (shown["id"], shown["title"], shown["assignee"]["name"]) == (two, "Nor does this", "ada")
    listed = (await send(alice, "GET")).json()
    assert [each["id"] for each in listed["items"]] == [two, one]
    assert listed["totalCount"] == 2
    page = (await send(alice, "GET", params={"first": "1"})).json()
    rest = (await send(alice, "GET", params={"first": "1", "after": page["pageInfo"]["endCursor"]})).json()
    assert [each["id"] for each in page["items"] + rest["items"]] == [two, one]
    assert [each["id"] for each in (await send(alice, "GET", params={"state": "OPEN"})).json()["items"]] == [two]
    assert {each["id"] for each in await cases(alice)} == {one, two}


async def test_cases_are_found_by_the_words_of_title_and_description(alice: Client, bob: Client) -> None:
    printer = await made(alice, title="The printer jams", description="Since Monday, with A3 only.")
    await made(alice, title="The printer is loud")
    await made(bob, title="The printer jams")
    asked = "query ($text: String!) { cases(filter: {search: {text: $text}}) { totalCount nodes { id } } }"
    answer = await alice.ask(asked, {"text": "printers jammed monday"})
    assert answer.data["cases"] == {"totalCount": 1, "nodes": [{"id": printer}]}
    assert (await alice.ask(asked, {"text": "printer"})).data["cases"]["totalCount"] == 2


async def test_cases_of_another_tenant_are_not_there(alice: Client, bob: Client) -> None:
    case = await made(alice)
    nothing = {"status": 404, "code": "NOT_FOUND", "message": "there is no such object"}
    assert error(await send(bob, "GET", f"/{case}")) == nothing
    assert error(await send(bob, "GET", f"/cas_{UUID(int=1)}")) == nothing
    assert error(await send(bob, "PATCH", f"/{case}", json={"title": "mine"}))["code"] == "NOT_FOUND"
    assert (await send(bob, "GET")).json()["items"] == []
    [found] = await cases(alice)
    assert found["title"] == "It does not work"


async def test_a_path_of_another_tenant_is_refused_as_everywhere(alice: Client, bob: Client) -> None:
    refusal = await alice.request("POST", headers={"x-tenant-id": bob.tenant}, json={"query": "{ __typename }"})
    for method, body in (("GET", None), ("POST", {"title": "mine"})):
        for tenant in (bob.tenant, "nobody"):
            response = await send(alice, method, tenant=tenant, json=body)
            assert response.status_code == 403
            assert response.json()["errors"][0]["message"] == refusal.error["message"]
    assert await cases(bob) == []


async def test_who_is_not_known_is_refused(alice: Client) -> None:
    for nobody in (alice.saying(""), alice.saying("Bearer x")):
        response = await send(nobody, "GET")
        assert error(response)["status"] == 401
        assert response.headers["www-authenticate"] == "Bearer"


async def test_who_may_not_is_refused(alice: Client, api: Api) -> None:
    case = await made(alice)
    viewer = api.client(alice.tenant, "vera", Role.VIEWER)
    assert (await send(viewer, "GET", f"/{case}")).status_code == 200
    expected = {"status": 403, "code": "FORBIDDEN", "message": "this needs the permission case:write"}
    assert error(await send(viewer, "POST", json={"title": "t"})) == expected
    assert error(await send(viewer, "PATCH", f"/{case}", json={"title": "t"})) == expected
    assert [each["title"] for each in await cases(alice)] == ["It does not work"]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "body: expected JSON"),
        (b"[]", "body: expected one JSON object"),
        (b'{"title": "t", "reporterId": "usr_"}', "expected no fields but title, description, assigneeId"),
        (b'{"title": ""}', "title: expected 1 to 200 characters, not 0"),
        (b'{"title": 1}', None),
        (b"{}", None),
    ],
)
async def test_a_body_that_does_not_fit_is_refused(alice: Client, body: bytes, message: str | None) -> None:
    problem = error(await send(alice, "POST", content=body))
    assert (problem["status"], problem["code"]) == (400, "BAD_USER_INPUT")
    assert message in {None, problem["message"]}
    assert await cases(alice) == []


@pytest.mark.parametrize(
    "query", ["first=x", "first=1&first=2", "first=101", "state=GONE", "caseId=1", "title=t", "after=x"]
)
async def test_parameters_that_do_not_fit_are_refused(alice: Client, query: str) -> None:
    problem = error(await send(alice, "GET", f"?{query}"))
    assert (problem["status"], problem["code"]) == (400, "BAD_USER_INPUT")


async def test_other_methods_and_media_types_are_refused(alice: Client) -> None:
    response = await send(alice, "DELETE")
    assert (response.status_code, response.headers["allow"]) == (405, "GET, POST, OPTIONS")
    assert (await send(alice, "OPTIONS")).headers["allow"] == "GET, POST, OPTIONS"
    plain = replace(alice, headers={**alice.headers, "content-type": "text/plain"})
    assert (await send(plain, "POST", content=b'{"title": "t"}')).status_code == 415
    picky = {**alice.headers, "accept": "text/html"}
    url = f"/api/v1/tenants/{alice.tenant}/cases"
    assert (await alice.http.get(url, headers=picky)).status_code == 406
    assert (await alice.http.get(f"/api/v1/tenants/{alice.tenant}/casesx", headers=alice.headers)).status_code == 404


async def test_what_a_path_changes_is_in_the_log_with_its_request(alice: Client) -> None:
    named = replace(alice, headers={**alice.headers, "x-request-id": "a-request"})
    response = await send(named, "POST", json={"title": "logged"})
    assert response.headers["x-request-id"] == "a-request"
    [entry] = (await alice.ask("{ auditLog(first: 1) { nodes { action object actor request } } }")).data["auditLog"][
        "nodes"
    ]
    assert (entry["action"], entry["object"]) == ("case:create", response.json()["id"])
    assert (entry["actor"], entry["request"]) == (await me(alice), "a-request")
