"""Every path through the schema, for every role, with every id: no output has a trace of another tenant.

Each tenant has a canary in every table, including the platform's. Responses and their headers, log output, and
written files are searched for the canaries of others.
"""

import asyncio
import json
import re
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path

import asyncpg
import pytest
from graphql import GraphQLInputObjectType, get_named_type
from sqlalchemy import Table, insert

from isola.api.schema import model
from isola.database.transactions import Database
from isola.platform import provisioning
from isola.query.identifiers import encode
from isola.settings import Settings
from isola.subjects.permissions import Role
from isola.subjects.users import users
from isola.testing.fixtures import DEFAULTS, STRATEGIES, Copy
from isola.testing.oracles import ids, walk
from isola.testing.oracles.canary import Canary, content, plant, plant_platform
from isola.testing.oracles.watch import Canaries, LeakError, logged
from isola.testing.served import Api, Client, serving
from isola_strategies.base import Strategy

SLUGS = [f"{strategy}-{letter}" for strategy in STRATEGIES for letter in "ab"]


@pytest.fixture
async def canaries(
    copy: Copy,
    owner: Database,
    control: Database,
    database: Database,
    record_property: Callable[[str, object], None],
) -> AsyncIterator[Canaries]:
    """A canary in every table of every tenant; log output and written files are searched at the end."""
    planted: dict[str, Canary] = {}
    watch = Canaries(planted)
    # Earlier tests use the same server.
    for directory in await _where_postgresql_logs(copy):
        watch.watch(directory)
    for slug in SLUGS:
        planted[slug] = await plant_platform(owner, await plant(database, await provisioning.named(control, slug)))
    with logged() as log:
        yield watch
    watch.seen_by_nobody("the log", log.getvalue())
    watch.search_files()
    record_property("answers searched", watch.searched)


async def _where_postgresql_logs(copy: Copy) -> list[Path]:
    """The parent of PostgreSQL's data directory, with the embedded server's log; none if it is on another machine."""
    connection = await asyncpg.connect(copy.where.owner)
    data = Path(await connection.fetchval("SHOW data_directory"))
    await connection.close()
    return [data.parent] if (data.parent / "postgresql.log").exists() else []


@pytest.fixture
async def api(copy: Copy, canaries: Canaries, tmp_path: Path) -> AsyncIterator[Api]:
    settings: Settings = DEFAULTS.model_copy(update={"data_dir": tmp_path, "document_cache_bytes": 1 << 30})
    canaries.watch(tmp_path)
    async with serving(copy, settings) as served:
        yield served


def ids_of(canary: Canary) -> dict[str, str]:
    """The typed ids of the canary's rows, by prefix."""
    return {
        entity.prefix: encode(entity.prefix, canary.rows[entity.source.name]["id"])
        for entity in model.entities.values()
        if entity.prefix and isinstance(entity.source, Table) and entity.source.name in canary.rows
    }


def foreign_ids(canaries: Canaries, slug: str) -> list[str]:
    return [id_ for name, canary in canaries.of.items() if name != slug for id_ in ids_of(canary).values()]


async def shown(client: Client, document: walk.Document) -> tuple[int, str]:
    """Status, headers and body of the response, without the ids that the client itself sent."""
    answer = await client.ask(document.text, document.variables)
    text = f"{answer.response.headers}\n{answer.response.text}"
    sent = json.dumps(document.variables)
    for id_ in _ids_in(sent):
        text = text.replace(id_, "<sent>")
    return answer.status, text


def _ids_in(text: str) -> Iterator[str]:
    for part in text.split('"'):
        if re.match("[a-z]{2,8}_", part):
            yield part


async def test_no_path_through_the_schema_leads_to_another_tenant(
    canaries: Canaries, api: Api, strategy: Strategy
) -> None:
    slug = f"{strategy.name}-a"
    own = canaries.of[slug]
    documents = list(walk.reads(model.schema, [*ids_of(own).values(), *foreign_ids(canaries, slug)], ids.OF_TYPES))
    # The permissions of other roles are between these two.
    for role, asked in ((Role.OWNER, documents), (Role.VIEWER, documents[::2])):
        client = api.client(slug, str(role), role)
        found = 0
        for document in asked:
            _, text = await shown(client, document)
            canaries.seen_by(slug, text)
            found += own.marker in text
        assert found > 50 or role is not Role.OWNER


async def test_mutations_with_another_tenants_ids_reveal_and_change_nothing(
    canaries: Canaries, api: Api, database: Database, strategy: Strategy
) -> None:
    slug = f"{strategy.name}-a"
    own = canaries.of[slug]
    before = await _of_others(database, canaries, slug)
    foreign = list(ids_of(canaries.of[f"{strategy.name}-b"]).values())
    texts = {"grantee": f"{strategy.name}-b"}
    documents = list(walk.writes(model.schema, list(ids_of(own).values()), foreign, texts, ids.in_input))
    assert {document.path for document in documents} == set(_taking_ids())
    for role in (Role.EDITOR, Role.ADMIN):
        client = api.client(slug, str(role), role)
        for document in documents:
            status, text = await shown(client, document)
            canaries.seen_by(slug, text)
            assert status in {200, 400, 403}
            assert '"errors":[' in text
    assert await _of_others(database, canaries, slug) == before


def _taking_ids() -> Iterator[str]:
    """The mutations that take an id."""
    assert model.schema.mutation_type
    for name, field in model.schema.mutation_type.fields.items():
        for argument in field.args.values():
            type_ = get_named_type(argument.type)
            parts = type_.fields.values() if isinstance(type_, GraphQLInputObjectType) else [argument]
            if any(get_named_type(part.type).name == "ID" for part in parts):
                yield name


async def _of_others(database: Database, canaries: Canaries, slug: str) -> Mapping[str, object]:
    return {name: await content(database, canary.tenant) for name, canary in canaries.of.items() if name != slug}


async def test_no_error_of_the_database_tells_of_another_tenant(
    canaries: Canaries, api: Api, copy: Copy, strategy: Strategy
) -> None:
    """Columns, tables and functions are missing, and connections are killed, while A reads everything."""
    slug = f"{strategy.name}-a"
    client = api.client(slug)
    documents = list(walk.reads(model.schema, list(ids_of(canaries.of[slug]).values()), ids.OF_TYPES))[::7]
    home = strategy.home(canaries.of[slug].tenant.id).schema
    owner = await asyncpg.connect(copy.where.owner)
    kill = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> $1 AND datname = current_database()"
    try:
        for breakage in (
            f"ALTER TABLE {home}.resources RENAME name TO title",
            f"ALTER TABLE {home}.users RENAME TO people",
            "ALTER FUNCTION isola.current_tenant_id() RENAME TO tenant",
            kill.replace("$1", "pg_backend_pid()"),
        ):
            await owner.execute(breakage)
            for _, text in await asyncio.gather(*(shown(client, document) for document in documents)):
                canaries.seen_by(slug, text)
                for telling in ("Traceback", "SELECT", "asyncpg", f"{home}.", 'relation "', "SQLSTATE", ".py"):
                    assert telling not in text
    finally:
        await owner.close()


async def test_values_in_database_errors_reach_neither_client_nor_log(
    canaries: Canaries, api: Api, copy: Copy, strategy: Strategy
) -> None:
    """An unexpected error, with the failing row in its details. The log is searched at the end."""
    slug = f"{strategy.name}-a"
    own = canaries.of[slug]
    table = f"{strategy.home(own.tenant.id).schema}.resources"
    owner = await asyncpg.connect(copy.where.owner)
    await owner.execute(f"ALTER TABLE {table} ADD unforeseen int NOT NULL DEFAULT 1")
    await owner.execute(f"ALTER TABLE {table} ALTER unforeseen DROP DEFAULT")
    await owner.close()

    refused = await api.client(slug).run("CreateResource", input={"name": f"{own.marker} again"})

    assert refused.code == "INTERNAL"
    canaries.seen_by_nobody("the answer", refused.response.text)


async def test_the_watch_detects_canaries(canaries: Canaries, database: Database, tmp_path: Path) -> None:
    """In plain text, in a cursor, in an exception, in a file."""
    [own, other] = list(canaries.of.values())[:2]
    mine = own.tenant.slug
    canaries.seen_by(mine, own.rows, own.marker)
    for leak in (
        other.rows,
        f"…{other.marker}…",
        json.dumps({"cursor": "bm9uc2Vuc2U"}) + _cursor(other.marker, 0),
        _cursor(other.marker, 1),
        _cursor(str(other.rows["users"]["id"]), 2),
        other.marker.encode().hex(),
        ValueError(other.marker),
        other.tenant.id.hex,
    ):
        with pytest.raises(LeakError):
            canaries.seen_by(mine, leak)
    written = tmp_path / "elsewhere" / "trace"
    written.parent.mkdir()
    written.write_text(f"of an earlier test: {own.marker}\n")
    searched = Canaries(canaries.of)
    searched.watch(tmp_path)
    searched.search_files()
    with written.open("a") as file:
        file.write(f"a core dump with {own.marker} in it")
    with pytest.raises(LeakError):
        searched.search_files()
    async with database.transaction(own.tenant) as work:
        # A tenant's own row is no leak.
        canaries.seen_by(mine, await work.rows(insert(users).values(subject="s", name="n").returning(users)))


def _cursor(text: str, before: int) -> str:
    return urlsafe_b64encode(b"x" * before + text.encode() + b"yz").decode()
