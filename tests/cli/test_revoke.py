"""``isola revoke``, beside a running server."""

import json
import subprocess
import time

import httpx
import jwt

from isola.identity import keys
from isola.platform.changes import EFFECTIVE_WITHIN
from isola.testing.fixtures import DEFAULTS
from isola.testing.patience import PATIENCE
from tests.cli.processes import Place, Running

ISSUER, TOKEN_ID, SESSION_ID = DEFAULTS.token_issuer, "token-1", "session-1"


def token(place: Place, **claims: object) -> str:
    now = int(time.time())
    own = {"iss": ISSUER, "aud": DEFAULTS.token_audience, "tenant": "acme", "iat": now, "exp": now + 3600}
    settings = DEFAULTS.model_copy(update={"data_dir": place.data_dir})
    return jwt.encode({**own, **claims}, keys.development_key(settings))


def ask(server: Running, token: str) -> int:
    answer = httpx.post(
        f"{server.url}/graphql",
        json={"query": "{ viewer { user { id } } }"},
        headers={"authorization": f"Bearer {token}", "accept": "application/graphql-response+json"},
        trust_env=False,
        timeout=PATIENCE,
    )
    return answer.status_code


def signed_in(server: Running) -> tuple[str, str]:
    """A session of Ada, and its access token."""
    [command] = [line for line in server.printed.splitlines() if line.startswith("curl ") and "signIn" in line]
    answer = json.loads(subprocess.run(command, shell=True, check=True, capture_output=True).stdout)  # noqa: S602
    access_token: str = answer["data"]["signIn"]["session"]["accessToken"]
    claims = jwt.decode(access_token, options={"verify_signature": False})
    return claims["sid"], access_token


def ended(server: Running, token: str) -> list[str]:
    """The sessions that the tenant's log shows as ended."""
    query = '{ auditLog(first: 50, filter: {action: {eq: "session:delete"}}) { nodes { object old } } }'
    answer = httpx.post(
        f"{server.url}/graphql",
        json={"query": query},
        headers={"authorization": f"Bearer {token}"},
        trust_env=False,
        timeout=PATIENCE,
    )
    nodes = answer.json()["data"]["auditLog"]["nodes"]
    assert {node["old"]["ended_for"] for node in nodes} <= {"revocation"}
    return [node["object"].partition("/ses_")[2] for node in nodes]


def refused_in_time(server: Running, token: str) -> None:
    committed = time.monotonic()
    while True:
        asked = time.monotonic()
        if ask(server, token) == 401:
            return
        assert asked - committed < EFFECTIVE_WITHIN
        time.sleep(0.05)


def test_a_running_server_refuses_revoked_credentials_within_five_seconds(furnished: Place) -> None:
    with furnished.server("demo") as server:
        numbered = token(furnished, sub="ada", jti=TOKEN_ID)
        in_session = token(furnished, sub="ada", sid=SESSION_ID)
        barbara = token(furnished, sub="barbara")
        ada = token(furnished, sub="ada")
        assert {ask(server, each) for each in (numbered, in_session, barbara, ada)} == {200}

        furnished.run("revoke", "token", TOKEN_ID, "--issuer", ISSUER)
        refused_in_time(server, numbered)
        furnished.run("revoke", "session", SESSION_ID, "--issuer", ISSUER)
        refused_in_time(server, in_session)
        furnished.run("revoke", "user", "barbara", "--tenant", "acme")
        refused_in_time(server, barbara)

        session, access_token = signed_in(server)
        assert ask(server, access_token) == 200
        furnished.run("revoke", "session", session)
        # It is in the tenant's log by then, and a second time changes nothing.
        assert ended(server, ada) == [session]
        furnished.run("revoke", "session", session.upper())
        refused_in_time(server, access_token)
        assert ended(server, ada) == [session]

        assert ask(server, ada) == 200
        said = furnished.fail("revoke", "user", "nobody", "--tenant", "acme")
        assert said == "isola: the tenant acme has no user 'nobody'"
