"""The example of a database for each tenant, as its README says to use it: what one does stays in its database."""

import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import uuid4

import asyncpg
import httpx
import pytest
from sqlalchemy import make_url

from app.control.logins import derived
from app.domain.permissions import Role
from app.identity.tokens import mint
from examples.databases.fleet import LONGEST, PREFIX, Fleet
from tests.conftest import DEFAULTS, Cluster

ROOT = Path(__file__).parents[2]
LIST = "{ resources { nodes { name } } }"
PATIENCE = 60.0


@dataclass(frozen=True, slots=True)
class Fleets:
    """The example's commands, the cluster that they work in, and two tenants that have a database each."""

    cluster: Cluster
    directory: Path
    ours: str
    theirs: str

    def command(self, *arguments: str) -> subprocess.Popen[str]:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("ISOLA_")}
        own = {"ISOLA_DATABASE_URL": self.cluster.url, "ISOLA_DATA_DIR": str(self.directory), "ISOLA_PORT": "0"}
        return subprocess.Popen(
            [sys.executable, "-m", "examples.databases", *arguments],
            cwd=ROOT,
            env={**inherited, **own},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str) -> tuple[int, str]:
        """The exit status of a command, and what it said."""
        with self.command(*arguments) as process:
            printed, said = process.communicate(timeout=PATIENCE)
        return process.returncode, printed + said

    @contextmanager
    def served(self) -> Iterator[httpx.Client]:
        with self.command("serve") as process, httpx.Client(trust_env=False, timeout=30) as client:
            try:
                assert process.stdout
                line = process.stdout.readline()
                assert line, process.communicate()[1]
                client.base_url = httpx.URL(line.strip()).copy_with(host="127.0.0.1", path="/")
                yield client
            finally:
                process.terminate()
                process.communicate(timeout=PATIENCE)

    def ask(self, client: httpx.Client, at: str, document: str, credential: str | None = None) -> httpx.Response:
        """Ask at the host of one tenant, with a credential of the same one or of another."""
        settings = DEFAULTS.model_copy(update={"data_dir": self.directory})
        token = mint(settings, credential or at, "ada", Role.ADMIN, 3600)
        headers = {"host": f"{at}.localhost", "authorization": f"Bearer {token}", "accept": "application/json"}
        return client.post("/graphql", json={"query": document}, headers=headers)

    def create(self, client: httpx.Client, at: str, name: str) -> None:
        made = f"mutation {{ createResource(input: {{name: {json.dumps(name)}}}) {{ resource {{ id }} }} }}"
        assert "errors" not in self.ask(client, at, made).json()

    def names(self, client: httpx.Client, at: str) -> list[str]:
        return [node["name"] for node in self.ask(client, at, LIST).json()["data"]["resources"]["nodes"]]

    async def rows(self, slug: str) -> list[str]:
        """The names of all resources in a tenant's database, past the API."""
        connection = await asyncpg.connect(self.cluster.address(PREFIX + slug))
        try:
            return [row["name"] for row in await connection.fetch("SELECT name FROM rls.resources")]
        finally:
            await connection.close()

    async def left(self, slug: str) -> list[str]:
        """What the server has that is named after a tenant."""
        connection = await asyncpg.connect(self.cluster.url)
        try:
            found = await connection.fetch(
                "SELECT datname FROM pg_database UNION ALL SELECT rolname FROM pg_roles ORDER BY 1"
            )
        finally:
            await connection.close()
        return [row[0] for row in found if slug in row[0]]


@pytest.fixture
async def fleets(cluster: Cluster, tmp_path: Path) -> AsyncIterator[Fleets]:
    fleets = Fleets(cluster, tmp_path, f"a-{uuid4().hex[:8]}", f"b-{uuid4().hex[:8]}")
    try:
        for slug in (fleets.ours, fleets.theirs):
            status, said = fleets.run("create", slug)
            assert (status, said) == (0, f"tenant {slug} has a database of its own\n")
        yield fleets
    finally:
        fleet = Fleet(cluster.url, DEFAULTS.model_copy(update={"data_dir": tmp_path}))
        for slug in {fleets.ours, fleets.theirs}.intersection(await fleet.slugs()):
            await fleet.drop(slug)


async def test_what_one_does_stays_in_its_database(fleets: Fleets) -> None:
    ours, theirs = fleets.ours, fleets.theirs
    with fleets.served() as client:
        fleets.create(client, ours, "of ours")
        fleets.create(client, theirs, "of theirs")
        assert fleets.names(client, ours) == ["of ours"]
        assert fleets.names(client, theirs) == ["of theirs"]
        refused = fleets.ask(client, ours, LIST, credential=theirs)
        assert refused.json()["errors"][0]["extensions"]["code"] == "UNAUTHENTICATED"
        assert "data" not in refused.json()
        assert fleets.ask(client, "nobody", LIST).status_code == 404
    assert await fleets.rows(ours) == ["of ours"]
    assert await fleets.rows(theirs) == ["of theirs"]


async def test_no_login_of_one_reaches_the_database_of_another(fleets: Fleets) -> None:
    owner = make_url(fleets.cluster.url)
    for kind in ("tenant", "control"):
        login = derived(owner, f"{PREFIX}{fleets.ours}_{kind}")
        own = login.set(database=PREFIX + fleets.ours).render_as_string(hide_password=False)
        await (await asyncpg.connect(own)).close()
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await asyncpg.connect(login.set(database=PREFIX + fleets.theirs).render_as_string(hide_password=False))


async def test_one_that_is_dropped_leaves_nothing_and_the_other_is_served(fleets: Fleets) -> None:
    with fleets.served() as client:
        fleets.create(client, fleets.ours, "of ours")
        assert fleets.run("drop", fleets.theirs) == (0, f"tenant {fleets.theirs} is gone\n")
        assert fleets.names(client, fleets.ours) == ["of ours"]
    assert await fleets.left(fleets.theirs) == []
    assert fleets.run("drop", fleets.theirs)[0] == 1
    assert await fleets.rows(fleets.ours) == ["of ours"]


async def test_making_one_again_is_refused_and_making_one_that_was_broken_off_goes_on(fleets: Fleets) -> None:
    status, said = fleets.run("create", fleets.ours)
    assert (status, said) == (1, "tenants: there is one with the same slug already\n")
    half = replace(fleets, ours=f"c-{uuid4().hex[:8]}")
    connection = await asyncpg.connect(fleets.cluster.url)
    try:
        await connection.execute(f'CREATE DATABASE "{PREFIX}{half.ours}"')
        assert half.run("create", half.ours)[0] == 0
        assert await half.rows(half.ours) == []
    finally:
        half.run("drop", half.ours)
        await connection.close()
    assert await fleets.left(half.ours) == []


@pytest.mark.parametrize("slug", ["A", "with space", '"; DROP TABLE x; --', "a" * (LONGEST + 1)])
async def test_a_slug_that_cannot_be_is_refused_and_nothing_is_made(
    slug: str, cluster: Cluster, tmp_path: Path
) -> None:
    status, said = Fleets(cluster, tmp_path, "", "").run("create", "--", slug)
    assert status == 1
    assert said.startswith("slug ")
    assert await Fleets(cluster, tmp_path, "", "").left(slug) == []
