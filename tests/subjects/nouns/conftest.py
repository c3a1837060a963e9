"""Users of a tenant, and all data of a tenant."""

from dataclasses import dataclass

import pytest

from isola.database.transactions import Database
from isola.platform.tenants import Tenant
from isola.subjects import users
from isola.subjects.actor import Actor
from isola.subjects.permissions import Permission, Role, of_role
from isola.testing.oracles import canary

State = dict[str, list[str]]


@dataclass(frozen=True, slots=True)
class People:
    """Users of one tenant: two that write, one with all permissions, one that only reads."""

    ada: Actor
    bob: Actor
    admin: Actor
    viewer: Actor


def without(actor: Actor, *permissions: Permission) -> Actor:
    return Actor(actor.user_id, actor.permissions - set(permissions))


@pytest.fixture
async def people(database: Database, a: Tenant) -> People:
    """Ada, Bob, Admin and Viewer of the tenant ``a``."""
    roles = {"ada": Role.EDITOR, "bob": Role.EDITOR, "admin": Role.ADMIN, "viewer": Role.VIEWER}
    async with database.transaction(a) as work:
        return People(
            **{
                subject: Actor(await users.ensure(work, subject=subject, name=None, email=None), of_role(role))
                for subject, role in roles.items()
            }
        )


async def state(database: Database, tenant: Tenant) -> State:
    """Every row of a tenant, and its live shares."""
    rows = {**await canary.content(database, tenant), "log": await canary.log(database, tenant)}
    async with database.transaction(tenant) as work:
        shared = "SELECT to_jsonb(s)::text FROM isola.own_shares s"
        shares = sorted(await work.texts(shared))
    return {**{name: sorted(map(repr, each)) for name, each in rows.items()}, "shares": shares}
