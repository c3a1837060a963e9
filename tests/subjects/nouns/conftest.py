"""Users of a tenant, and all data of a tenant."""

from dataclasses import dataclass

import pytest

from isola.database.transactions import Database
from isola.platform.tenants import Tenant
from isola.subjects import users
from isola.subjects.actor import Actor
from isola.subjects.metadata import metadata
from isola.subjects.permissions import Permission, Role, of_role

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
    async with database.transaction(tenant) as work:
        rows = {
            table.name: sorted(await work.texts(f"SELECT to_jsonb(t)::text FROM {table.name} t"))
            for table in metadata.sorted_tables
        }
        shared = "SELECT to_jsonb(s)::text FROM resources r, isola.shares_of('resource', r.id) s"
        return {**rows, "shares": sorted(await work.texts(shared))}
