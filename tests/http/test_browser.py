"""GraphiQL in a browser: signing in, a query, a subscription; and sessions in a cookie. It needs Chromium and npm.

Without them the test is skipped, but not in CI.
"""

import asyncio
import json
import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from isola.identity import passwords
from isola.identity.passwords import Person, hashed
from isola.settings import Settings
from isola.subjects.permissions import Role
from isola.testing.fixtures import DEFAULTS, Copy
from isola.testing.served import Api, serving
from tests.http import npm

FOLDER = Path(__file__).with_name("browser")
PASSWORD = "correct horse battery staple"
TENANT = "rls-a"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    file = tmp_path / "people.json"
    ada = Person(password=hashed(PASSWORD), name="Ada Lovelace", role=Role.EDITOR)
    passwords.write(file, {TENANT: {"ada": ada}})
    cookies = {"session_cookie_tenants": frozenset({TENANT})}
    return DEFAULTS.model_copy(update={"data_dir": tmp_path, "development_passwords": file, **cookies})


@pytest.fixture
async def api(copy: Copy, settings: Settings) -> AsyncIterator[Api]:
    async with serving(copy, settings) as api:
        yield api


def chromium() -> str:
    program = shutil.which("chromium")
    if program is None:
        if os.environ.get("CI"):
            pytest.fail("Chromium is not installed")
        pytest.skip("Chromium is not installed")
    return program


async def test_a_person_signs_in_queries_and_follows_changes(api: Api) -> None:
    grace = api.client(TENANT, "grace", Role.EDITOR)
    token = grace.headers["authorization"].removeprefix("Bearer ")
    url = str(api.http.base_url).rstrip("/")
    arguments = [chromium(), url, TENANT, "ada", PASSWORD, token]
    process = await asyncio.create_subprocess_exec(
        npm.node(FOLDER),
        "graphiql.mjs",
        *arguments,
        cwd=FOLDER,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    printed, said = await process.communicate()

    assert process.returncode == 0, said.decode()
    seen: dict[str, Any] = json.loads(printed)
    # Nothing was loaded from elsewhere, nothing needed more than the policy allows.
    assert (seen["foreign"], seen["violations"], seen["errors"]) == ([], [], [])
    assert seen["refused"] == "the tenant, the login or the password is wrong"
    assert "Ada Lovelace" in seen["user"]
    assert "CREATED" in seen["event"]
    # A credential is kept only if the user asked for it, and then until they sign out.
    assert not any(secret in seen["unremembered"] for secret in ("eyJ", "accessToken", PASSWORD))
    assert token in seen["remembered"]
    assert token not in seen["signedOut"]
    # Scripts do not see the cookie; tabs share it; other sites cannot use it.
    renewed = {"data": {"refreshSession": {"session": {"refreshToken": None}}}}
    assert seen["cookieSignedIn"] == {"data": {"signIn": {"session": {"refreshToken": None}}}}
    assert "isola-refresh" not in seen["cookieStored"]
    assert [*seen["cookieTabs"], seen["cookieElsewhere"], seen["cookieKept"]] == [
        renewed,
        renewed,
        "TypeError",
        renewed,
    ]
    assert seen["cookieSignedOut"] == {"data": {"signOut": {"signedOut": True}}}
    assert seen["cookiesLeft"] == 0
    assert (await grace.ask("{ resources { totalCount } }")).data == {"resources": {"totalCount": 2}}
