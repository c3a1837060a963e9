"""A parent, its children and a grandchild under every pair of strategies, and a stranger placed like the children."""

import re
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import pytest

from isola.api.schema import model
from isola.database.transactions import Database
from isola.installed import SUBJECTS
from isola.platform import provisioning
from isola.platform.roles import Roles
from isola.platform.tenants import Tenant
from isola.query.mapping import Many, One, Value, node_type
from isola.settings import Settings
from isola.subjects.permissions import Permission
from isola.testing.fixtures import TRIED, Copy
from isola.testing.oracles.canary import Canary, plant
from isola.testing.served import Api, Client, serving
from isola_strategies import registry
from isola_strategies.base import Capability

FAMILIES = sorted(
    name for name, strategy in registry.load("isola_tenant").items() if Capability.FAMILIES in strategy.capabilities
)
PAIRS = [pair for pair in product(FAMILIES, FAMILIES) if set(pair) & set(TRIED)]
ROLE = Roles().family
PROVED = f"{Permission.FAMILY_READ} isola:family"
MOST_FIELDS = 400
BELOW = ("child", "sister", "grandchild")


@dataclass(frozen=True)
class Household:
    """The canaries by their place in the tree, and a server."""

    api: Api
    copy: Copy
    owner: Database
    parent: Canary
    child: Canary
    sister: Canary
    grandchild: Canary
    stranger: Canary

    @property
    def below(self) -> Mapping[str, Canary]:
        """By slug, those below the parent."""
        return {each.tenant.slug: each for each in (getattr(self, name) for name in BELOW)}

    @property
    def above(self) -> Client:
        """An administrator of the parent."""
        return self.api.client(self.parent.tenant.slug)


@pytest.fixture(params=PAIRS, ids="-over-".join)
def placed_above(request: pytest.FixtureRequest) -> tuple[str, str]:
    """The strategy of the parent and the grandchild, and that of the children."""
    pair: tuple[str, str] = request.param
    return pair


@pytest.fixture
async def household(
    placed_above: tuple[str, str], copy: Copy, owner: Database, database: Database, settings: Settings
) -> AsyncIterator[Household]:
    above, below = placed_above

    async def made(slug: str, strategy: str, parent: str | None = None) -> Canary:
        tenant = await provisioning.create(
            owner, copy.strategies, slug=slug, name=f"canary-{slug}.", strategy=strategy, parent=parent
        )
        return await plant(database, tenant)

    parent = await made("parent", above)
    child = await made("child", below, "parent")
    sister = await made("sister", below, "parent")
    grandchild = await made("grandchild", above, "child")
    stranger = await made("stranger", below)
    async with serving(copy, settings.model_copy(update={"directory_ttl": 0.2})) as api:
        yield Household(api, copy, owner, parent, child, sister, grandchild, stranger)


@dataclass(frozen=True)
class Listed:
    """A root field with the rows of a subject."""

    field: str
    type: str
    table: str

    @property
    def document(self) -> str:
        """All fields of its nodes that tables have, and of rows related to them."""
        return (
            f"query ($first: Int, $after: String, $last: Int, $before: String) {{ {self.field}(scope: DESCENDANTS, "
            "first: $first, after: $after, last: $last, before: $before) { totalCount "
            f"edges {{ tenant {{ slug name }} node {{ {_selection(self.type)} }} }} "
            "pageInfo { startCursor endCursor hasNextPage hasPreviousPage } } }"
        )


def _selection(type_: str) -> str:
    """All fields at the greatest depth that the limit of fields admits."""
    selections = [" ".join(_selected(type_, depth)) for depth in (2, 1, 0)]
    return next(each for each in selections if len(re.findall(r"\w+", each)) < MOST_FIELDS)


def _selected(type_: str, depth: int) -> Sequence[str]:
    fields = []
    for name, field in model.entities[type_].fields.items():
        target = re.sub(r"[\[\]!]", "", str(getattr(model.schema.type_map[type_], "fields")[name].type))  # noqa: B009
        match field:
            case Value():
                fields.append(name)
            case One(source=None) if depth:
                fields.append(f"{name} {{ {' '.join(_selected(target, depth - 1))} }}")
            case Many(source=None, when=None) if depth:
                node = node_type(model.schema.type_map[target])
                assert node is not None
                fields.append(f"{name}(first: 2) {{ nodes {{ {' '.join(_selected(node.name, depth - 1))} }} }}")
    return fields


LISTED = [
    Listed(name, node.name, of[node.name])
    for of in [{each.__name__: each.table.name for each in SUBJECTS}]
    for name, field in model.schema.query_type.fields.items()  # type: ignore[union-attr]
    if "scope" in field.args
    for node in [node_type(model.schema.type_map[str(field.type).rstrip("!")])]
    if node is not None
]


async def seen_by_all(database: Database, tenant: Tenant, table: str) -> set[str]:
    """The ids of the rows that every user of a tenant may see."""
    async with database.transaction(tenant, read_only=True) as work:
        return set(await work.texts(f'SELECT id::text FROM "{table}"'))


def ids_of(answer: Any) -> set[tuple[str, str]]:
    """The tenant and the key of each row of a page."""
    return {(edge["tenant"]["slug"], edge["node"]["id"].partition("_")[2]) for edge in answer["edges"]}
