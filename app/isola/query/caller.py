"""The interface that the compiler needs: the caller, and a transaction that is already bound to their tenant."""

from collections.abc import Awaitable, Callable, Hashable, Sequence, Set as AbstractSet
from contextlib import AbstractAsyncContextManager
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable
from uuid import UUID

from sqlalchemy import ARRAY, BindParameter, ColumnElement, Text, Uuid, bindparam, literal
from sqlalchemy.types import TypeEngine

from isola.subjects.work import Work

if TYPE_CHECKING:
    from isola.database.claims import Claim


class Tenant(Protocol):
    @property
    def id(self) -> UUID: ...
    @property
    def slug(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def entitlements(self) -> "Entitlements": ...
    @property
    def logged_reads(self) -> frozenset[str]: ...


class Entitlements(Protocol):
    def offering(self, feature: str) -> Sequence[str]:
        """The names of the offered plans that have a feature."""
        ...


class Principal(Protocol):
    @property
    def tenant(self) -> Tenant: ...
    @property
    def user_id(self) -> UUID: ...
    @property
    def roles(self) -> Sequence[str]: ...
    @property
    def permissions(self) -> AbstractSet[str]: ...
    @property
    def features(self) -> AbstractSet[str]: ...


class Placement(Hashable, Protocol):
    """The part of a strategy that affects statements: see isola_strategies.base."""

    def predicate(self, table: str) -> str | None: ...


class Transaction(Work, Protocol):
    @property
    def strategy(self) -> Placement: ...

    async def value(self, sql: str, *parameters: object) -> Any:
        """Run SQL text with ``$n`` parameters; the first column of the first row."""
        ...


class Context(Protocol):
    """One request."""

    @property
    def principal(self) -> Principal: ...

    def transaction(
        self, *, read_only: bool = False, claim: "Claim | None" = None
    ) -> AbstractAsyncContextManager[Transaction]:
        """Begin a transaction bound to the caller's tenant; commit on exit, or roll back after an exception.

        ``claim`` is for one that can write: see isola.database.claims.
        """
        ...


@runtime_checkable
class ReadsDescendants(Protocol):
    """One request in which the rows of the tenants below the caller's can be read."""

    async def read_descendants(
        self, subjects: Sequence[str], read: Callable[[Transaction, Any], Awaitable[str]]
    ) -> str:
        """See isola.api.context."""
        ...


COLUMNS: dict[str, TypeEngine[Any]] = {
    "user_id": Uuid(),
    "tenant_slug": Text(),
    "tenant_name": Text(),
    "roles": ARRAY(Text()),
    "permissions": ARRAY(Text()),
}


def values(principal: Principal) -> tuple[object, ...]:
    """The values of the caller that statements can use, in the order of COLUMNS."""
    tenant = principal.tenant
    return principal.user_id, tenant.slug, tenant.name, list(principal.roles), _sorted(principal.permissions)


@lru_cache(100)
def _sorted(permissions: AbstractSet[str]) -> list[str]:
    return sorted(permissions)


# Group 0 of a statement's parameters: see isola.query.statement.
PARAMETERS: dict[str, BindParameter[Any]] = {
    name: bindparam(f"v0_{index}", type_=type_) for index, (name, type_) in enumerate(COLUMNS.items())
}


def user_id() -> BindParameter[UUID]:
    """The caller's user id, for a mapping's condition."""
    return PARAMETERS["user_id"]


def may(permission: str) -> ColumnElement[bool]:
    """Whether the caller has a permission, for a mapping's condition."""
    return literal(permission, Text()) == PARAMETERS["permissions"].any_()
