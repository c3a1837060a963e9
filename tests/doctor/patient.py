"""A database as its owner changes it: changes are examined, and rolled back with the transaction.

This includes roles, which belong to the server and not to the database of a test.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import date

from isola.database.transactions import Database, Transaction
from isola.doctor.check import Check, Finding
from isola.doctor.checks import CHECKS
from isola.doctor.examination import run_checks
from isola.doctor.vocabulary import HOMES, TENANT_COLUMN
from isola.platform import logins, provisioning
from isola.testing.fixtures import DEFAULTS
from isola_strategies import registry

# These tests do not cover the properties of the server itself.
MENDED = 180007
TODAY = date(2026, 11, 20)

Names = Mapping[str, str]


class UndoneError(Exception):
    """Rolls back a transaction."""


@dataclass(frozen=True, slots=True)
class Patient:
    transaction: Transaction
    names: Names

    async def suffer(self, sql: str) -> None:
        """Run statements, with the names of roles and homes filled in."""
        await self.transaction.script(self.named(sql))

    async def findings(
        self,
        *,
        login: str | None = None,
        column: str = TENANT_COLUMN,
        homes: str = HOMES,
        version: int = MENDED,
        today: date = TODAY,
        checks: Sequence[Check] = CHECKS,
    ) -> list[Finding]:
        given = (login or self.names["login"], column, homes, version, today)
        return list((await run_checks(self.transaction, given, checks)).findings)

    def named(self, text: str) -> str:
        return text.format(**self.names)


async def names(owner: Database, address: str) -> Names:
    """What a patient's parts are called: its login, and the homes of two tenants."""
    where = logins.addresses(DEFAULTS, address)
    schema = registry.load(where.tenant_login)["schema"]
    async with owner.unbound() as transaction:
        return {
            "login": where.tenant_login,
            "owner": await transaction.value("SELECT quote_ident(current_user)"),
            "database": await transaction.value("SELECT quote_ident(current_database())"),
            **{letter: schema.home((await provisioning.named(owner, f"schema-{letter}")).id).schema for letter in "ab"},
        }


@asynccontextmanager
async def admitted(owner: Database, called: Names) -> AsyncIterator[Patient]:
    try:
        async with owner.unbound() as transaction:
            yield Patient(transaction, called)
            raise UndoneError
    except UndoneError:
        pass
