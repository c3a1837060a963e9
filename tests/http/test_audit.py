"""GraphQL over HTTP, as the audits of graphql-http know it: everything that the specification says MUST, SHOULD or MAY.

They need npm. Without it they are skipped, but not in CI.
"""

import asyncio
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.http.served import Client

AUDIT = Path(__file__).with_name("audit")
LOCK = AUDIT / "package-lock.json"
INSTALLED = AUDIT / "node_modules" / ".package-lock.json"
PASSED = "ok"


@pytest.fixture(scope="session")
def node() -> str:
    """Where Node.js is, with the audits installed."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        _missing("Node.js and npm are not installed")
    elif not INSTALLED.exists() or INSTALLED.stat().st_mtime < LOCK.stat().st_mtime:
        installed = subprocess.run(
            [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"],
            cwd=AUDIT,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        if installed.returncode != 0:
            _missing(f"npm could not install graphql-http: {installed.stderr.strip()}")
    assert node
    return node


def _missing(reason: str) -> None:
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


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
