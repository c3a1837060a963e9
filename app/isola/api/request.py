"""The context that resolvers of mutations receive."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias, TypeVar

import strawberry

from isola.api.idempotency import Once
from isola.api.services import Services
from isola.identity.visitors import Visitor
from isola.query.caller import Context, Transaction
from isola.subjects.actor import Actor

Payload = TypeVar("Payload")


class Select(Protocol):
    async def __call__(self, key: str, transaction: Transaction, given: dict[str, object]) -> Any: ...


def _no_visitor() -> None:
    pass


@dataclass(frozen=True, slots=True)
class Request:
    """One request, as resolvers see it. ``once``: it has an idempotency key."""

    context: Context
    select: Select
    services: Services
    visitor: Callable[[], Visitor | None] = _no_visitor
    once: Once | None = None

    @property
    def actor(self) -> Actor:
        return Actor(self.context.principal.user_id, self.context.principal.permissions)

    def transaction(self) -> AbstractAsyncContextManager[Transaction]:
        return self.context.transaction(claim=self.once.claim if self.once else None)


Info: TypeAlias = strawberry.Info[Request, None]


async def payload(type_: Callable[..., Payload], info: Info, work: Transaction, **given: object) -> Payload:  # noqa: ARG001  callers pass it
    """The part of a mutation's payload that the client selected, read in the same transaction.

    ``given`` has a value for each parameter that the payload's type is mapped to.
    """
    selected: Payload = await info.context.select(str(info.path.key), work, given)
    return selected


def fields_of(input_: object) -> dict[str, Any]:
    """The fields of an input that the client sent."""
    return {name: value for name, value in vars(input_).items() if value is not strawberry.UNSET}
