"""A slug is a name for people. No slug becomes part of SQL, and the names of homes are made from UUIDs only."""

from collections.abc import Sequence

import pytest

from isola.database.transactions import Database
from isola.errors import BadUserInput
from isola.platform import provisioning
from isola.testing.fixtures import Copy
from isola_strategies.base import Strategy

BAD = (
    "",
    " ",
    "a",
    "-",
    "a-",
    "-a",
    "1a",
    "Acme",
    "a b",
    "a_b",
    "a.b",
    "a/b",
    "../a",
    "a\n",
    "acme\x00",
    "\x00acme",
    "acme\u200b",
    "\ufeffacme",
    "acme\u202e",
    "асme",  # noqa: RUF001  Cyrillic letters that look like Latin ones
    "αcme",  # noqa: RUF001  a Greek one
    "ａｃｍｅ",  # noqa: RUF001  full-width ones
    "acmé",
    "acm\u0065\u0301",
    "ﬁrm",
    "ıstanbul",  # noqa: RUF001  an i without its dot
    "acme\u0661",
    "\ud800ab",
    "pg_temp",
    "pg_catalog",
    "a" * 64,
    "a" * 200,
    "a" * 100_000,
    'x"; SET ROLE b--',
    "x'; DROP SCHEMA control CASCADE; --",
    "x') OR 1=1 --",
    "$$; RESET ROLE; $$",
    "%s",
    "{slug}",
    "$1",
    "a;b",
    "a\\b",
)
# Allowed, although they are also names of PostgreSQL or of the platform.
HARMLESS = ("public", "control", "isola", "rls", "none", "postgres", "null", "select", "user", "a" * 63)


async def made(owner: Database) -> Sequence[object]:
    """All objects that creating a tenant makes."""
    async with owner.unbound() as transaction:
        return [
            await transaction.texts("SELECT id::text FROM control.tenants ORDER BY 1"),
            await transaction.texts("SELECT nspname FROM pg_namespace ORDER BY 1"),
            await transaction.texts(
                "SELECT rolname FROM pg_roles JOIN pg_auth_members ON member = pg_roles.oid "
                "JOIN control.tenants ON role = rolname ORDER BY 1"
            ),
        ]


async def test_invalid_slugs_are_refused_and_nothing_is_created(
    strategy: Strategy, copy: Copy, owner: Database
) -> None:
    before = await made(owner)
    for slug in BAD:
        with pytest.raises(BadUserInput, match=r"^slug: expected 2 to 63 of a-z") as caught:
            await provisioning.create(owner, copy.strategies, slug=slug, name="A", strategy=strategy.name)
        assert len(caught.value.message) < 500
        assert caught.value.message.isprintable()
    assert await made(owner) == before


async def test_invalid_names_are_refused_and_nothing_is_created(
    strategy: Strategy, copy: Copy, owner: Database
) -> None:
    before = await made(owner)
    for name in ("", "a\x00", "a\nb", "\u202e", "\ud800", "a" * 201):
        with pytest.raises(BadUserInput, match=r"^name: expected"):
            await provisioning.create(owner, copy.strategies, slug="acme", name=name, strategy=strategy.name)
    for placement in ("", "RLS", "nobody's", "rls; DROP SCHEMA control"):
        with pytest.raises(BadUserInput, match=r"^strategy: "):
            await provisioning.create(owner, copy.strategies, slug="acme", name="A", strategy=placement)
    assert await made(owner) == before


async def test_names_of_homes_come_from_the_tenants_id(strategy: Strategy, copy: Copy, owner: Database) -> None:
    for slug in HARMLESS:
        tenant = await provisioning.create(owner, copy.strategies, slug=slug, name="A", strategy=strategy.name)
        async with owner.unbound() as transaction:
            home = await transaction.value("SELECT home FROM control.tenants WHERE id = $1", tenant.id)
        assert home == strategy.home(tenant.id).schema
