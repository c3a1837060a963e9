"""The roles that a server uses, whatever names an operator gives them."""

import asyncpg
import pytest
from sqlalchemy import make_url

from isola.database.transactions import Database
from isola.errors import OperatorError
from isola.platform import logins, migrations, provisioning
from isola.platform.logins import Addresses
from isola.testing.fixtures import STRATEGIES, Copy
from isola_strategies import registry

ODD = 'Isola "tenant"-traffic'


async def test_logins_can_have_any_name(blank: Copy, blank_owner: Database) -> None:
    assert blank.where.owner
    connection = await asyncpg.connect(blank.where.owner)
    quoted = logins.quote(ODD)
    where = Addresses(blank.where.owner, named(blank.where.tenant, ODD), blank.where.control)
    strategies = registry.load(where.tenant_login)
    try:
        await migrations.migrate(blank_owner, strategies, where)
        for name in STRATEGIES:
            tenant = await provisioning.create(blank_owner, strategies, slug=name, name=name, strategy=name)
            copy = Copy(where, strategies)
            async with (
                await Database.open(where.tenant, strategies, copy.binding_key) as database,
                database.transaction(tenant) as work,
            ):
                assert await work.value("SELECT count(*) FROM users") == 0
                assert await work.value("SELECT session_user") == ODD
        async with await Database.open(where.tenant) as database, database.unbound() as transaction:
            await logins.refuse_dangerous(transaction)
    finally:
        await connection.execute(f"DROP OWNED BY {quoted}; DROP ROLE {quoted}")
        await connection.close()


def named(url: str, login: str) -> str:
    return make_url(url).set(username=login).render_as_string(hide_password=False)


async def test_the_owners_login_is_refused_for_tenant_traffic(blank: Copy, blank_owner: Database) -> None:
    assert blank.where.owner
    where = Addresses(blank.where.owner, blank.where.owner, blank.where.control)
    with pytest.raises(OperatorError, match="is the owner, a superuser or has BYPASSRLS: name another one"):
        await migrations.migrate(blank_owner, blank.strategies, where)
    async with blank_owner.unbound() as transaction:
        assert await migrations.control_revision(transaction) is None
