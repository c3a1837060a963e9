"""A person with a browser, at an OpenID Connect provider that runs on loopback.

The provider needs npm. Without it the tests are skipped, but not in CI.
"""

import base64
import hashlib
import secrets
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx

from isola.testing.patience import PATIENCE
from tests.http import npm

FOLDER = Path(__file__).with_name("openid")
REDIRECT_URI = "https://app.example/callback"


@dataclass(frozen=True, slots=True)
class Code:
    """The data of a client after the provider has redirected the person back to it."""

    code: str
    code_verifier: str
    nonce: str
    redirect_uri: str = REDIRECT_URI


@contextmanager
def provider() -> Iterator[str]:
    """Run the provider and yield its issuer."""
    with subprocess.Popen(
        [npm.node(FOLDER), "provider.mjs", REDIRECT_URI],
        cwd=FOLDER,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdin
        assert process.stdout
        yield process.stdout.readline().strip()
        process.stdin.close()


async def authorize(issuer: str, person: str, client_id: str = "isola") -> Code:
    """Sign a person in at the provider, and consent to the client's request."""
    code_verifier, nonce, state = (secrets.token_urlsafe(32) for _ in range(3))
    challenge = base64.urlsafe_b64encode(hashlib.sha256(code_verifier.encode()).digest()).rstrip(b"=").decode()
    question = {
        "client_id": client_id,
        "response_type": "code",
        "scope": "openid profile email",
        "redirect_uri": REDIRECT_URI,
        "code_challenge": challenge,
        "code_challenge_method": "S256",
        "nonce": nonce,
        "state": state,
    }
    async with httpx.AsyncClient(base_url=issuer, trust_env=False, timeout=PATIENCE) as browser:
        page = await browser.get(f"/auth?{urlencode(question)}")
        forms = iter(({"prompt": "login", "login": person, "password": "any"}, {"prompt": "consent"}))
        while not (where := page.headers.get("location", "")).startswith(REDIRECT_URI):
            if page.is_redirect:
                page = await browser.get(where)
            else:
                page = await browser.post(page.url, data=next(forms))
    answer = parse_qs(urlsplit(where).query)
    assert answer["state"] == [state], where
    return Code(answer["code"][0], code_verifier, nonce)
