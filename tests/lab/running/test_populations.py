"""Populations: equal rows under every strategy, in its tables and with its policies."""

import pytest

from isola.errors import OperatorError
from isola.lab.filling import FILLED, shares
from isola.lab.laboratory import Laboratory
from isola.lab.population import OWN_TABLES, Population, Size
from isola.testing.fixtures import STRATEGIES
from isola.testing.oracles.canary import stored

LOOSE = """
SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
WHERE relkind = 'r' AND (nspname = 'rls' OR nspname LIKE 't\\_%')
  AND NOT (relrowsecurity AND relforcerowsecurity)
"""
DISABLED = "SELECT count(*) FROM pg_trigger WHERE tgenabled <> 'O'"


async def rows(population: Population) -> list[list[tuple[str, ...]]]:
    """All rows of each resident, whoever may see them."""
    found = []
    async with await population.place.owner() as owner:
        for resident in population.residents:
            strategy = population.place.strategies[resident.tenant.strategy]
            tables = await stored(owner, strategy, resident.tenant)
            found += [[tuple(map(str, row.values())) for row in tables[name]] for name in FILLED]
    return found


async def test_residents_have_equal_rows_under_every_strategy(laboratory: Laboratory) -> None:
    populations = [
        await laboratory.population(strategy=name, tenants=2, rows=3, skew="zipf", tables=OWN_TABLES + 2)
        for name in STRATEGIES
    ]
    first = await rows(populations[0])
    assert [len(each) for each in first] == [10, 3, 10, 4, 20, 10, 3, 10, 2, 10]
    for other in populations[1:]:
        assert await rows(other) == first
        assert [each.resources for each in other.residents] == [each.resources for each in populations[0].residents]
    for population in populations:
        async with await population.place.owner() as owner, owner.unbound() as work:
            assert await work.value(LOOSE) == 0
            assert await work.value(DISABLED) == 0
            further = await work.value("SELECT count(*) FROM pg_class WHERE relname ~ '^further_...$'")
        assert further == 2 * len(population.place.strategies[population.size.strategy].homes(
            [tenant.id for tenant in population.tenants]
        ))  # fmt: skip


async def test_a_population_is_made_once(laboratory: Laboratory) -> None:
    first = await laboratory.population(strategy="rls", tenants=2, rows=1)
    assert await laboratory.population(strategy="rls", tenants=2, rows=1) is first


async def test_without_isolation_the_policies_are_gone_and_the_rows_are_the_same(laboratory: Laboratory) -> None:
    population = await laboratory.population(strategy="none", tenants=2, rows=1)
    async with await population.place.owner() as owner, owner.unbound() as work:
        assert await work.value("SELECT count(*) FROM pg_class WHERE relrowsecurity") == 0
        assert await work.value("SELECT count(*) FROM rls.resources") == 2


def test_a_skewed_population_has_as_many_rows_as_an_even_one() -> None:
    skewed = shares(Size("rls", 1000, 50, "zipf"))
    assert sum(skewed) == pytest.approx(50_000, rel=0.02)
    assert skewed[0] > 6_000
    assert min(skewed) > 0


def test_an_unknown_skew_is_refused() -> None:
    with pytest.raises(OperatorError, match="expected even or zipf"):
        shares(Size("rls", 10, 10, "normal"))
