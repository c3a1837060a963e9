"""Refresh tokens in a cookie, which only pages of the server itself and of allowed origins can use."""

from collections.abc import AsyncIterator, Mapping
from http.cookies import SimpleCookie
from pathlib import Path
from typing import Any

import pytest

from isola.errors import OperatorError
from isola.identity import passwords
from isola.identity.cookies import NAME
from isola.identity.passwords import Person, hashed
from isola.platform import sessions
from isola.settings import Settings
from isola.testing.fixtures import DEFAULTS, STRATEGIES, Copy
from isola.testing.served import OPERATIONS, Answer, Api, serving
from isola_strategies.base import Strategy
from tests.http.people import ask, client, refresh, run, session, sign_in

PASSWORD = "correct horse battery staple"
ORIGIN = "https://app.example.com"
OWN = {"x-session-cookie": "1", "sec-fetch-site": "same-origin"}


@pytest.fixture(scope="session")
def person() -> Person:
    return Person(password=hashed(PASSWORD))


@pytest.fixture
def settings(tmp_path: Path, person: Person, strategy: Strategy) -> Settings:
    """The sessions of A may have cookies, those of B may not."""
    file = tmp_path / "people.json"
    passwords.write(file, {f"{strategy}-{tenant}": {"ada": person} for strategy in STRATEGIES for tenant in "ab"})
    own = {"development_passwords": file, "session_cookie_tenants": frozenset({f"{strategy.name}-a"})}
    return DEFAULTS.model_copy(update={"data_dir": tmp_path, "cors_origins": [ORIGIN], **own})


@pytest.fixture
async def api(copy: Copy, settings: Settings) -> AsyncIterator[Api]:
    async with serving(copy, settings) as api:
        yield api


async def browse(
    api: Api, operation: str, cookie: str | None = None, headers: Mapping[str, str] = OWN, **input_: Any
) -> Answer:
    """Run an operation as a page does whose browser has this cookie."""
    sent = {} if cookie is None else {"cookie": f"theme=dark; {NAME}={cookie}; a=b"}
    return await ask(api, OPERATIONS[operation], {"input": input_}, **headers, **sent)


async def enter(api: Api, tenant: str) -> Answer:
    return await browse(api, "SignIn", tenant=tenant, login="ada", password=PASSWORD)


def kept(answer: Answer) -> str:
    """The cookie that the browser has from now on; empty if it is to forget it."""
    [header] = answer.response.headers.get_list("set-cookie")
    [morsel] = SimpleCookie(header).values()
    assert morsel.key == NAME == "__Host-isola-refresh"
    assert (morsel["path"], morsel["samesite"], morsel["domain"]) == ("/", "Strict", "")
    assert morsel["secure"]
    assert morsel["httponly"]
    assert (int(morsel["max-age"]) > 0) == bool(morsel.value)
    return morsel.value


def keeps_nothing(answer: Answer) -> bool:
    return "set-cookie" not in answer.response.headers


async def test_a_session_lives_in_the_cookie_from_sign_in_to_sign_out(api: Api, tenant: str) -> None:
    answers = [await enter(api, tenant)]
    for _ in range(2):
        answers.append(await browse(api, "RefreshSession", kept(answers[-1])))

    cookies = [kept(answer) for answer in answers]
    assert len(set(cookies)) == 3
    for answer in answers:
        assert session(answer.data).refresh_token is None
        assert "isr_" not in answer.response.text
        assert (await client(api, tenant, session(answer.data)).run("Viewer")).status == 200
    lifetime = int(SimpleCookie(answers[0].response.headers["set-cookie"])[NAME]["max-age"])
    assert lifetime == api.settings.session_idle
    signed_out = await browse(api, "SignOut", cookies[-1])
    assert signed_out.data == {"signOut": {"signedOut": True}}
    assert kept(signed_out) == ""
    refused = await browse(api, "RefreshSession", cookies[-1])
    assert (refused.code, kept(refused)) == ("UNAUTHENTICATED", "")


ELSEWHERE: Mapping[str, Mapping[str, str]] = {
    "another site": {"sec-fetch-site": "cross-site", "origin": "https://evil.example"},
    "another host of the site": {"sec-fetch-site": "same-site", "origin": "http://evil.localhost"},
    "no page": {"sec-fetch-site": "none"},
    "another site, without its name": {"sec-fetch-site": "cross-site"},
    "an old browser": {"origin": "https://evil.example"},
    "an old browser with a hidden origin": {"origin": "null"},
    "nothing that a browser says": {},
    "an origin that begins with an allowed one": {"origin": f"{ORIGIN}.evil.example"},
    "two sites": {"sec-fetch-site": "same-origin, same-origin"},
}


async def test_other_sites_cannot_use_the_cookie(api: Api, tenant: str) -> None:
    cookie = kept(await enter(api, tenant))
    async with api.control.unbound() as work:
        before = await work.texts("SELECT t::text FROM control.refresh_tokens t")

    for name, headers in ELSEWHERE.items():
        sent = {"x-session-cookie": "1", **headers}
        right = {"tenant": tenant, "login": "ada", "password": PASSWORD}
        for operation, input_ in (("RefreshSession", {}), ("SignOut", {}), ("SignIn", right)):
            refused = await browse(api, operation, cookie, sent, **input_)
            assert (refused.code, keeps_nothing(refused)) == ("FORBIDDEN", True), name
            assert "pages of this server" in refused.error["message"]
    async with api.control.unbound() as work:
        assert await work.texts("SELECT t::text FROM control.refresh_tokens t") == before

    here = f"http://{api.http.base_url.netloc.decode()}"
    for headers in ({"sec-fetch-site": "cross-site", "origin": ORIGIN}, {"origin": ORIGIN}, {"origin": here}, OWN):
        cookie = kept(await browse(api, "RefreshSession", cookie, {"x-session-cookie": "1", **headers}))


async def test_without_the_header_there_is_no_cookie(api: Api, tenant: str) -> None:
    cookie = kept(await enter(api, tenant))
    plain = {"sec-fetch-site": "same-origin"}

    for operation in ("RefreshSession", "SignOut"):
        ignored = await browse(api, operation, cookie, plain)
        assert (ignored.code, ignored.error["extensions"]["field"]) == ("BAD_USER_INPUT", "input.refreshToken")
        both = await browse(api, operation, cookie, refreshToken=cookie)
        assert (both.code, both.error["extensions"]["field"]) == ("BAD_USER_INPUT", "input.refreshToken")
        assert keeps_nothing(ignored)
        assert keeps_nothing(both)
    signed_in = await browse(api, "SignIn", cookie, plain, tenant=tenant, login="ada", password=PASSWORD)
    assert keeps_nothing(signed_in)
    assert await refresh(api, session(signed_in.data).refresh_token)
    twice = await ask(
        api, OPERATIONS["RefreshSession"], {"input": {}}, **OWN, cookie=f"{NAME}={cookie}; {NAME}={cookie}"
    )
    assert (twice.code, keeps_nothing(twice)) == ("BAD_USER_INPUT", True)
    for nothing in (None, "", "isr_nonsense"):
        refused = await browse(api, "RefreshSession", nothing)
        assert (refused.code, kept(refused)) == ("UNAUTHENTICATED", "")
    assert kept(await browse(api, "RefreshSession", cookie))


async def test_tenants_without_the_option_never_get_a_cookie(
    copy: Copy, api: Api, settings: Settings, tenant: str, other_tenant: str
) -> None:
    wrong = await browse(api, "SignIn", tenant=other_tenant, login="ada", password="wrong")
    assert (wrong.code, keeps_nothing(wrong)) == ("UNAUTHENTICATED", True)
    refused = await enter(api, other_tenant)
    assert (refused.code, keeps_nothing(refused)) == ("FORBIDDEN", True)
    assert refused.error["message"] == "sessions of this tenant are not kept in cookies"
    async with api.control.unbound() as work:
        assert await work.value("SELECT count(*) FROM control.sessions") == 0
    plain = await sign_in(api, other_tenant, "ada", PASSWORD)
    # A browser cannot move the token of a session without a cookie into one.
    moved = await browse(api, "RefreshSession", plain.refresh_token)
    assert (moved.code, kept(moved)) == ("FORBIDDEN", "")
    assert (await run(api, "RefreshSession", refreshToken=plain.refresh_token)).code == "UNAUTHENTICATED"

    cookie = kept(await enter(api, tenant))
    async with serving(copy, settings.model_copy(update={"session_cookie_tenants": frozenset({"*"})})) as every:
        assert kept(await enter(every, other_tenant))
    async with serving(copy, settings.model_copy(update={"session_cookie_tenants": frozenset()})) as none:
        ended = await browse(none, "RefreshSession", cookie)
        assert (ended.code, kept(ended)) == ("FORBIDDEN", "")
    assert (await browse(api, "RefreshSession", cookie)).code == "UNAUTHENTICATED"


async def test_the_cookie_is_in_no_log(
    api: Api, tenant: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    cookie = kept(await enter(api, tenant))

    async def fail(*_: object) -> None:
        raise ZeroDivisionError

    with monkeypatch.context() as patched:
        patched.setattr(sessions, "refresh", fail)
        assert (await browse(api, "RefreshSession", cookie)).code == "INTERNAL"
    cookie = kept(await browse(api, "RefreshSession", cookie))
    assert (await browse(api, "SignOut", cookie)).data

    said = "".join(capfd.readouterr())
    assert "ZeroDivisionError" in said
    assert "isr_" not in said
    assert cookie[4:20] not in said


async def test_pages_of_allowed_origins_may_send_cookies_only_if_there_are_any(
    copy: Copy, api: Api, settings: Settings
) -> None:
    asked = {
        "origin": ORIGIN,
        "access-control-request-method": "POST",
        "access-control-request-headers": "content-type, x-session-cookie",
    }
    allowed = await api.http.options("/graphql", headers=asked)
    assert allowed.headers["access-control-allow-credentials"] == "true"
    assert allowed.headers["access-control-allow-origin"] == ORIGIN
    assert (await api.http.options("/graphql", headers={**asked, "origin": "https://evil.example"})).status_code == 400
    async with serving(copy, settings.model_copy(update={"session_cookie_tenants": frozenset()})) as none:
        refused = await none.http.options("/graphql", headers=asked)
        assert refused.status_code == 400
        assert "access-control-allow-credentials" not in refused.headers
    with pytest.raises(OperatorError, match="ISOLA_CORS_ORIGINS"):
        async with serving(copy, settings.model_copy(update={"cors_origins": ["*"]})):
            pytest.fail("it serves")
