"""Reads the payloads of a mutation, each in the transaction of its change, or repeats those that a key had first."""

from collections.abc import Callable, Mapping, Set as AbstractSet
from functools import partial
from typing import Any, TypeAlias

from graphql import GraphQLResolveInfo

from isola.api.body import loaded
from isola.api.idempotency import Once
from isola.query import marks
from isola.query.caller import Transaction
from isola.query.compiler import Compiler, Reading
from isola.query.json_text import VIOLATION

# Annotations of an inner function are evaluated each time that it is made, and making a type takes microseconds.
Resolver: TypeAlias = Callable[..., Any]
"""A resolver, or middleware of graphql-core, which gets the resolver and its arguments."""
Info: TypeAlias = GraphQLResolveInfo[Any]


class Payloads:
    """The payloads of one mutation, by response key. ``once``: the request has an idempotency key.

    ``marked``: graphql-core completes them, for which they have type marks. Otherwise ``texts`` are what clients get.
    """

    def __init__(self, compiler: Compiler, readings: Mapping[str, Reading], once: Once | None, *, marked: bool) -> None:
        self._compiler = compiler
        self._readings = readings
        self._once = once
        self._marked = marked
        self.texts: dict[str, str] = {}

    async def select(self, key: str, transaction: Transaction, given: dict[str, object]) -> Any:
        """Read the payload of a field, as its resolver returns it."""
        claim = self._once.claim if self._once else None
        text = await self._compiler.fetch(self._readings[key], transaction, given, marked=self._marked, claim=claim)
        if VIOLATION in text:
            raise ValueError("mutation: a non-null value is null; the transaction is rolled back")
        # All payloads count towards one response; if this one exceeds the limit, its change is rolled back.
        self._compiler.limits.check_answer(text, *self.texts.values())
        if self._once:
            self._once.count(text)
        return self._taken(key, text)

    def once(self, once: Once, refused: AbstractSet[str]) -> Resolver:
        """Middleware for graphql-core that executes each root field once. ``refused`` fields are not executed."""
        places = [*self._readings]

        def answer(resolve: Resolver, parent: Any, info: Info, **arguments: Any) -> Any:
            key = str(info.path.key)
            if info.path.prev is not None or key not in self._readings or key in refused:
                return resolve(parent, info, **arguments)
            resolved = partial(resolve, parent, info, **arguments)
            return once.answer(places.index(key), resolved, partial(self._taken, key))

        return answer

    def _taken(self, key: str, text: str) -> Any:
        # A kept answer has the marks of its statement.
        text, _ = marks.counted(text)
        self.texts[key] = text
        return loaded(text) if self._marked else {}
