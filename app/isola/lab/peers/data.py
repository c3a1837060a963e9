"""The data for all peers: generated once by SQL in homes that Isola provisions, then reused between runs."""

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from string import Template
from typing import Any

import asyncpg
from sqlalchemy.engine import make_url

from isola.database.transactions import Database
from isola.installed import metadata
from isola.platform import logins, migrations, protection, provisioning
from isola.platform.tenants import Tenant
from isola.settings import Settings
from isola_strategies import registry
from isola_strategies.base import Home, Strategy

HERE = Path(__file__).parent
STRATEGIES = ("rls", "schema")
MADE = "made by the benchmark"
"""The name of every resource that a peer is asked to create."""

# Checkpoints and autovacuum must not disturb requests. Commits remain durable.
POSTGRESQL = {
    "shared_buffers": "512MB",
    "autovacuum": "off",
    "checkpoint_timeout": "1h",
    "max_wal_size": "8GB",
}

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Size:
    """Row counts of each tenant. The oldest fifth of its resources have most of the spans, so they fill pages."""

    tenants: int
    users: int = 20
    organizations: int = 5
    resources: int = 500
    busy: int = 100
    busy_spans: int = 17
    quiet_spans: int = 2
    shares: int = 5


@dataclass(frozen=True, slots=True)
class Place:
    """A tenant for the load generator: the user of its requests, and resources to request."""

    tenant: str
    user: str
    resources: list[str]


Places = Mapping[str, Sequence[Place]]
"""The tenants under each strategy, equal data in the same order."""


def discard_other(directory: Path, size: Size) -> bool:
    """Delete data that is incomplete, has another size or an old table structure. Returns whether there was any."""
    if not directory.exists():
        return False
    found = json.loads(_filled(directory).read_text()) if _filled(directory).exists() else {}
    if found.get("made_by") == _fingerprint(size):
        return False
    shutil.rmtree(directory)
    return True


async def fill(address: str, directory: Path, size: Size, progress: Progress) -> Places:
    """Generate the data at ``address`` unless it exists. A note in ``directory`` records which data exists."""
    note = _filled(directory)
    if not note.exists():
        where = logins.addresses(Settings(data_dir=directory), address)
        strategies = registry.load(where.tenant_login)
        async with await Database.open(address, size=4, statement_timeout=60) as owner:
            progress("migrating")
            await migrations.migrate(owner, strategies, where)
            tenants = await _provisioned(owner, strategies, size, progress)
        connection = await asyncpg.connect(address)
        try:
            await _fill(connection, strategies, tenants, size, progress)
            places = {name: await _places(connection, tenants[name]) for name in STRATEGIES}
        finally:
            await connection.close()
        note.write_text(json.dumps({"made_by": _fingerprint(size), "places": places}))
    found = json.loads(note.read_text())["places"]
    return {name: [Place(**place) for place in some] for name, some in found.items()}


async def clean(address: str) -> None:
    """Delete the rows that peers created, so that each starts with the same tables."""
    connection = await asyncpg.connect(address)
    try:
        schemas = await connection.fetch("SELECT home FROM control.tenants GROUP BY home")
        for (schema,) in schemas:
            if await connection.fetchval(f"SELECT EXISTS (SELECT FROM {schema}.resources WHERE name = $1)", MADE):
                await connection.execute(f"DELETE FROM {schema}.resources WHERE name = $1", MADE)
                await connection.execute(f"VACUUM {schema}.resources")
    finally:
        await connection.close()


def login_address(address: str, login: str) -> str:
    """The address of the same database for another login."""
    return make_url(address).set(username=login).render_as_string(hide_password=False)


def _filled(directory: Path) -> Path:
    return directory / "filled.json"


def _fingerprint(size: Size) -> str:
    files = [path for path in migrations.MIGRATIONS.rglob("*") if path.suffix in {".py", ".sql"}]
    read = [path.read_bytes() for path in sorted([*files, *HERE.glob("*.sql")])]
    return sha256(b"\0".join([repr(size).encode(), *read])).hexdigest()


async def _provisioned(
    owner: Database, strategies: Mapping[str, Strategy], size: Size, progress: Progress
) -> Mapping[str, Sequence[Tenant]]:
    made: dict[str, list[Tenant]] = {name: [] for name in STRATEGIES}
    for strategy, tenants in made.items():
        for number in range(size.tenants):
            progress(f"provisioning tenant {number + 1} of {size.tenants} under {strategy}")
            slug = f"{strategy}-{number:04d}"
            tenants.append(await provisioning.create(owner, strategies, slug=slug, name=slug, strategy=strategy))
    return made


async def _fill(
    connection: asyncpg.Connection,
    strategies: Mapping[str, Strategy],
    tenants: Mapping[str, Sequence[Tenant]],
    size: Size,
    progress: Progress,
) -> None:
    for script in ("fill", "share", "visitor"):
        progress(f"running {script}.sql")
        sql = Template((HERE / f"{script}.sql").read_text()).substitute(asdict(size))
        async with connection.transaction():
            await connection.execute(sql)
    # The policies of a peer are not those of isola: a server would refuse this home otherwise.
    await connection.execute(protection.mark(Home("rls")))
    # The hand-written peers have their proofs made by the database as well: see visitor.sql.
    await connection.execute("GRANT EXECUTE ON FUNCTION isola.proof(uuid, uuid) TO isola_tenant")
    for number, (source, target) in enumerate(zip(tenants["rls"], tenants["schema"], strict=True)):
        progress(f"copying into schema {number + 1} of {size.tenants}")
        home = strategies["schema"].home(target.id).schema
        copies = [
            f"INSERT INTO {home}.{table.name} ({columns}) SELECT {columns} FROM rls.{table.name}"
            f" WHERE tenant_id = '{source.id}' ORDER BY {table.primary_key.columns.values()[0].name}"
            for table in metadata.sorted_tables
            for columns in [", ".join(table.columns.keys())]
        ]
        async with connection.transaction():
            await connection.execute(";\n".join(copies))
    progress("vacuuming")
    await connection.execute("VACUUM ANALYZE")


async def _places(connection: asyncpg.Connection, tenants: Sequence[Tenant]) -> list[dict[str, Any]]:
    """Every tenant's last user, and resources spread over its list."""
    places = []
    for tenant in tenants:
        # Both strategies hold the same rows, matched by the number in the slug: read them from the shared tables.
        source = await connection.fetchval(
            "SELECT id FROM control.tenants WHERE slug = 'rls-' || split_part($1, '-', 2)", tenant.slug
        )
        user = await connection.fetchval("SELECT id FROM rls.users WHERE tenant_id = $1 ORDER BY id DESC", source)
        resources = await connection.fetch(
            "SELECT id FROM (SELECT id, row_number() OVER (ORDER BY id) AS n FROM rls.resources WHERE tenant_id = $1)"
            " WHERE n % 50 = 7",
            source,
        )
        places.append(asdict(Place(str(tenant.id), str(user), [str(row["id"]) for row in resources])))
    return places
