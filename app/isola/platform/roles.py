"""The names of the roles that an installation has besides its logins.

Roles belong to the cluster. Two installations with different owners must not share a role: an owner that may grant it
could also become a member, and so reach the other database. So all names begin with a setting, ``ISOLA_ROLES``.
"""

from dataclasses import dataclass
from typing import Self

from isola.database.transactions import Transaction

DEFAULT = "isola"


@dataclass(frozen=True, slots=True)
class Roles:
    """See app/isola/platform/logins.py for the purpose of each."""

    prefix: str = DEFAULT

    @property
    def members(self) -> str:
        return f"{self.prefix}_members"

    @property
    def sharing(self) -> str:
        return f"{self.prefix}_sharing"

    @property
    def audit(self) -> str:
        return f"{self.prefix}_audit"

    @property
    def quotas(self) -> str:
        return f"{self.prefix}_quotas"

    @property
    def watchdog(self) -> str:
        return f"{self.prefix}_watchdog"

    @property
    def sql(self) -> str:
        return f"{self.prefix}_sql"

    @property
    def sql_functions(self) -> str:
        return f"{self.prefix}_sql_functions"

    @property
    def family(self) -> str:
        return f"{self.prefix}_family"

    @property
    def words(self) -> str:
        return f"{self.prefix}_words"

    @property
    def retention(self) -> str:
        return f"{self.prefix}_retention"

    @property
    def storage(self) -> str:
        return f"{self.prefix}_storage"

    @property
    def inner(self) -> tuple[str, ...]:
        """Roles without a login that functions run as. No tenant's transaction may become one of them."""
        return (
            self.sharing,
            self.audit,
            self.quotas,
            self.watchdog,
            self.sql_functions,
            self.words,
            self.retention,
            self.storage,
        )

    @classmethod
    async def of(cls, transaction: Transaction) -> Self:
        """The roles of the installation in this database, which has been migrated."""
        owner: str = await transaction.value(
            "SELECT rolname FROM pg_proc p JOIN pg_roles r ON r.oid = proowner "
            "WHERE p.oid = to_regprocedure('isola.bound_tenant()')"
        )
        return cls(owner.removesuffix("_sharing"))
