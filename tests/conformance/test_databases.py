"""The example with a database for each tenant, used as in its README: a tenant's changes stay in its database."""

import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import asyncpg
import httpx
import pytest
from sqlalchemy import make_url

from examples.databases.fleet import LONGEST, PREFIX, Fleet
from isola.errors import BadUserInput, Conflict, NotFound
from isola.identity.tokens import mint
from isola.platform.logins import derived
from isola.subjects.permissions import Role
from isola.testing.fixtures import DEFAULTS, Cluster
from isola.testing.patience import PATIENCE

ROOT = Path(__file__).parents[2]
LIST = "{ resources { nodes { name } } }"


@dataclass(frozen=True, slots=True)
class Fleets:
    """The example's commands, their cluster, and two tenants with a database each."""

    cluster: Cluster
    directory: Path
    ours: str
    theirs: str

    @property
    def fleet(self) -> Fleet:
        return Fleet(self.cluster.url, DEFAULTS.model_copy(update={"data_dir": self.directory}))

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
        """The exit status of a command, and its output."""
        with self.command(*arguments) as process:
            printed, said = process.communicate(timeout=PATIENCE)
        return process.returncode, printed + said

    @contextmanager
    def served(self) -> Iterator[httpx.Client]:
        with self.command("serve") as process, httpx.Client(trust_env=False, timeout=PATIENCE) as client:
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
        """Send a document to the host of one tenant, with a credential of that tenant or of another."""
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
        """The names of all resources in a tenant's database, read without the API."""
        connection = await asyncpg.connect(self.cluster.address(PREFIX + slug))
        try:
            return [row["name"] for row in await connection.fetch("SELECT name FROM rls.resources")]
        finally:
            await connection.close()

    async def left(self, slug: str) -> list[str]:
        """The objects on the server that are named after a tenant."""
        connection = await asyncpg.connect(self.cluster.url)
        try:
            found = await connection.fetch(
                "SELECT datname FROM pg_database UNION ALL SELECT rolname FROM pg_roles ORDER BY 1"
            )
        finally:
            await connection.close()
        return [row[0] for row in found if slug in row[0]]


@pytest.fixture(scope="module")
async def fleets(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Fleets]:
    fleets = Fleets(cluster, tmp_path_factory.mktemp("fleet"), f"a-{uuid4().hex[:8]}", f"b-{uuid4().hex[:8]}")
    try:
        for slug in (fleets.ours, fleets.theirs):
            await fleets.fleet.create(slug, slug.title())
        yield fleets
    finally:
        for slug in {fleets.ours, fleets.theirs}.intersection(await fleets.fleet.slugs()):
            await fleets.fleet.drop(slug)


@pytest.fixture(scope="module")
def client(fleets: Fleets) -> Iterator[httpx.Client]:
    with fleets.served() as client:
        yield client


async def test_what_one_does_stays_in_its_database(fleets: Fleets, client: httpx.Client) -> None:
    ours, theirs = fleets.ours, fleets.theirs
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


async def test_all_are_migrated_one_after_the_other(fleets: Fleets) -> None:
    done = (0, "all databases are at the newest revision\n")
    connection = await asyncpg.connect(fleets.cluster.address(PREFIX + fleets.theirs))
    revisions = await connection.fetchval("SELECT obj_description('rls'::regnamespace, 'pg_namespace')")
    try:
        assert fleets.run("migrate") == done
        unknown = revisions.replace(", ", "x, ", 1)
        await connection.execute(f"COMMENT ON SCHEMA rls IS '{unknown}'")
        status, said = fleets.run("migrate")
        assert status == 1
        assert f"{PREFIX}{fleets.theirs}: rls is not migrated" in said
    finally:
        await connection.execute(f"COMMENT ON SCHEMA rls IS '{revisions}'")
        await connection.close()
    assert fleets.run("migrate") == done


async def test_one_is_made_and_dropped_beside_the_others(fleets: Fleets, client: httpx.Client) -> None:
    before = await fleets.rows(fleets.ours)
    half = f"c-{uuid4().hex[:8]}"
    connection = await asyncpg.connect(fleets.cluster.url)
    try:
        await connection.execute(f'CREATE DATABASE "{PREFIX}{half}"')  # the state that an interrupted call leaves
    finally:
        await connection.close()
    assert fleets.run("create", half) == (0, f"tenant {half} has a database of its own\n")
    assert await fleets.rows(half) == []
    with pytest.raises(Conflict):
        await fleets.fleet.create(half, half)

    assert fleets.run("drop", half) == (0, f"tenant {half} is gone\n")
    assert await fleets.left(half) == []
    with pytest.raises(NotFound):
        await fleets.fleet.drop(half)
    assert await fleets.rows(fleets.ours) == before == fleets.names(client, fleets.ours)


@pytest.mark.parametrize("slug", ["A", "with space", '"; DROP TABLE x; --', "a" * (LONGEST + 1)])
async def test_a_slug_that_cannot_be_is_refused_and_nothing_is_made(slug: str, fleets: Fleets) -> None:
    with pytest.raises(BadUserInput, match="slug"):
        await fleets.fleet.create(slug, "a name")
    assert await fleets.left(slug) == []
