"""Media types, encodings, compression, and CORS."""

import gzip
from collections.abc import AsyncIterator

import pytest

from isola.database.transactions import Database
from isola.testing.fixtures import Copy
from isola.testing.served import Api, Client, serving

QUERY = b'{"query": "{ __typename }"}'
LARGE = "{ resources(first: 100) { nodes { id name data } } }"
ORIGIN = "https://app.example.com"


@pytest.mark.parametrize(
    "content_type",
    [
        "application/json",
        "application/json; charset=utf-8",
        "application/json; charset=utf-8;",
        'Application/JSON;charset="UTF-8"',
        "application/json ; charset=utf8; profile=x",
        "application/json;odata=verbose",
    ],
)
async def test_json_is_accepted_with_any_parameters(content_type: str, guest: Client) -> None:
    assert (await guest.send(QUERY, content_type=content_type)).data == {"__typename": "Query"}


@pytest.mark.parametrize(
    "content_type",
    [
        "application/json; CHARSET=UTF-16",
        "application/json; charset=latin-1",
        "application/json; charset=utf-8; charset=utf-16",
        "application/json; charset*=utf-8''utf-16",
        "application/json; charset",
        "application/json, text/plain",
        "text/json",
        "text/plain; x=application/json",
        "application/jsonp",
        "json",
    ],
)
async def test_other_content_types_are_refused(content_type: str, guest: Client) -> None:
    refused = await guest.send(QUERY, content_type=content_type)
    assert (refused.status, refused.error["message"]) == (415, "content-type: expected application/json in UTF-8")


async def test_a_compressed_body_is_refused_by_name_and_a_byte_order_mark_is_none_of_its_content(guest: Client) -> None:
    refused = await guest.send(gzip.compress(QUERY), content_encoding="gzip")
    assert (refused.status, refused.error["message"]) == (415, "content-encoding: expected none")
    twice = [*guest.headers.items(), ("content-encoding", "identity"), ("content-encoding", "gzip")]
    assert (await guest.http.post("/graphql", content=QUERY, headers=twice)).status_code == 415
    assert (await guest.send(QUERY, content_encoding="identity")).data == {"__typename": "Query"}
    assert (await guest.send(b"\xef\xbb\xbf" + QUERY)).data == {"__typename": "Query"}


async def test_large_responses_to_queries_are_compressed_if_accepted(alice: Client) -> None:
    for number in range(60):
        await alice.create(f"resource {number}", data={"text": "the same in each"})
    plain = await alice.request("POST", json={"query": LARGE}, headers={"accept-encoding": "identity"})
    packed = await alice.request("POST", json={"query": LARGE}, headers={"accept-encoding": "gzip;q=1.0, br"})
    refused = await alice.request("POST", json={"query": LARGE}, headers={"accept-encoding": "gzip;q=0"})
    assert packed.data == plain.data == refused.data
    assert packed.response.headers["content-encoding"] == "gzip"
    assert int(packed.response.headers["content-length"]) < len(plain.response.content) / 2
    assert "content-encoding" not in plain.response.headers
    assert "content-encoding" not in refused.response.headers
    assert packed.response.headers["vary"] == "accept, accept-encoding"


async def test_small_answers_and_those_of_mutations_are_not_compressed(alice: Client) -> None:
    small = await alice.ask("{ __typename }")
    document = 'mutation ($d: JSON!) { createResource(input: {name: "x", data: $d}) { resource { data } } }'
    made = await alice.ask(document, {"d": "x" * 10_000})
    assert len(made.response.content) > 10_000
    for answer in (small, made):
        assert "content-encoding" not in answer.response.headers


@pytest.fixture
async def open_to_pages(copy: Copy, api: Api) -> AsyncIterator[Api]:
    settings = api.settings.model_copy(update={"cors_origins": [ORIGIN], "cors_headers": ["x-trace"]})
    async with serving(copy, settings) as server:
        yield server


async def test_pages_of_origins_that_are_set_may_call(open_to_pages: Api, alice: Client) -> None:
    asked = {
        "origin": ORIGIN,
        "access-control-request-method": "POST",
        "access-control-request-headers": "authorization, content-type, x-trace",
    }
    preflight = await open_to_pages.http.options("/graphql", headers=asked)
    assert (preflight.status_code, preflight.headers["access-control-allow-origin"]) == (200, ORIGIN)
    headers = {**alice.headers, "origin": ORIGIN}
    answer = await open_to_pages.http.post("/graphql", content=QUERY, headers=headers)
    exposed = answer.headers["access-control-expose-headers"].lower()
    assert {"x-request-id", "retry-after"} <= set(exposed.split(", "))
    assert preflight.headers["access-control-max-age"] == "600"


async def test_a_preflight_where_no_origins_are_set_allows_nothing_and_needs_no_credential(
    guest: Client,
) -> None:
    headers = {"origin": ORIGIN, "access-control-request-method": "POST"}
    preflight = await guest.http.options("/graphql", headers=headers)
    assert preflight.status_code == 204
    assert not [name for name in preflight.headers if name.startswith("access-control")]
    assert preflight.headers["allow"] == "GET, POST, OPTIONS"


@pytest.mark.parametrize("path", ["/graphql/", "/graphql//", "/livez/", "/t/acme/graphql/", "//x.example/graphql/"])
async def test_nothing_is_redirected(path: str, guest: Client) -> None:
    answer = await guest.http.post(path, content=QUERY, headers={**guest.headers, "host": "elsewhere.example"})
    assert answer.status_code not in range(300, 400)
    assert "location" not in answer.headers


async def test_a_trailing_slash_is_ignored(alice: Client) -> None:
    answer = await alice.http.post("/graphql/", content=QUERY, headers=alice.headers)
    assert answer.json() == {"data": {"__typename": "Query"}}


async def test_a_server_is_not_ready_while_its_database_is_read_only(copy: Copy, owner: Database, api: Api) -> None:
    assert (await api.http.get("/readyz")).status_code == 200
    async with owner.unbound() as work:
        name = await work.value("SELECT quote_ident(current_database())")
        await work.script(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    async with serving(copy, api.settings.model_copy(update={"directory_ttl": 0})) as server:
        answer = await server.http.get("/readyz")
    assert (answer.status_code, answer.json()["reason"]) == (503, "the database is read-only")
