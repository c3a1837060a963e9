"""Migrates the platform's tables, and every home, to the newest revision.

Alembic holds the histories, one for the platform and one for each application, and renders them as SQL, once for each
strategy and starting point. The SQL runs in each home in one transaction: a home is at its old revisions or at the
newest, even after a crash.
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from io import StringIO

import structlog
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Table, select

from isola.database import failures
from isola.database.transactions import Database, Transaction
from isola.errors import IsolaError, OperatorError
from isola.installed import APPLICATIONS, metadata as domain_metadata
from isola.platform import family_policies, logins, protection, received, registry, rights, visibility
from isola.platform.collation import refuse_unsorted
from isola.platform.owner import refuse_powerless
from isola.platform.roles import Roles
from isola.platform.tenants import metadata as control_metadata, tenants
from isola.shipped import shipped
from isola.subjects import history
from isola.subjects.applications import BUILT_IN
from isola.subjects.declaration import DeclarationError
from isola.subjects.metadata import Counted
from isola_strategies.base import Capability, Home, Strategy

log = structlog.get_logger()

MIGRATIONS = shipped("migrations")

# A home that is locked by others is reported and left for the next run; otherwise all its traffic would queue up.
LOCK_TIMEOUT = "SET LOCAL lock_timeout TO '5s'"
# Nobody queues behind an advisory lock. The watchdog of a server ends SQL sessions that keep it.
_TURN_TIMEOUT = "SET LOCAL lock_timeout TO '15s'"

# A statement fails if a policy would hide rows from it, instead of silently skipping them.
NOTHING_HIDDEN = "SET LOCAL row_security TO off"

# A home's revisions are the comment of its schema, after this word: one query reads those of thousands of homes, where
# tables of revisions would have to be opened one by one. *Measured*: 10,000 homes in 0.2 s instead of 6.
MARK = "isola "
_REVISIONS = """
SELECT nspname, substr(description, length($2) + 1)
FROM pg_namespace n JOIN pg_description d ON d.objoid = n.oid AND d.classoid = 'pg_namespace'::regclass
WHERE nspname = ANY ($1) AND starts_with(description, $2)
"""

Progress = Callable[[int, int], None]
"""Called with the number of finished homes, and of all."""


def silent(done: int, total: int) -> None:
    """Ignore progress."""


@dataclass(frozen=True, slots=True)
class Placed:
    """A home, its strategy, and its revisions as one text: None where nothing has been created yet.

    They include those of applications that are not installed here.
    """

    strategy: Strategy
    home: Home
    revision: str | None

    @property
    def is_newest(self) -> bool:
        at = parsed(self.revision)
        return all(at.get(name) == each for name, each in newest_of_all().items())


@dataclass(frozen=True, slots=True)
class Report:
    """The findings and results of a run.

    ``behind`` maps homes to their revisions, ``failed`` homes to the reason, and ``shut`` homes at the newest
    revision to what is not as it was made: a right that is missing or one too many, a policy, a view. ``platform``
    lists rights that the platform's roles lack or should not have.
    """

    homes: int
    control: str | None
    behind: Mapping[str, str | None]
    failed: Mapping[str, str]
    shut: Mapping[str, str] = field(default_factory=dict)
    platform: Sequence[str] = ()


def _config(name: str, strategy: Strategy | None, output: StringIO | None = None) -> Config:
    is_control = name == "control"
    config = Config(output_buffer=output or StringIO())
    config.set_main_option("script_location", str(MIGRATIONS))
    ours = {"control": MIGRATIONS / "control", BUILT_IN: MIGRATIONS / "tenant"}
    folder = ours.get(name) or APPLICATIONS[name].migrations
    config.set_main_option("version_locations", str(folder))
    config.set_main_option("path_separator", "newline")
    config.attributes["strategy"] = strategy
    config.attributes["metadata"] = control_metadata if is_control else domain_metadata
    config.attributes["schema"] = "control" if is_control else None
    return config


@cache
def _scripts(history: str) -> ScriptDirectory:
    return ScriptDirectory.from_config(_config(history, None))


@cache
def newest(name: str) -> str | None:
    """The newest revision of ``control`` or of an application; None where there is none.

    Raises OperatorError for an invalid history.
    """
    try:
        return history.newest(_scripts(name))
    except DeclarationError as error:
        raise OperatorError(f"the application {name}: {error}") from error


@cache
def head(history: str) -> str:
    """The newest revision of ``control``, or of ``tenant``: of all applications, as in the comments of homes."""
    if history == "control":
        return str(newest(history))
    return written(newest_of_all())


@cache
def newest_of_all() -> Mapping[str, str | None]:
    """The newest revision of each application, and the digest of its visibility rules under ``<name>-rules``."""
    return {**{name: newest(name) for name in APPLICATIONS}, **_rules()}


@cache
def _rules() -> Mapping[str, str]:
    return {f"{name}-rules": visibility.digest(name) for name in APPLICATIONS}


def written(revisions: Mapping[str, str | None]) -> str:
    """Revisions by application as one text: ``0003, agents 0001``, with the digests of their rules."""
    of_others = [f"{name} {at}" for name, at in sorted(revisions.items()) if name != BUILT_IN and at is not None]
    return ", ".join([str(revisions[BUILT_IN]), *of_others])


def parsed(revisions: str | None) -> Mapping[str, str]:
    """Parse that text into revisions by application. Empty for a home without tables."""
    first, *others = (revisions or "").split(", ")
    return {BUILT_IN: first, **dict(each.split(" ", 1) for each in others)} if first else {}


@cache
def known_revisions(history: str) -> frozenset[str]:
    """Every revision of ``control`` or of an application that this program knows."""
    return frozenset(script.revision for script in _scripts(history).walk_revisions())


def advice(history: str, at: str | None) -> str:
    """Advice for revisions that are not the newest."""
    revisions = {} if at is None else {history: at} if history == "control" else parsed(at)
    newer = [f"{name} {each}" for name, each in revisions.items() if _is_newer(name, each)]
    if not newer:
        return f"at {at or 'nothing'}, not at revision {head(history)}: isola migrate"
    return (
        f"at revision {at}, which this program does not know: it is newer than this program, "
        f"whose newest is {head(history)}: upgrade the program"
    )


def _is_newer(history: str, revision: str) -> bool:
    return history in {"control", *APPLICATIONS} and revision not in known_revisions(history)


@cache
def rendered(history: str, strategy: Strategy | None, start: str | None) -> str:
    """The SQL from revision ``start`` (None: from nothing) to the newest; only names in ``control`` are qualified.

    Raises OperatorError for a revision that this program does not know.
    """
    if start is not None and start not in known_revisions(history):
        raise OperatorError(f"{history} is at revision {start}, which this program does not know: upgrade the program")
    output = StringIO()
    command.upgrade(_config(history, strategy, output), f"{start or 'base'}:head", sql=True)
    return output.getvalue()


@cache
def refuse_unwritten() -> None:
    """Raise OperatorError for an application whose migrations do not create what it declares."""
    for name, application in APPLICATIONS.items():
        try:
            history.revisions(application)
        except DeclarationError as error:
            raise OperatorError(f"the application {name}: {error}") from error
        how = f'isola revision --application {name} -m "…"'
        if newest(name) is None:
            raise OperatorError(f"the application {name} has no revision: {how}")
        try:
            missing = history.differences(application)
        except DeclarationError as error:
            raise OperatorError(f"the history of the application {name}: {error}") from error
        if missing:
            first = history.described(missing[0])
            raise OperatorError(f"the history of the application {name} does not fit its declaration: {first}: {how}")


def clear_caches() -> None:
    """Clear the caches of all histories and definitions, after a change of MIGRATIONS or of declarations."""
    for cached in (_scripts, newest, head, newest_of_all, _rules, known_revisions, rendered):
        cached.cache_clear()
    visibility.clear_caches()


def upgrade(placed: Placed, roles: Roles, *, complete: bool = False) -> str:
    """Statements that migrate one home to the newest revision, and grant all roles their rights there.

    Everything but the tables is created anew at any revision: the database may have been restored without its roles.
    Only policies, views and rights are kept if the home is ``complete`` (they are as they were made), no rule has
    changed, and the revisions do not touch what they read: creating them takes longer than most revisions.
    """
    strategy, home = placed.strategy, placed.home
    tables = domain_metadata.sorted_tables
    changes = [*_changes(strategy, placed.revision)]
    at = parsed(placed.revision)
    has_rules = all(at.get(name) == each for name, each in _rules().items())
    keeps = complete and has_rules and not visibility.is_touched("\n".join(changes))
    statements = [
        *strategy.create_home(home),
        f"SET LOCAL search_path TO {home.schema}",
        NOTHING_HIDDEN,
        *(() if keeps or placed.revision is None else visibility.drop(strategy, home)),
        *changes,
        "SET LOCAL row_security TO on",
        *(() if keeps or placed.revision is None else _renewed(strategy, home, tables, roles)),
        # Checked here, since a condition that fails would block all inserts once there is a limit.
        *(f"EXPLAIN SELECT FROM {table.name} WHERE {each.where}" for table, each in _conditions(tables)),
        *strategy.admit(home, tables),
        *rights.admit_to_home(home, tables, roles),
        *family_policies.admit(strategy, home, roles),
        *(() if keeps else visibility.create(strategy, home, roles)),
        f"COMMENT ON SCHEMA {home.schema} IS '{_comment(placed.revision)}'",
        protection.mark(home),
    ]
    return ";\n".join(statement.rstrip().rstrip(";") for statement in statements)


_WITHOUT_POLICIES = """
DO $$
DECLARE
    one record;
BEGIN
    FOR one IN
        SELECT polname, polrelid::regclass AS relation FROM pg_policy JOIN pg_class c ON c.oid = polrelid
        WHERE relnamespace = current_schema()::regnamespace AND relname = ANY ('{{{tables}}}')
    LOOP
        EXECUTE format('DROP POLICY %I ON %s', one.polname, one.relation);
    END LOOP;
END $$
"""


def _renewed(strategy: Strategy, home: Home, tables: Sequence[Table], roles: Roles) -> Iterator[str]:
    """Statements that replace the policies of a strategy by those that it makes now, and take all rights.

    Those that somebody added or changed are gone then.
    """
    yield _WITHOUT_POLICIES.format(tables=",".join(table.name for table in tables))
    for table in tables:
        yield from strategy.guard(table.name)
    yield from rights.withdraw_from_home(strategy, home, tables, roles)


def _comment(revision: str | None) -> str:
    """The comment of a home that was at ``revision`` and is at the newest now."""
    return (MARK + written({**parsed(revision), **newest_of_all()})).replace("'", "''")


def _conditions(tables: Iterable[Table]) -> Iterator[tuple[Table, Counted]]:
    """The tables of which only some rows count towards a quota, with the condition."""
    for table in tables:
        counted: Counted | None = table.info.get("counted")
        if counted is not None and counted.where is not None:
            yield table, counted


def _changes(strategy: Strategy, revision: str | None) -> Iterator[str]:
    """The SQL that migrates the tables of each application from a home's revisions to the newest."""
    at = parsed(revision)
    for name in APPLICATIONS:
        if at.get(name) != newest(name):
            yield rendered(name, strategy, at.get(name))


async def prepare(owner: Database, addresses: logins.Addresses, *, new_passwords: bool = False) -> None:
    """Create the roles, migrate the platform's own tables to the newest revision, and grant each role its rights."""
    async with owner.unbound() as transaction:
        await _prepare(transaction, addresses)
        await logins.set_passwords(transaction, addresses, anyway=new_passwords)
    await logins.refuse_without_password(addresses)


async def _prepare(transaction: Transaction, addresses: logins.Addresses) -> None:
    refuse_unwritten()
    await refuse_powerless(transaction, addresses.all_roles)
    await refuse_unsorted(transaction, domain_metadata.sorted_tables)
    await refuse_newer(transaction)
    await transaction.script(_TURN_TIMEOUT)
    # First, since concurrent grants on the same database fail.
    await transaction.value("SELECT pg_advisory_xact_lock(hashtext('isola.migrate'))")
    await transaction.script(LOCK_TIMEOUT)
    await logins.prepare(transaction, addresses)
    at = await control_revision(transaction)
    if at != head("control"):
        await transaction.script(f"SET LOCAL search_path TO control; {rendered('control', None, at)}")
    await registry.fill(transaction, {name: str(each) for name, each in newest_of_all().items()})
    await transaction.script(rights.admit_to_platform(addresses))
    await received.keep(transaction, addresses)


async def _differences(owner: Database, addresses: logins.Addresses) -> Sequence[str]:
    """What a migration would change in the rights of the platform's roles: runs one, and rolls it back."""
    try:
        async with owner.unbound() as transaction:
            before = await rights.of_platform(transaction, addresses)
            await _prepare(transaction, addresses)
            after = await rights.of_platform(transaction, addresses)
            raise _Tried
    except _Tried:
        # Roles first: other missing rights may follow from them.
        missing = sorted(after - before, key=lambda one: (not one.startswith("the role"), one))
        return [*(f"{one} is missing" for one in missing), *(f"{one} is too much" for one in sorted(before - after))]


class _Tried(Exception):  # noqa: N818  no error: it undoes a transaction
    pass


async def control_revision(transaction: Transaction) -> str | None:
    """The revision of the platform's own tables; None before the first."""
    if await transaction.value("SELECT to_regclass('control.alembic_version')") is None:
        return None
    revision: str | None = await transaction.value("SELECT version_num FROM control.alembic_version")
    return revision


async def refuse_newer(transaction: Transaction) -> None:
    """Raise OperatorError if the platform's own tables belong to a newer program."""
    at = await control_revision(transaction)
    if at is not None and at not in known_revisions("control"):
        raise OperatorError(f"the database is {advice('control', at)}")


async def refuse_behind(control: Transaction) -> None:
    """Raise OperatorError unless the platform's own tables, and all histories, are at the revisions of this program."""
    refuse_unwritten()
    await refuse_unsorted(control, domain_metadata.sorted_tables)
    at = await control_revision(control)
    if at != head("control"):
        raise OperatorError(f"the database is {advice('control', at)}")
    stored = await registry.applications(control)
    for name, expected in newest_of_all().items():
        if stored.get(name) == expected:
            continue
        if name in APPLICATIONS:
            found = f"revision {stored[name]}" if name in stored else "no tables"
            raise OperatorError(
                f"the application {name} is installed, but the database has {found} of it: expected revision "
                f"{expected}: isola migrate"
            )
        raise OperatorError(
            f"the database has other visibility rules than the application declares ({name}): isola migrate"
        )


async def unprotected(control: Transaction, schemas: Sequence[str]) -> Mapping[str, str]:
    """The homes that must not be served, with the reason: the policies that this program relies on are not in force.

    The rules of a home have to be those of this program, or those that the registry has: a newer program migrates while
    servers of the older one run.
    """
    found = dict(await protection.changed(control, schemas))
    revisions = {schema: parsed(at) for schema, at in (await _revisions(control, schemas)).items()}
    older = [schema for schema in schemas if not revisions.get(schema, {}).items() >= _rules().items()]
    if older:
        stored = await registry.applications(control)
        for schema in older:
            at = revisions.get(schema, {})
            if any(at.get(name) not in {rules, stored.get(name)} for name, rules in _rules().items()):
                found[schema] = "its visibility rules are not those that applications declare"
    return found


async def refuse_unprotected(control: Transaction) -> None:
    """Raise OperatorError if no home is protected. If some are not, log it: their tenants are refused."""
    homes = await control.texts("SELECT DISTINCT home FROM control.tenants WHERE home IS NOT NULL ORDER BY 1")
    found = await unprotected(control, homes)
    if not found:
        return
    first = min(found)
    if len(found) == len(homes):
        raise OperatorError(f"the home {first} is not protected: {found[first]}: isola migrate")
    log.warning(
        "some homes are not protected and not served: isola migrate", homes=len(found), first=first, reason=found[first]
    )


async def refuse_strangers(control: Transaction) -> None:
    """Raise OperatorError where tenants may have rows of an application that is not installed here."""
    strange = sorted((await registry.applications(control)).keys() - newest_of_all().keys())
    if strange:
        raise OperatorError(
            f"tenants have tables of the application {strange[0]}, which is not installed: install it first"
        )


async def _revisions(transaction: Transaction, homes: Sequence[str]) -> Mapping[str, str]:
    return await transaction.pairs(_REVISIONS, list(homes), MARK)


async def placements(transaction: Transaction, strategies: Mapping[str, Strategy]) -> Sequence[Placed]:
    """Every home that should exist, with its revision.

    Raises OperatorError when the directory names a strategy that is not installed.
    """
    rows = await transaction.rows(select(tenants.c.id, tenants.c.strategy).where(tenants.c.home.is_not(None)))
    missing = {row["strategy"] for row in rows} - strategies.keys()
    if missing:
        raise OperatorError(f"tenants are placed under strategies that are not installed: {', '.join(sorted(missing))}")
    homes = [
        (strategy, home)
        for name, strategy in strategies.items()
        for home in strategy.homes([row["id"] for row in rows if row["strategy"] == name])
    ]
    revisions = await _revisions(transaction, [home.schema for _, home in homes])
    return [Placed(strategy, home, revisions.get(home.schema)) for strategy, home in homes]


async def check(owner: Database, strategies: Mapping[str, Strategy], addresses: logins.Addresses) -> Report:
    """Find outdated homes and missing rights. Changes nothing.

    Raises OperatorError for a database that is newer than this program, and if its owner could not migrate it.
    """
    async with owner.unbound() as transaction:
        await refuse_powerless(transaction, addresses.all_roles)
        await refuse_unsorted(transaction, domain_metadata.sorted_tables)
        await refuse_newer(transaction)
        at = await control_revision(transaction)
        if at is None:
            return Report(homes=0, control=None, behind={}, failed={})
        placed = await placements(transaction, strategies)
        shut = await _shut(transaction, placed, addresses)
    behind = {one.home.schema: one.revision for one in placed if not one.is_newest}
    platform = await _differences(owner, addresses) if at == head("control") else ()
    return Report(len(placed), at, behind, {}, shut, platform)


async def _shut(transaction: Transaction, placed: Sequence[Placed], addresses: logins.Addresses) -> Mapping[str, str]:
    newest = [one for one in placed if one.is_newest]
    homes = [one.home for one in newest]
    shut: dict[str, str] = {}
    for families in (True, False):
        alike = [one.home for one in newest if (Capability.FAMILIES in one.strategy.capabilities) is families]
        tables = domain_metadata.sorted_tables
        shut |= await rights.shut(transaction, alike, tables, addresses, families=families) if alike else {}
    return {
        **shut,
        **await protection.changed(transaction, [home.schema for home in homes]),
        **await visibility.lacking(transaction, homes, addresses.roles),
    }


async def migrate(
    owner: Database,
    strategies: Mapping[str, Strategy],
    addresses: logins.Addresses,
    *,
    workers: int = 4,
    progress: Progress = silent,
    new_passwords: bool = False,
) -> Report:
    """Migrate everything to the newest revision, ``workers`` homes at a time; ``owner`` has a connection for each.

    A home that fails is reported and does not stop the others. After an interruption, a second run continues with the
    remaining homes. ``new_passwords`` sets the logins' passwords even if other databases use others. Raises
    OperatorError or Unavailable when the platform's own tables cannot be migrated.
    """
    await prepare(owner, addresses, new_passwords=new_passwords)
    async with owner.unbound() as transaction:
        placed = await placements(transaction, strategies)
        shut = await _shut(transaction, placed, addresses)
        older = [one.home for one in placed if not one.is_newest]
        schemas = [home.schema for home in older]
        lacking = await visibility.lacking(transaction, older, addresses.roles)
        changed = await protection.changed(transaction, schemas)
    complete = {*schemas} - lacking.keys() - changed.keys()
    waiting = [one for one in placed if not one.is_newest or one.home.schema in shut]
    behind = {one.home.schema: one.revision for one in waiting if one.home.schema not in shut}
    failed: dict[str, str] = {}
    done = len(placed) - len(waiting)
    progress(done, len(placed))

    async def work() -> None:
        nonlocal done
        while waiting:
            one = waiting.pop()
            try:
                await _upgrade(
                    owner, one, addresses.roles, mend=one.home.schema in shut, complete=one.home.schema in complete
                )
            except IsolaError as error:
                failed[one.home.schema] = failures.sql_message(error) or error.message
            except Exception as error:
                # A failure in one home must not affect the others.
                message = failures.sql_message(error)
                if message is None:
                    log.warning("a home could not be migrated", home=one.home.schema, exc_info=error)
                failed[one.home.schema] = message or str(error)
            done += 1
            progress(done, len(placed))

    async with asyncio.TaskGroup() as group:
        for _ in range(workers):
            group.create_task(work())
    await received.fill(owner, behind.keys() - failed.keys(), failed)
    return Report(len(placed), head("control"), behind, failed, shut)


async def _upgrade(owner: Database, placed: Placed, roles: Roles, *, mend: bool, complete: bool) -> None:
    async with owner.unbound() as transaction:
        await lock_in_turn(transaction, placed.home)
        await transaction.script(LOCK_TIMEOUT)
        now = await _revisions(transaction, [placed.home.schema])
        current = Placed(placed.strategy, placed.home, now.get(placed.home.schema))
        # A tenant that was dropped since the list was read must not come back as an empty home.
        if (mend or not current.is_newest) and await _is_current(transaction, current):
            await transaction.script(upgrade(current, roles, complete=complete))


async def create_home(transaction: Transaction, strategy: Strategy, home: Home) -> None:
    """Create a home that does not exist yet. Raises OperatorError for an outdated one."""
    revisions = await _revisions(transaction, [home.schema])
    placed = Placed(strategy, home, revisions.get(home.schema))
    if placed.revision is None:
        await transaction.script(upgrade(placed, await Roles.of(transaction)))
    elif not placed.is_newest:
        raise OperatorError(f"the home {home.schema} is {advice('tenant', placed.revision)}")


async def lock_in_turn(transaction: Transaction, home: Home) -> None:
    """Serialise creation, migration and deletion of a home, until the end of the transaction."""
    await transaction.script(_TURN_TIMEOUT)
    await transaction.value("SELECT pg_advisory_xact_lock(hashtext($1))", home.schema)
    await transaction.script("SET LOCAL lock_timeout TO DEFAULT")
    # After waiting, a session refreshes its catalogue caches only when it opens a table.
    await transaction.value("SELECT id FROM control.tenants LIMIT 0")


async def _is_current(transaction: Transaction, placed: Placed) -> bool:
    """Whether a home should exist: a shared one always, one of a single tenant while the tenant's entry names it."""
    if placed.home in placed.strategy.homes([]):
        return True
    return await transaction.value("SELECT id FROM control.tenants WHERE home = $1", placed.home.schema) is not None
