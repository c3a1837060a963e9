"""Statements that the database shows or stores contain no proof, under any mode of access to tenants."""

from collections.abc import AsyncIterator

import pytest
from sqlalchemy import insert

from isola.database.transactions import Database
from isola.platform.tenants import Tenant
from isola.subjects.users import users
from isola.testing import pgbouncer
from isola.testing.fixtures import Copy

# Read by the owner, who sees all sessions, and only for this test's database.
SHOWN = {
    "what sessions run": "SELECT query FROM pg_stat_activity WHERE datname = current_database()",
    "what is kept of statements": "SELECT query FROM pg_stat_statements s JOIN pg_database d ON d.oid = s.dbid "
    "WHERE d.datname = current_database()",
}


@pytest.fixture(params=["connections of its own", "no statement kept", "PgBouncer"])
async def reached(request: pytest.FixtureRequest, copy: Copy) -> AsyncIterator[Database]:
    if request.param == "PgBouncer":
        with pgbouncer.running(copy.where.tenant) as url:
            async with await Database.open(url, copy.strategies, copy.binding_key, statement_cache=False) as database:
                yield database
        return
    keep = request.param == "connections of its own"
    async with await Database.open(
        copy.where.tenant, copy.strategies, copy.binding_key, statement_cache=keep
    ) as database:
        yield database


async def test_no_text_has_a_proof(reached: Database, owner: Database, a: Tenant) -> None:
    async with owner.unbound() as work:
        if not await work.value("SELECT rolsuper FROM pg_roles WHERE rolname = current_user"):
            pytest.skip("the owner given for the tests does not see what sessions of others run")
    about = {"user": str(a.id), "actor": "usr_ada", "request": "r-1"}
    codes, texts = set(), []
    for turn in range(4):
        async with reached.transaction(a, read_only=turn % 2 == 0, about=about) as work:
            proof = await work.value("SELECT current_setting('isola.proof')")
            codes.add(proof[-64:])
            if turn % 2:
                await work.execute(insert(users).values(subject=f"{turn}", name="x"))
            async with owner.unbound() as looking:
                for sql in SHOWN.values():
                    texts += await looking.texts(sql)
    assert len(codes) == 4
    assert any("isola.proof" in text for text in texts), "what enters a tenant is not among what is shown"
    assert any("INSERT INTO users" in text for text in texts)
    assert not [text for text in texts if any(code in text for code in codes)]
    # The texts do not differ by transaction: otherwise they would evict all others from pg_stat_statements.
    async with owner.unbound() as work:
        kept = await work.texts(SHOWN["what is kept of statements"])
    entries = [text for text in kept if "isola.proof" in text and "current_setting" not in text]
    assert len(entries) <= 2
