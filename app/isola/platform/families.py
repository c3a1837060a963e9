"""The tenants below another whose rows its users read in one statement, and the log of such reads."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from functools import cached_property, partial
from uuid import UUID

from sqlalchemy import Uuid, bindparam, func, select

from isola.database.transactions import Database, Transaction
from isola.errors import BadUserInput
from isola.platform.cache import MISSING, Cache
from isola.platform.changes import Changes, Kind
from isola.platform.sign_in_log import SignInLog
from isola.platform.tenants import Tenant, tenants
from isola.query.family import Family, Member
from isola.subjects.permissions import Permission
from isola_strategies.base import Capability, Strategy

MOST = 200
"""The most descendants whose rows one statement reads."""
MAX_CACHED = 1_000
_PROVED = f"{Permission.FAMILY_READ} isola:family"
# What the transaction proves: no user, whose rows a rule could show, but that a server reads for one who may.
_ABOUT = {"permissions": _PROVED}


@dataclass(frozen=True)
class Descendants:
    """The active descendants of a tenant. ``capable``: the strategies of all of them have the capability."""

    family: Family
    slugs: Sequence[str]
    names: Sequence[str]
    number: int
    capable: bool

    @cached_property
    def given(self) -> Mapping[str, object]:
        """The values of a statement: see isola.query.family."""
        return {"slugs": list(self.slugs), "names": list(self.names), "list": self.family.listed if self.number else ""}

    def refuse_unreadable(self) -> None:
        """Raise BadUserInput for too many, and for a strategy without the capability."""
        if self.number > MOST:
            raise BadUserInput(f"scope: expected at most {MOST} active descendants, not {self.number}", "scope")
        if not self.capable:
            raise BadUserInput("scope: the rows of a descendant cannot be read under its isolation strategy", "scope")


class Families:
    """Looks up descendants, and enters the role that reads their rows. Answers are cached until they change."""

    def __init__(
        self,
        control: Database,
        strategies: Mapping[str, Strategy],
        role: str,
        changes: Changes,
        log: SignInLog,
        ttl: float,
    ) -> None:
        self._control = control
        self._strategies = strategies
        self._role = role
        self._log = log
        self._cache: Cache[UUID, Descendants] = Cache(changes, size=MAX_CACHED, ttl=ttl)
        # Moving a tenant in the hierarchy moves all its descendants.
        changes.listen(Kind.TENANT, lambda _: self._cache.invalidate(None))

    async def of(self, tenant: Tenant) -> Descendants:
        """Raises Unavailable."""
        cached = self._cache.get(tenant.id)
        return (
            cached if cached is not MISSING else await self._cache.get_or_fetch(tenant.id, partial(self._fetch, tenant))
        )

    async def newer(self, tenant: Tenant, than: Descendants) -> Descendants | None:
        """Those that are active now; None if they are the same."""
        self._cache.invalidate(tenant.id)
        found = await self.of(tenant)
        return None if found.family == than.family else found

    def transaction(self, database: Database, tenant: Tenant) -> AbstractAsyncContextManager[Transaction]:
        """A transaction of a tenant that reads the rows of its active descendants, and no others."""
        return database.transaction(tenant, read_only=True, about=_ABOUT, role=self._role)

    def note(self, tenant: Tenant, read: Descendants, subjects: Sequence[str]) -> None:
        """Record a read, for the logs of the descendants."""
        if read.number:
            for each in read.family.members:
                for subject in subjects:
                    self._log.read(each.tenant, tenant.id, subject)

    async def _fetch(self, tenant: Tenant) -> Descendants:
        async with self._control.unbound() as transaction:
            rows = await transaction.rows(_FOUND, {"tenant": tenant.id})
        strategies = [self._strategies.get(row["strategy"]) for row in rows]
        capable = all(each is not None and Capability.FAMILIES in each.capabilities for each in strategies)
        members = [
            Member(row["id"], row["home"], strategy)
            for row, strategy in zip(rows, strategies, strict=True)
            if strategy is not None
        ]
        own = self._strategies[tenant.strategy]
        # Without descendants, the statement is of the tenant itself, and the policies hide all rows.
        family = Family(tuple(members) or (Member(tenant.id, own.home(tenant.id).schema, own),))
        slugs, names = ([row[name] for row in rows] or [""] for name in ("slug", "name"))
        return Descendants(family, slugs, names, len(rows), capable)


_active = func.control.active_descendants(bindparam("tenant", type_=Uuid())).table_valued("id", "home")
_FOUND = (
    select(tenants.c.id, tenants.c.slug, tenants.c.name, tenants.c.strategy, _active.c.home)
    .select_from(_active.join(tenants, tenants.c.id == _active.c.id))
    .order_by(tenants.c.id)
)
