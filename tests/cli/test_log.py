"""What the log of a server contains of an unexpected error, and what it must not contain."""

import asyncio
import json
import time
from typing import Any

import asyncpg
import httpx
import jwt
import pytest

from isola.server.logging import trace
from isola.testing.fixtures import Copy
from tests.cli.processes import Place

KEY = "a secret for the tokens of this test only"
SECRET = "canary-of-a-client"
FAILING = """
    CREATE OR REPLACE FUNCTION isola.shares_received()
    RETURNS TABLE (
        id uuid, owner_slug text, owner_name text, granted_at timestamptz, expires_at timestamptz, note text,
        access text
    )
    LANGUAGE plpgsql AS $$ BEGIN RAISE 'unforeseen relation "x"'; END $$
"""
CREATE = """mutation ($input: CreateResourceInput!) { createResource(input: $input) { resource { id } } }"""


@pytest.fixture
async def broken(copy: Copy) -> None:
    """Make the database fail with unexpected errors, one of them with a DETAIL that quotes the row."""
    connection = await asyncpg.connect(copy.where.owner)
    await connection.execute(f"ALTER TABLE rls.resources ADD COLUMN unforeseen text NOT NULL; {FAILING}")
    await connection.close()


@pytest.mark.usefixtures("broken")
@pytest.mark.parametrize("production", ["true", "false"])
async def test_a_crash_is_logged_with_id_and_trace_but_without_client_data(
    empty: Place, copy: Copy, production: str
) -> None:
    token = jwt.encode(
        {"iss": "isola", "aud": "isola", "exp": time.time() + 60, "tenant": "rls-a", "sub": "ada", "role": "admin"}, KEY
    )
    settings = {"ISOLA_TENANT_URL": copy.where.tenant, "ISOLA_CONTROL_URL": copy.where.control, "ISOLA_TOKEN_KEY": KEY}
    values = {"name": SECRET, "kind": SECRET, "data": {"a": SECRET}}
    with empty.server(**settings, ISOLA_PRODUCTION=production) as server:
        async with httpx.AsyncClient(
            headers={"authorization": f"Bearer {token}"}, base_url=server.url, trust_env=False, timeout=30
        ) as http:
            answers = [
                await http.post("/graphql", json={"query": CREATE, "variables": {"input": values}}),
                await http.post(
                    "/graphql", json={"query": "{ sharedWithMe { totalCount } }", "variables": {"x": SECRET}}
                ),
            ]
        assert await asyncio.to_thread(server.stop) == 0

    for answer, kind in zip(answers, ("NotNullViolationError", "RaiseError"), strict=True):
        [error] = answer.json()["errors"]
        assert error["message"] == "internal error"
        assert error["extensions"].keys() == {"code", "correlationId"}
        assert error["extensions"]["code"] == "INTERNAL"
        correlation = error["extensions"]["correlationId"]
        for part in ("unforeseen", 'relation "', "SELECT", "INSERT", ".py", SECRET):
            assert part not in answer.text
        assert server.log.count(correlation) == 1
        trace = _entry(server.log, correlation, production == "true")
        assert kind in trace
        assert "transactions.py" in trace
    assert SECRET not in server.log
    assert token not in server.log
    assert token.split(".")[2] not in server.log
    assert KEY not in server.log


def test_a_trace_names_every_error_and_quotes_none_that_may_hold_values() -> None:
    try:
        try:
            int(SECRET)
        except ValueError as error:
            raise ExceptionGroup(SECRET, [KeyError(SECRET)]) from error
    except ExceptionGroup as error:
        text = trace((type(error), error, error.__traceback__))

    assert [kind for kind in ("ValueError", "KeyError", "ExceptionGroup") if kind not in text] == []
    assert SECRET not in text


def _entry(log: str, correlation: str, as_json: bool) -> str:  # noqa: FBT001
    if not as_json:
        return log[log.index(correlation) :]
    [entry] = [line for line in log.splitlines() if correlation in line]
    read: dict[str, Any] = json.loads(entry)
    return json.dumps(read["exception"])
