"""``isola tenant``, beside a running server."""

import time
from collections.abc import Iterator

import httpx
import pytest

from isola.testing.patience import PATIENCE
from tests.cli.processes import Place, Running, finished

CREATE = '{"query": "mutation { createResource(input: {name: \\"x\\"}) { resource { id } } }"}'
TTL = "0.2"
# A dropped tenant's requests get this long to end: the sum of cache lifetime, pool wait and statement timeout.
QUICKLY = {"ISOLA_DIRECTORY_TTL": TTL, "ISOLA_POOL_WAIT": "0.2", "ISOLA_STATEMENT_TIMEOUT": "1"}


@pytest.fixture
def server(furnished: Place) -> Iterator[Running]:
    with furnished.server(ISOLA_DIRECTORY_TTL=TTL) as server:
        yield server


def status(server: Running, token: str) -> int:
    headers = {"authorization": f"Bearer {token}", "content-type": "application/json"}
    return httpx.post(
        f"{server.url}/graphql", content=CREATE, headers=headers, trust_env=False, timeout=PATIENCE
    ).status_code


def awaited(server: Running, token: str, wanted: int) -> int:
    """The status, once the server's cache of the directory has expired."""
    deadline = time.monotonic() + PATIENCE
    while (found := status(server, token)) != wanted and time.monotonic() < deadline:
        time.sleep(0.05)
    return found


def test_a_tenant_is_made_suspended_resumed_and_dropped(furnished: Place, server: Running) -> None:
    made = furnished.run("tenant", "create", "umbrella", "--name", "Umbrella Inc.", "--strategy", "schema")
    assert {"slug: umbrella", "name: Umbrella Inc.", "status: active", "strategy: schema"} <= set(made.splitlines())
    assert furnished.run("tenant", "show", "umbrella") == made
    token = furnished.token("umbrella")
    assert status(server, token) == 200

    assert "status: suspended" in furnished.run("tenant", "suspend", "umbrella")
    assert awaited(server, token, 403) == 403

    assert "status: active" in furnished.run("tenant", "resume", "umbrella")
    assert awaited(server, token, 200) == 200
    assert "the tenant is active, not suspended" in furnished.fail("tenant", "resume", "umbrella")

    dropped = furnished.run("tenant", "drop", "umbrella", "--yes", **QUICKLY)
    assert dropped == "tenant umbrella and its data are deleted\n"
    assert status(server, token) == 403
    assert "no such tenant: 'umbrella'" in furnished.fail("tenant", "drop", "umbrella", "--yes", **QUICKLY)


def test_tenants_are_put_below_others(furnished: Place, server: Running) -> None:
    acme = furnished.run("tenant", "show", "acme")
    made = furnished.run("tenant", "create", "daughter", "--parent", "acme")
    assert acme.splitlines()[0].replace("id", "parent_id") in made.splitlines()
    assert "not below itself" in furnished.fail("tenant", "set-parent", "acme", "--under", "daughter")
    assert "tenants below it: move or delete them" in furnished.fail("tenant", "drop", "acme", "--yes", **QUICKLY)
    assert furnished.run("tenant", "show", "acme") == acme

    token = furnished.token("daughter")
    assert status(server, token) == 200
    furnished.run("tenant", "suspend", "acme")
    assert awaited(server, token, 403) == 403
    assert furnished.run("tenant", "set-parent", "daughter", "--top") == "tenant daughter is at the top\n"
    assert awaited(server, token, 200) == 200


def test_tenants_are_listed_with_their_placements(awake: Place) -> None:
    header, *rows = awake.run("tenant", "list").splitlines()

    assert header.split() == ["slug", "name", "status", "strategy", "id", "remote"]
    assert [(row.split()[0], row.split()[-2]) for row in rows] == [
        ("acme", "rls"),
        ("globex", "schema"),
        ("initech", "rls"),
    ]


def test_an_impossible_command_fails_with_one_line_and_changes_nothing(furnished: Place, server: Running) -> None:
    before = furnished.run("tenant", "list")
    refused = {
        ("create", "acme"): "the same slug already",
        ("create", 'x"; SET ROLE b--'): "expected",
        ("create", "umbrella", "--strategy", "cloud"): "strategy: expected one of rls, schema: 'cloud'",
        ("create", "umbrella", "--name", ""): "name: expected",
        ("show", "nobody"): "no such tenant: 'nobody'",
    }
    commands = {arguments: furnished.begin("tenant", *arguments) for arguments in refused}

    for arguments, process in commands.items():
        printed, said, status = finished(process)
        assert (status, printed) == (1, "")
        assert refused[arguments] in said
        assert len(said.splitlines()) == 1
    assert furnished.run("tenant", "list") == before
    assert server.process.poll() is None


def test_without_a_yes_nothing_is_dropped(awake: Place) -> None:
    _, said, status = finished(awake.begin("tenant", "drop", "acme"))

    assert status != 0
    assert "Aborted" in said
    assert "status: active" in awake.run("tenant", "show", "acme")


def test_the_same_tenant_made_twice_at_once_is_one_tenant_and_one_clear_error(
    furnished: Place, server: Running
) -> None:
    racing = [furnished.begin("tenant", "create", "umbrella", "--strategy", "schema") for _ in range(2)]
    ended = sorted((status, said) for _, said, status in map(finished, racing))

    assert [status for status, _ in ended] == [0, 1]
    assert "the same slug already" in ended[1][1]
    assert furnished.run("tenant", "list").count("\n umbrella ") == 1
    assert status(server, furnished.token("umbrella")) == 200
