from collections.abc import Mapping
from importlib.metadata import entry_points
from types import MappingProxyType

from sqlalchemy.dialects import postgresql

from isola_strategies.base import Strategy

GROUP = "isola.strategies"

quote = postgresql.dialect().identifier_preparer.quote  # type: ignore[no-untyped-call]  # SQLAlchemy has no annotations here


def load(login: str) -> Mapping[str, Strategy]:
    """Every installed strategy by its name, made for the login role of tenant traffic.

    Raises ValueError if two packages use the same name, or if a strategy's name differs from its entry point's name.
    """
    strategies: dict[str, Strategy] = {}
    for point in entry_points(group=GROUP):
        if point.name in strategies:
            raise ValueError(f"two strategies are called {point.name!r}; the second is {point.value}")
        strategy: Strategy = point.load()(quote(login))
        if strategy.name != point.name:
            raise ValueError(f"{point.value} is offered as {point.name!r} but calls itself {strategy.name!r}")
        strategies[point.name] = strategy
    return MappingProxyType(strategies)
