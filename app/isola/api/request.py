"""The context that resolvers of mutations receive."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias, TypeVar, cast

import strawberry

from isola.api.idempotency import Once
from isola.api.services import Services
from isola.identity.visitors import Visitor
from isola.query.caller import Context, Transaction
from isola.subjects.actor import Actor

Payload = TypeVar("Payload")
_OUTCOME = "\0outcome"
"""The key of a payload's dict that has its outcome. It is no valid field name."""


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


def with_outcome(selected: Payload, outcome: str | None) -> Payload:
    """A payload that ``payload`` returned, with the value of its field that ``outcome_field`` made.

    PostgreSQL may log parameters of statements, so no statement gets a new credential.
    """
    return cast(Payload, {**cast(dict[str, Any], selected), _OUTCOME: outcome})


def outcome_field(description: str) -> Any:
    """A field of a payload whose value comes from Python: a new credential, or the result of a call."""
    return strawberry.field(resolver=_outcome, description=description)


def _outcome(root: strawberry.Parent[Any]) -> str | None:
    outcome: str | None = root[_OUTCOME]
    return outcome


def fields_of(input_: object) -> dict[str, Any]:
    """The fields of an input that the client sent."""
    return {name: value for name, value in vars(input_).items() if value is not strawberry.UNSET}
