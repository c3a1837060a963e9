import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import asyncpg
import httpx
import pytest
from sqlalchemy import make_url

from isola.database import embedded
from isola.testing.fixtures import FAST, STRATEGIES, memory
from isola.testing.patience import PATIENCE
from tests.cli.processes import Place, Running

SAMPLES = Path(__file__).parent / "samples"
ISOLA = "isola"
NONE_INSTALLED = {"ISOLA_APPLICATIONS": ""}
# More rows than one batch copies.
MANY = 240_000
SCRIPTS = {
    "chinook": (SAMPLES / "chinook.sql").read_text(encoding="utf-8"),
    "nasty": (SAMPLES / "nasty.sql").read_text(encoding="utf-8"),
    "large": f"""
        CREATE TABLE numbers (id int PRIMARY KEY, name text NOT NULL, doubled int UNIQUE);
        INSERT INTO numbers SELECT n, 'number ' || n, 2 * n FROM generate_series(1, {MANY}) n;
    """,
    "library": """
        CREATE TABLE books (id int PRIMARY KEY, title varchar(100) NOT NULL, summary varchar(1000));
        INSERT INTO books VALUES
            (1, 'The Printers', 'A story of jammed presses'), (2, 'Élan vital', NULL), (3, 'printing', 'pressé');
    """,
    "strict": """
        CREATE TABLE rules (
            id int PRIMARY KEY, big bigint, amount numeric, items text[], at timestamp, born date, words text,
            low float8, other int REFERENCES rules, price numeric(10, 2), days date[], moments timestamp[],
            floats float4[], bigs bigint[], flags bool[], ids uuid[], fees numeric(6, 2)[]
        );
        INSERT INTO rules (id) VALUES (3), (4);
    """,
}

# Autovacuum would change the catalog of a source, which has to stay as it is.
OPTIONS = {**FAST, "autovacuum": "off"}


@dataclass(frozen=True)
class Home:
    """The directory of the commands, and a PostgreSQL with the databases to adopt beside that of Isola."""

    place: Place
    url: str

    @staticmethod
    def at(url: str, database: str) -> str:
        return make_url(url).set(database=database).render_as_string(hide_password=False)

    def address(self, database: str) -> str:
        return self.at(self.url, database)

    def make(self, database: str, script: str) -> None:
        self.run_in("postgres", f"CREATE DATABASE {database}")
        self.run_in(database, script)

    def run_in(self, database: str, script: str) -> None:
        async def run() -> None:
            connection = await asyncpg.connect(self.address(database))
            await connection.execute(script)
            await connection.close()

        asyncio.run(run())

    def ask(self, database: str, question: str) -> Sequence[Any]:
        """The rows of a query, each as a tuple."""

        async def run() -> Sequence[Any]:
            connection = await asyncpg.connect(self.address(database))
            try:
                return [tuple(row) for row in await connection.fetch(question)]
            finally:
                await connection.close()

        return asyncio.run(run())

    def tenant(self, slug: str, strategy: str) -> None:
        self.place.run("tenant", "create", slug, "--strategy", strategy)

    def rows_of(self, slug: str, table: str) -> int:
        """How many rows a tenant has in a table."""
        [(id_, home)] = self.ask(ISOLA, f"SELECT id, home FROM control.tenants WHERE slug = '{slug}'")
        where = f"WHERE tenant_id = '{id_}'" if home == "rls" else ""
        [(count,)] = self.ask(ISOLA, f"SELECT count(*) FROM {home}.{table} {where}")
        return int(count)

    def stages(self) -> Sequence[Any]:
        """The schemas of staged rows."""
        return self.ask(ISOLA, "SELECT nspname FROM pg_namespace WHERE nspname LIKE 'isola_adopting%'")

    def content(self, database: str) -> Sequence[Any]:
        """A digest of the rows of each table of a database, and the contents of its catalog."""
        tables = [
            row[0]
            for row in self.ask(
                database,
                "SELECT oid::regclass::text FROM pg_class WHERE relkind IN ('r', 'm')"
                " AND relnamespace IN (2200, 11) AND relname !~ '^pg_(stat|auth|db|sh|rep|para)'",
            )
        ]
        return [
            (table, self.ask(database, f"SELECT count(*), sum(hashtextextended(t::text, 0)) FROM {table} t"))
            for table in sorted(tables)
        ]


@dataclass(frozen=True)
class Client:
    place: Place
    server: Running

    def ask(self, tenant: str, document: str) -> Any:
        """The data of an answer without errors."""
        answer = httpx.post(
            f"{self.server.url}/graphql",
            json={"query": document},
            headers={"authorization": f"Bearer {self.place.token(tenant)}"},
            timeout=PATIENCE,
        ).json()
        assert "errors" not in answer, answer
        return answer["data"]


@pytest.fixture(scope="session")
def home() -> Iterator[Home]:
    """Databases of one customer, and the applications generated from them, migrated."""
    with TemporaryDirectory(prefix="isola-test-", dir=memory()) as directory:
        path = Path(directory)
        settings = {
            "ISOLA_APPLICATIONS": ",".join(f"{name}:application" for name in SCRIPTS),
            "PYTHONPATH": ":".join(str(path / name) for name in SCRIPTS),
        }
        with embedded.running(path / "data", OPTIONS) as url:
            made = Home(Place(path, settings | {"ISOLA_DATABASE_URL": Home.at(url, ISOLA)}), url)
            place = made.place
            made.run_in("postgres", f"CREATE DATABASE {ISOLA}")
            for name, script in SCRIPTS.items():
                made.make(name, script)
                place.run("adopt", made.address(name), **NONE_INSTALLED)
            search(path / "library")
            place.run("revision", "--application", "library", "-m", "Search")
            place.run("migrate")
            yield made
        place.await_postgresql_end()


def search(package: Path) -> None:
    """Declare what is searched in an application that was generated, as its owner would."""
    file = package / "library/subjects.py"
    declared = file.read_text()
    assert declared.count("\n    summary: ") == 1
    searched = '    searched = ("title", "summary")\n    searched_as = "english"\n'
    file.write_text(declared.replace("\n    summary: ", f"\n{searched}\n    summary: "))


@pytest.fixture(scope="session")
def loaded(home: Home) -> Home:
    """Load the rows of three of them into a tenant for each strategy."""
    for strategy in STRATEGIES:
        home.tenant(strategy, strategy)
        for name in ("chinook", "nasty", "library"):
            home.place.run("adopt", home.address(name), "--load", "--tenant", strategy)
    return home


@pytest.fixture(scope="session")
def client(loaded: Home) -> Iterator[Client]:
    with loaded.place.server() as server:
        yield Client(loaded.place, server)
