"""Populations of tenants with rows: their specification, and the created tenants."""

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
DATABASES = "database"
"""The subject with a database for each tenant: copies of one that holds the product and one tenant."""
MOST_DATABASES = 50
"""The most databases that are made: each takes some 11 MB and a fifth of a second."""
OWN_TABLES = len(metadata.tables)
"""How many tables the product has in a home. A population can have more, which stand for a larger application."""


@dataclass(frozen=True, slots=True)
class Size:
    """The specification of a population: ``rows`` is the average number of resources per tenant, each with five spans.

    ``strategy`` is the name of an installed one, or ``none``: shared tables without policies. ``skew`` is ``even`` or
    ``zipf`` (the n-th tenant has 1/n of the first's rows). ``tables`` are those of a home. For an ``application`` other
    than the built-in one, ``rows`` counts a tenant's rows of each of its subjects. Populations that measurements
    change (``is_changed``) are separate from read-only ones.
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
        """The strategy that creates the homes."""
        return SHARED if self.strategy == WITHOUT else self.strategy


@dataclass(frozen=True, slots=True)
class Resident:
    """A tenant with its data. The n-th resident has the same rows, including keys, under every strategy.

    ``user`` is the id of one of its users and the subject in that user's token; ``resources`` are some of its resource
    ids, and ``keys`` some ids of each subject that has rows, by the subject's name.
    """

    number: int
    tenant: Tenant
    rows: int
    user: UUID
    resources: tuple[UUID, ...]
    keys: Mapping[str, Sequence[UUID]]


@dataclass(frozen=True, slots=True)
class Population:
    """Residents, largest first, in a separate database that is vacuumed and analyzed."""

    size: Size
    place: Place
    residents: Sequence[Resident]

    @property
    def tenants(self) -> Sequence[Tenant]:
        return [resident.tenant for resident in self.residents]
