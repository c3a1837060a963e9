"""Tenants with rows: how many, how large, and where they are once they have been made."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from isola.installed import metadata
from isola.lab.place import Place
from isola.platform.tenants import Tenant
from isola.subjects.applications import BUILT_IN

WITHOUT = "none"
"""The subject without isolation, and the strategy of its population: shared tables, their policies taken away."""
SHARED = "rls"
"""The strategy whose tables those are."""
OWN_TABLES = len(metadata.tables)
"""How many tables the product has in a home. A population can have more, which stand for a larger application."""


@dataclass(frozen=True, slots=True)
class Size:
    """A population to be: ``rows`` are resources a tenant, on average; each has five spans.

    ``strategy`` is the name of an installed one, or ``none``: shared tables with their policies taken away.
    ``skew`` is ``even`` or ``zipf`` (the n-th tenant has 1/n of the first's rows). ``tables`` are those of a home. Of
    an ``application`` that is not the one that ships, ``rows`` are a tenant's of each of its subjects. What
    ``is_changed`` by measurements is kept apart from what is only read.
    """

    strategy: str
    tenants: int
    rows: int
    skew: str = "even"
    tables: int = OWN_TABLES
    application: str = BUILT_IN
    is_changed: bool = False

    @property
    def placement(self) -> str:
        """The strategy that makes the homes."""
        return SHARED if self.strategy == WITHOUT else self.strategy


@dataclass(frozen=True, slots=True)
class Resident:
    """A tenant with its data. The n-th resident has equal rows, keys included, under every strategy.

    ``user`` is one of its users, whose token's subject is that id; ``resources`` are some of its resources' ids, and
    ``keys`` some ids of each subject that it has rows of, by the subject's name.
    """

    number: int
    tenant: Tenant
    rows: int
    user: UUID
    resources: tuple[UUID, ...]
    keys: Mapping[str, Sequence[UUID]]


@dataclass(frozen=True, slots=True)
class Population:
    """Residents, the largest first, alone in a database of their own; vacuumed and analyzed."""

    size: Size
    place: Place
    residents: Sequence[Resident]

    @property
    def tenants(self) -> Sequence[Tenant]:
        return [resident.tenant for resident in self.residents]
