"""From a request to the bytes of its response, by one of two executors over the same statement.

When PostgreSQL's text is all that an operation selects, it is the response. When something is left for Python (a
mutation, introspection, a resolver of its own), graphql-core executes over what the statement returned.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from inspect import isawaitable
from types import MappingProxyType
from typing import Any

from graphql import (
    ExecutionResult,
    Executor as GraphQLExecutor,
    FieldNode,
    GraphQLError,
    NameNode,
    OperationDefinitionNode,
    OperationType,
    SelectionSetNode,
    default_field_resolver,
    default_type_resolver,
    execute,
    parse,
)
from graphql.execution.values import VariableValues

from app.api import errors
from app.api.body import dumped, loaded
from app.api.context import NOBODY
from app.api.request import Request
from app.api.services import Services
from app.api.sessions import OPEN
from app.control.challenges import Challenges
from app.errors import BadUserInput, Refusal, Unavailable
from app.identity.api_keys import Mint
from app.identity.resolution import no_credential
from app.identity.sessions import Visitor
from app.query.caller import Context, Transaction
from app.query.compiler import Compiler, Reading
from app.query.documents import Documents, InvalidError, Operation, UnknownHashError
from app.query.json_text import VIOLATION
from app.query.limits import Limits
from app.query.mapping import Model
from app.query.plan import Plan
from app.query.variables import Variables

_MAX_ERRORS = 20
_BAD_REQUEST, _METHOD_NOT_ALLOWED, _INTERNAL = 400, 405, 500


@dataclass(frozen=True, slots=True)
class Response:
    """``status`` is what HTTP says with it; ``body`` is JSON in UTF-8.

    ``is_read``: it answers a query. What a mutation answers may be a secret that was just made.
    """

    status: int
    body: bytes
    is_read: bool = False


class Executor:
    """Executes operations. Made once; raises when a trusted document is not valid."""

    def __init__(
        self,
        model: Model,
        *,
        secret: bytes,
        services: Services | None = None,
        limits: Limits | None = None,
        production: bool = False,
        trusted: Iterable[str] = (),
        trusted_only: bool = False,
    ) -> None:
        """``secret`` keys cursors and API keys, and has to be the same on every server and after a restart.

        ``production`` turns introspection and suggestions off. ``trusted`` are documents that are compiled now; with
        ``trusted_only`` no others are admitted.
        """
        limits = limits or Limits()
        self._schema = model.schema
        self._suggestions = not production
        self._services = services or Services(Mint(secret), Challenges(reserved=lambda _: False))
        self.compiler = Compiler(model, limits, secret)
        self._bare = lru_cache(1000)(_bare)
        # Of a request that gives no variables: nothing of it is in what is kept.
        self._defaults = lru_cache(1000)(self._computed)
        self._variables = lru_cache(1000)(self._declared)
        self.documents = Documents(
            model.schema,
            limits,
            trusted=trusted,
            trusted_only=trusted_only,
            introspection=not production,
            suggestions=not production,
        )
        for document in self.documents.trusted:
            for operation in document.operations.values():
                if not operation.conditions:
                    self.compiler.plans(operation, {})

    async def execute(
        self,
        text: str | None,
        operation_name: str | None,
        variables: Mapping[str, Any] | None,
        extensions: Mapping[str, Any] | None,
        context: Context,
        *,
        mutations: bool = True,
        visitor: Visitor | None = None,
    ) -> Response:
        """Execute one operation. ``mutations=False`` refuses them, as for GET. Raises nothing but cancellation.

        ``visitor`` is who asks, to mutations that are open to all. NOBODY as ``context`` gets to these alone.
        """
        try:
            sha = _hash(extensions)
            if context is NOBODY and not self._admits_nobody(text, sha):
                raise no_credential()
            operation = self.documents.find(text, sha, keep=context is not NOBODY).operation(operation_name)
            if operation.type is OperationType.MUTATION and not mutations:
                message = "mutations are executed by POST only"
                return _refused(_METHOD_NOT_ALLOWED, [errors.told(message, BadUserInput.code)])
            return await self._run(operation, variables or {}, context, visitor)
        except UnknownHashError:
            return _refused(200, [errors.told("PersistedQueryNotFound", "PERSISTED_QUERY_NOT_FOUND")])
        except InvalidError as invalid:
            return _refused(_BAD_REQUEST, errors.invalid(invalid.errors))
        except Refusal as refusal:
            return _refused(refusal.status, [errors.refusal(refusal)])
        except Exception as error:  # noqa: BLE001  whatever it is, the client is told nothing and the log all
            return _refused(_INTERNAL, [errors.crash(error)])

    def _admits_nobody(self, text: str | None, sha: str | None) -> bool:
        """Whether a document has nothing but what is open to all. If not, nobody has looked at it any closer."""
        if text is None:
            return (
                sha is not None
                and (known := self.documents.trusted_by(sha)) is not None
                and all(_is_open(each.node) for each in known.operations.values())
            )
        try:
            document = parse(text, no_location=True, max_tokens=self.compiler.limits.tokens)
        except (GraphQLError, RecursionError):
            return False
        return all(isinstance(each, OperationDefinitionNode) and _is_open(each) for each in document.definitions)

    async def _run(
        self, operation: Operation, variables: Mapping[str, Any], context: Context, visitor: Visitor | None
    ) -> Response:
        """Everything that can be refused is, before the database is asked."""
        if _is_open(operation.node):
            self._coerced(operation, variables)
            request = Request(context, _read_nothing, self._services, visitor)
            return await self._core(operation, variables, None, request)
        principal = context.principal
        try:
            values = self._coerced(operation, variables)
            plans = self.compiler.plans(operation, values.coerced)
            if not isinstance(plans, Plan):
                readings = {key: self.compiler.read(each, values, principal) for key, each in plans.items()}
                return await self._mutate(operation, variables, values, readings, context)
            reading = self.compiler.read(plans, values, principal)
        except GraphQLError as error:
            # A null that a variable brought to where validation could not know of it.
            raise InvalidError([error]) from None
        return await self._query(operation, variables, reading, context)

    async def _query(
        self, operation: Operation, variables: Mapping[str, Any], reading: Reading, context: Context
    ) -> Response:
        if reading.plan.complete and reading.plan.reads:
            try:
                async with context.transaction(read_only=True) as transaction:
                    text = await self.compiler.fetch(reading, transaction, marked=False)
            except Exception as error:  # noqa: BLE001  it becomes the error of every field that was to be read
                return await self._core(operation, variables, _Failed(error), context)
            if VIOLATION not in text:
                return Response(200, b'{"data":%b}' % text.encode(), is_read=True)
        source: Any = {}
        if reading.plan.reads:
            try:
                async with context.transaction(read_only=True) as transaction:
                    source = loaded(await self.compiler.fetch(reading, transaction, marked=True))
            except Exception as error:  # noqa: BLE001  as above
                source = _Failed(error)
        return replace(await self._core(operation, variables, source, context), is_read=True)

    async def _mutate(
        self,
        operation: Operation,
        variables: Mapping[str, Any],
        values: VariableValues,
        readings: Mapping[str, Reading],
        context: Context,
    ) -> Response:
        bare = self._bare(operation)
        # Of a field that is open to all, a statement reads nothing.
        read = len(readings) == len(operation.node.selection_set.selections)
        if bare is None or not read or not all(reading.plan.complete for reading in readings.values()):

            async def select(key: str, transaction: Transaction, given: dict[str, object]) -> Any:
                return loaded(await self.compiler.fetch(readings[key], transaction, given, marked=True))

            return await self._core(operation, variables, None, Request(context, select, self._services))

        texts: dict[str, str] = {}

        async def keep(key: str, transaction: Transaction, given: dict[str, object]) -> Any:
            text = await self.compiler.fetch(readings[key], transaction, given, marked=False)
            if VIOLATION in text:
                raise ValueError(f"{key}: a value that is never null is null; the mutation is rolled back")
            # Together they are one answer; without room for this one, its change is rolled back.
            self.compiler.limits.check_answer(text, *texts.values())
            texts[key] = text
            return {}

        request = Request(context, keep, self._services)
        # The values are coerced already: graphql-core's ``execute`` would do it again.
        executor: GraphQLExecutor[Any] = GraphQLExecutor(
            self._schema,
            {},
            {},
            None,
            request,
            bare,
            values,
            default_field_resolver,
            default_type_resolver,
            default_field_resolver,
            hide_suggestions=not self._suggestions,
        )
        result = await _finished(executor.execute_operation())
        if result.errors or result.data is None:
            # A payload is read before its change is committed: without one, not even the first field has done anything.
            return _answered(result, nothing_done=not texts)
        fields = ",".join([f"{json.dumps(key)}:{texts[key]}" for key in result.data])
        return Response(200, b'{"data":{%b}}' % fields.encode())

    async def _core(self, operation: Operation, variables: Mapping[str, Any], source: Any, context: Any) -> Response:
        """Let graphql-core execute over what was read: completion, errors and null propagation are its own."""
        execution = execute(
            self._schema,
            operation.document,
            root_value=source,
            context_value=context,
            variable_values=dict(variables),
            operation_name=operation.node.name.value if operation.node.name else None,
            max_coercion_errors=_MAX_ERRORS,
            hide_suggestions=not self._suggestions,
        )
        return _answered(await _finished(execution), nothing_done=isinstance(source, _Failed))

    def _coerced(self, operation: Operation, variables: Mapping[str, Any]) -> VariableValues:
        return self._computed(operation, variables) if variables else self._defaults(operation)

    def _declared(self, operation: Operation) -> Variables:
        return Variables(self._schema, tuple(operation.node.variable_definitions or ()))

    def _computed(self, operation: Operation, variables: Mapping[str, Any] = MappingProxyType({})) -> VariableValues:
        if not operation.node.variable_definitions:
            return _NO_VARIABLES
        values = self._variables(operation).coerced(
            variables, max_errors=_MAX_ERRORS, hide_suggestions=not self._suggestions
        )
        if isinstance(values, list):
            raise InvalidError(values)
        return values


_NO_VARIABLES = VariableValues({}, {})


def _is_open(operation: OperationDefinitionNode) -> bool:
    """Whether an operation selects at its root only what is open to all."""
    return operation.operation is OperationType.MUTATION and all(
        isinstance(field, FieldNode) and field.name.value in OPEN for field in operation.selection_set.selections
    )


async def _read_nothing(key: str, transaction: Transaction, given: dict[str, object]) -> Any:  # noqa: ARG001  a Select
    raise TypeError(f"{key}: what is open to all has nothing that a statement reads")


async def _finished(execution: Any) -> ExecutionResult:
    result: ExecutionResult = await execution if isawaitable(execution) else execution
    return result


def _bare(operation: Operation) -> OperationDefinitionNode | None:
    """A mutation that does what the operation does and selects nothing of it; None where that is not so simple.

    graphql-core runs its fields in order, with all that belongs to it, and what is selected of their payloads is
    PostgreSQL's text.
    """
    fields = []
    for field in operation.node.selection_set.selections:
        if not isinstance(field, FieldNode) or field.selection_set is None:
            return None
        fields.append(replace(field, selection_set=_NOTHING))
    return replace(operation.node, selection_set=SelectionSetNode(selections=tuple(fields)))


_NOTHING = SelectionSetNode(selections=(FieldNode(name=NameNode(value="__typename")),))


def _answered(result: ExecutionResult, *, nothing_done: bool) -> Response:
    body: dict[str, Any] = {}
    status = 200
    if result.errors:
        body["errors"] = errors.located(result.errors)
        # Where nothing was done for want of the database, whoever stands between is to see it, and may try again.
        if nothing_done and isinstance(result.errors[0].original_error, Unavailable):
            status = Unavailable.status
    body["data"] = result.data
    return Response(status, dumped(body))


class _Failed(dict[str, Any]):
    """What a statement that failed returned: its error, for every field."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error

    def __getitem__(self, key: str) -> Any:
        raise self.error


def _hash(extensions: Mapping[str, Any] | None) -> str | None:
    persisted = (extensions or {}).get("persistedQuery")
    if persisted is None:
        return None
    sha = persisted.get("sha256Hash") if isinstance(persisted, Mapping) else None
    if not isinstance(sha, str):
        raise BadUserInput("extensions.persistedQuery needs a sha256Hash")
    return sha


def _refused(status: int, told: list[dict[str, Any]]) -> Response:
    return Response(status, dumped({"errors": told}))
