"""GraphQL over HTTP, checked by the audits of graphql-http: every MUST, SHOULD and MAY of the specification.

They need npm. Without it they are skipped, but not in CI.
"""

import asyncio
import json
from pathlib import Path

import pytest

from isola.testing.served import Client
from tests.http import npm

AUDIT = Path(__file__).with_name("audit")
PASSED = "ok"


@pytest.fixture(scope="session")
def node() -> str:
    return npm.node(AUDIT)


async def test_every_audit_passes(node: str, guest: Client) -> None:
    process = await asyncio.create_subprocess_exec(
        node,
        "audit.mjs",
        f"{guest.http.base_url}/graphql",
        guest.headers["authorization"],
        cwd=AUDIT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    printed, said = await process.communicate()

    assert process.returncode == 0, said.decode()
    results = json.loads(printed)
    assert len(results) > 50
    assert [result for result in results if result["status"] != PASSED] == []
