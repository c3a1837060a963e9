"""Pages for browsers: who gets them, and what keeps others out of them."""

import hashlib
import re
from collections.abc import AsyncIterator

import httpx
import pytest
from pydantic import SecretStr

from isola.pages.documentation import PATH, Guides
from isola.pages.routes import BUILT
from isola.settings import Settings
from isola.shipped import shipped
from isola.testing.fixtures import Copy
from isola.testing.served import Api, Client, serving

PAGES = [
    "/",
    "/docs",
    "/docs/",
    "/docs/live.md",
    "/docs/none.md",
    "/graphql",
    "/assets/graphiql.js",
    "/assets/operations.json",
]
CHROME = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"
KEY = "a key of a test, which is long enough for HS256"
HTML = "text/html; charset=utf-8"
QUERY = "/graphql?query={__typename}"


async def get(api: Api, path: str, accept: str = CHROME, **headers: str) -> httpx.Response:
    return await api.http.get(path, headers={"accept": accept, **headers})


@pytest.fixture
async def in_production(copy: Copy, settings: Settings) -> AsyncIterator[Api]:
    async with serving(copy, settings.model_copy(update={"production": True, "token_key": SecretStr(KEY)})) as api:
        yield api


@pytest.mark.parametrize("path", PAGES)
async def test_no_page_takes_code_of_others_or_shows_in_their_frames(path: str, standing: Api) -> None:
    answer = await get(standing, path)
    assert answer.status_code == (404 if "none" in path else 200)
    policy = dict(part.split(" ", 1) for part in answer.headers["content-security-policy"].split("; "))
    nonce = re.search(r'nonce="([\w-]+)"', answer.text) if path == "/graphql" else None
    assert policy.pop("style-src") == (f"'self' 'nonce-{nonce[1]}'" if nonce else "'self'")
    assert policy == {
        "default-src": "'none'",
        "script-src": "'self'",
        "img-src": "'self' data:",
        "connect-src": "'self'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["x-frame-options"] == "DENY"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["cross-origin-opener-policy"] == "same-origin"
    assert "set-cookie" not in answer.headers
    if answer.headers["content-type"] == HTML:
        assert not re.search(r"<script(?![^>]* src=)|<style| style=| on\w+=", answer.text)
        loaded = re.findall(r'<(?:script|link|img)[^>]* (?:src|href)="([^"]+)"', answer.text)
        assert {each for each in loaded if not each.startswith(("/assets/", "data:"))} == set()


async def test_every_page_of_graphiql_has_another_nonce(standing: Api) -> None:
    first, second = [(await get(standing, "/graphql")).headers["content-security-policy"] for _ in range(2)]
    assert first != second


async def test_production_has_no_pages(in_production: Api) -> None:
    for path in PAGES:
        answer = await get(in_production, path)
        assert (path, answer.status_code) == (path, 401 if path == "/graphql" else 404)
        assert "html" not in answer.text + answer.headers["content-type"]


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        (CHROME, HTML),
        ("text/html", HTML),
        ("text/html, application/json;q=0.9", HTML),
        ("TEXT/HTML;charset=utf-8", HTML),
        ("text/html, application/json", "application/json"),
        ("text/html;q=0.5, application/graphql-response+json", "application/graphql-response+json"),
        ("text/html;q=0, */*", "application/json"),
        ("*/*", "application/json"),
        ("application/json", "application/json"),
    ],
)
async def test_who_prefers_json_gets_the_answer_to_a_query(accept: str, expected: str, guest: Client) -> None:
    answer = await guest.http.get(QUERY, headers={**guest.headers, "accept": accept})
    assert (answer.status_code, answer.headers["content-type"]) == (200, expected)
    assert ("__typename" in answer.text) == (expected != HTML)
    assert "accept" in answer.headers["vary"].split(", ")


async def test_only_get_and_head_are_answered_with_a_page(guest: Client) -> None:
    sent = await guest.http.post("/graphql", headers={**guest.headers, "accept": "text/html"}, json={"query": "{a}"})
    assert (sent.status_code, sent.headers["vary"]) == (406, "accept")
    head = await guest.http.head("/graphql", headers={"accept": CHROME})
    assert (head.status_code, head.headers["content-type"], head.content) == (200, HTML, b"")


async def test_a_tenant_named_by_the_path_has_the_page_as_well(standing: Api) -> None:
    answer = await get(standing, "/t/any/graphql")
    assert (answer.status_code, answer.headers["content-type"]) == (200, HTML)


@pytest.mark.parametrize("host", ["<script>alert(1)</script>", "[::1", "evil.example", "evil.example:80"])
async def test_the_home_page_has_the_address_of_the_server_and_no_host_of_a_client(host: str, standing: Api) -> None:
    answer = await get(standing, "/", host=host)
    assert answer.status_code == 200
    assert host not in answer.text
    assert f"curl {str(standing.http.base_url).rstrip('/')}/graphql" in answer.text


async def test_only_the_demo_names_tenants(standing: Api) -> None:
    text = (await get(standing, "/")).text
    assert "acme/" not in text
    assert "tenants of this demo" not in text


async def test_the_examples_are_the_trusted_operations(standing: Api) -> None:
    examples = (await get(standing, "/assets/operations.json")).json()
    names = {file.stem for file in standing.settings.trusted_documents.glob("*.graphql")}
    assert {each["name"] for each in examples} == names
    assert {each["kind"] for each in examples} == {"query", "mutation"}


def test_links_between_guides_lead_to_guides() -> None:
    guides = Guides.read(shipped("docs"))
    pages = {f"{PATH}{name}": bytes(found.body).decode() for name in guides.texts if (found := guides.page(name))}
    assert len(pages) == len(guides.texts) > 20
    wrong = [
        (page, href)
        for page, html in pages.items()
        for href in re.findall(r'<a href="([^"]+)"', html.partition("<article>")[2])
        if not href.startswith("http")
        for target, _, anchor in [href.partition("#")]
        if (target or page) not in pages or (anchor and f'id="{anchor}"' not in pages[target or page])
    ]
    assert wrong == []


def test_html_in_a_guide_is_text() -> None:
    found = Guides({"a.md": "# A <b>\n<script>alert(1)</script> [x](javascript:alert(1))"}).page("a.md")
    assert found is not None
    assert not re.search(rb"<script|<b>|href=\"javascript", found.body)


def test_what_is_built_is_built_from_the_sources() -> None:
    digest = hashlib.sha256()
    sources = BUILT.with_name("source")
    for file in sorted(sources.iterdir(), key=lambda file: file.name):
        if file.suffix in {".css", ".js", ".json", ".jsx", ".mjs"}:
            digest.update(file.name.encode() + b"\0" + file.read_bytes() + b"\0")
    assert (BUILT / "sources.sha256").read_text().strip() == digest.hexdigest(), "expected: make graphiql"


def test_licences_and_no_more_than_needed_are_shipped() -> None:
    licences = (BUILT / "LICENSES.txt").read_text()
    assert {name for name in ("graphiql", "react", "react-dom", "codemirror", "graphql") if f"\n{name} " in licences}
    assert {file.name for file in BUILT.iterdir()} == {
        "LICENSES.txt",
        "graphiql.css",
        "graphiql.js",
        "page.css",
        "sources.sha256",
    }
    assert sum(file.stat().st_size for file in BUILT.iterdir()) < 1_700_000
