"""Explains an operation: its plan, its SQL under each strategy, and PostgreSQL's plan of that SQL."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import select

from isola.api.schema import model
from isola.errors import BadUserInput, NotFound
from isola.identity.authentication import Principal
from isola.platform import migrations, provisioning
from isola.platform.collation import sorts_by_code_point
from isola.platform.secrets import cursor_secret
from isola.query.compiler import Compiler, Reading
from isola.query.documents import Documents, InvalidError
from isola.query.limits import Limits
from isola.query.read_plan import Connection, ConnectionPart, Found, Leaf, Object, ReadPlan, Selected, Selection
from isola.query.variables import Variables
from isola.server.installation import Installation
from isola.subjects import features
from isola.subjects.permissions import Role, of_role
from isola.subjects.users import users

Section = tuple[str, str]
"""A title and a text."""


async def explain(
    installed: Installation,
    text: str,
    *,
    tenant: str,
    user: str | None,
    operation_name: str | None,
    variables: Mapping[str, Any],
    analyze: bool,
) -> list[Section]:
    """Explain one operation as an owner of ``tenant`` would run it.

    ``user`` is the subject of the user to run it as; no user by default. ``analyze`` runs the statement, in a
    read-only transaction. Raises BadUserInput for a document or variables that a client's request would be refused
    for, NotFound for the tenant, and OperatorError for a database that has to be migrated first.
    """
    async with await installed.control() as control, await installed.tenants() as tenants:
        placed = await provisioning.named(control, tenant)
        async with control.unbound() as work:
            await migrations.refuse_behind(work)
            secret, by_code_point = await cursor_secret(work), await sorts_by_code_point(work)
        compiler = Compiler(model, Limits(), secret, by_code_point=by_code_point)
        async with tenants.transaction(placed, read_only=True) as work:
            user_id = await work.scalar(select(users.c.id).where(users.c.subject == user)) if user else None
            if user and user_id is None:
                raise NotFound(f"tenant {tenant} has no user {user!r}")
            every = frozenset(features.known())
            caller = Principal(placed, user_id or UUID(int=0), (Role.OWNER,), of_role(Role.OWNER), features=every)
            readings = _readings(compiler, text, operation_name, variables, caller)
            sections: list[Section] = []
            for key, reading in readings.items():
                suffix = f" of the payload of {key}" if key else ""
                sections.append((f"Plan{suffix}", "\n".join(_selection(reading.plan.root, 0))))
                sections += [
                    (f"SQL{suffix} under {name}", compiler.statement(reading, strategy).sql)
                    for name, strategy in installed.strategies.items()
                ]
                # A payload is read with values from the executed mutation; there are none here.
                if not key:
                    statement = compiler.statement(reading, work.strategy)
                    options = "ANALYZE, BUFFERS, VERBOSE" if analyze else "VERBOSE"
                    values = statement.arguments(reading.caller, (), reading.values)
                    lines = await work.texts(f"EXPLAIN ({options}) {statement.sql}", *values)
                    explained = _without_keys("\n".join(lines), values)
                    sections.append((f"PostgreSQL's plan for {tenant}, under {placed.strategy}", explained))
            return sections


def _without_keys(explained: str, values: Sequence[Any]) -> str:
    """PostgreSQL's plan without the keys of cursors, which are the only bytes among its parameters."""
    for value in values:
        if isinstance(value, bytes):
            explained = explained.replace(value.hex(), "…")
    return explained


def _readings(
    compiler: Compiler, text: str, operation_name: str | None, variables: Mapping[str, Any], caller: Principal
) -> Mapping[str, Reading]:
    """Readings by the response key of the mutation; a query has one, without a key."""
    try:
        operation = Documents(model.schema, compiler.limits).find(text).operation(operation_name)
        values = Variables(model.schema, operation).coerced(variables, max_errors=20, hide_suggestions=False)
        if isinstance(values, list):
            raise InvalidError(values)
    except InvalidError as error:
        raise BadUserInput("; ".join(each.message for each in error.errors)) from None
    plans = compiler.plans(operation, values.coerced)
    named = {"": plans} if isinstance(plans, ReadPlan) else plans
    readings = {key: compiler.read(plan, values, caller) for key, plan in named.items()}
    for refused in (each for reading in readings.values() for each in reading.refused.values()):
        raise refused.refusal
    return readings


def _selection(selection: Selection, depth: int) -> Iterator[str]:
    for each in selection.fields:
        yield f"{'  ' * depth}{each.key}: {_kind(each)}"
        match each:
            case Object():
                yield from _selection(each.selection, depth + 1)
            case Connection():
                yield from _parts(each.parts, depth + 1)
            case Found():
                for type_, below in each.choices.items():
                    yield f"{'  ' * (depth + 1)}on {type_}"
                    yield from _selection(below, depth + 2)


def _parts(parts: tuple[ConnectionPart, ...], depth: int) -> Iterator[str]:
    for part in parts:
        yield f"{'  ' * depth}{part.key}"
        yield from (f"{'  ' * (depth + 1)}{each.key}" for each in part.groups)
        yield from _parts(part.parts, depth + 1)
        if part.selection:
            yield from _selection(part.selection, depth + 1)


def _kind(selected: Selected) -> str:
    match selected:
        case Leaf():
            of = selected.value.of
            return of if isinstance(of, str) else "an expression"
        case Object():
            return f"one {selected.selection.type}"
        case Connection():
            return f"a connection of {selected.node}, site {selected.site}"
        case Found():
            return f"a look-up by id, site {selected.site}"
        case _:
            return "a constant"
