"""HTTP requests that violate GraphQL over HTTP."""

import json

import pytest

from isola.testing.served import GRAPHQL_JSON, OPERATIONS, Api, Client

QUERY = b'{"query": "{ __typename }"}'
TOO_MUCH = 1_000_001

BODIES = {
    "empty": (b"", "body"),
    "not JSON": (b"query { viewer }", "body"),
    "cut off": (b'{"query": "{ __type', "body"),
    "not UTF-8": b'{"query": "\xff\xfe"}',
    "NaN": (b'{"query": "{ __typename }", "variables": {"a": NaN}}', "body"),
    "nested beyond reason": (b'{"variables": ' + b"[" * 100_000, "body"),
    "an endless exponent": (b'{"variables": {"a": 1e9999999999999999999}}', "body"),
    "null": (b"null", "body"),
    "text": (b'"{ __typename }"', "body"),
    "batch": (b"[" + QUERY + b"]", "batches"),
    "no query": (b"{}", "query"),
    "query of a wrong type": (b'{"query": ["{ __typename }"]}', "query"),
    "variables of a wrong type": (b'{"query": "{ __typename }", "variables": [1]}', "variables"),
    "operationName of a wrong type": (b'{"query": "{ __typename }", "operationName": 1}', "operationName"),
    "extensions of a wrong type": (b'{"query": "{ __typename }", "extensions": "x"}', "extensions"),
    "unfit hash": (b'{"extensions": {"persistedQuery": {"sha256Hash": 1}}}', "sha256Hash"),
}


@pytest.mark.parametrize("case", BODIES.values(), ids=BODIES)
async def test_a_body_that_is_not_a_request_is_refused(guest: Client, case: bytes | tuple[bytes, str]) -> None:
    body, named = (case, "body") if isinstance(case, bytes) else case

    refused = await guest.send(body)

    assert (refused.status, refused.code) == (400, "BAD_USER_INPUT")
    assert named in refused.error["message"]
    assert refused.response.headers["content-type"] == GRAPHQL_JSON


@pytest.mark.parametrize("declared", [True, False], ids=["declared", "streamed"])
async def test_a_body_that_is_too_large_is_refused(guest: Client, *, declared: bool) -> None:
    async def stream() -> object:
        for _ in range(0, TOO_MUCH, 100_000):
            yield b"x" * 100_000

    refused = await guest.request("POST", content=b"x" * TOO_MUCH if declared else stream())

    assert (refused.status, refused.code) == (413, "BAD_USER_INPUT")
    assert "1000000" in refused.error["message"]


@pytest.mark.parametrize("content_type", ["text/plain", "application/graphql", "application/json; charset=latin-1", ""])
async def test_a_content_type_other_than_json_in_utf_8_is_refused(guest: Client, content_type: str) -> None:
    refused = await guest.send(QUERY, content_type=content_type)

    assert (refused.status, refused.code) == (415, "BAD_USER_INPUT")
    assert "content-type" in refused.error["message"]


@pytest.mark.parametrize(
    "content_type", ["application/json", "Application/JSON;charset=UTF-8", 'application/json; charset="utf-8"']
)
async def test_json_in_utf_8_is_accepted_in_any_spelling(guest: Client, content_type: str) -> None:
    assert (await guest.send(QUERY, content_type=content_type)).data == {"__typename": "Query"}


@pytest.mark.parametrize("accept", ["text/html", "image/*", "application/json;q=0", "application/xml, text/*;q=0.5"])
async def test_a_media_type_that_the_client_does_not_accept_is_not_sent(guest: Client, accept: str) -> None:
    refused = await guest.send(QUERY, accept=accept)

    assert (refused.status, refused.code) == (406, "BAD_USER_INPUT")
    assert GRAPHQL_JSON in refused.error["message"]


@pytest.mark.parametrize(
    ("accept", "given"),
    [
        ("", "application/json"),
        ("*/*", "application/json"),
        ("application/*", "application/json"),
        ("application/json", "application/json"),
        ("text/html, application/json;q=0.9", "application/json"),
        (f"{GRAPHQL_JSON}, application/json;q=0.9", GRAPHQL_JSON),
        (f"{GRAPHQL_JSON};q=0, application/json", "application/json"),
        (f"{GRAPHQL_JSON}; charset=utf-8", GRAPHQL_JSON),
    ],
)
async def test_the_answer_is_of_a_type_that_the_client_accepts(guest: Client, accept: str, given: str) -> None:
    answer = await guest.send(QUERY, accept=accept)

    assert answer.data == {"__typename": "Query"}
    assert answer.response.headers["content-type"] == given


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE", "HEAD"])
async def test_other_methods_than_get_and_post_are_refused(guest: Client, method: str) -> None:
    refused = await guest.request(method, content=QUERY)

    assert refused.status == 405
    assert refused.response.headers["allow"] == "GET, POST, OPTIONS"
    if method != "HEAD":
        assert refused.code == "BAD_USER_INPUT"


async def test_get_executes_queries(guest: Client) -> None:
    found = await guest.request(
        "GET", params={"query": OPERATIONS["Resources"], "variables": '{"first": 1}', "operationName": "Resources"}
    )

    assert len(found.data["resources"]["nodes"]) == 1
    assert found.response.headers["cache-control"] == "no-store"


async def test_get_refuses_mutations(guest: Client) -> None:
    variables = json.dumps({"input": {"name": "by GET"}})

    refused = await guest.request("GET", params={"query": OPERATIONS["CreateResource"], "variables": variables})

    assert (refused.status, refused.code) == (405, "BAD_USER_INPUT")
    assert refused.response.headers["allow"] == "GET, POST, OPTIONS"


@pytest.mark.parametrize(
    ("params", "named"),
    [({}, "query"), ({"query": "{ __typename }", "variables": "{"}, "variables"), ({"query": "{"}, "Syntax Error")],
)
async def test_get_with_bad_parameters_names_them(guest: Client, params: dict[str, str], named: str) -> None:
    refused = await guest.request("GET", params=params)

    assert (refused.status, refused.code) == (400, "BAD_USER_INPUT")
    assert named in refused.error["message"]


async def test_the_server_reports_liveness_and_readiness(standing: Api) -> None:
    for question, answer in (("/livez", "alive"), ("/readyz", "ready")):
        told = await standing.http.get(question)
        assert (told.status_code, told.json()) == (200, {"status": answer})
