"""From a request to the bytes of its response, by one of two executors over the same statement.

When PostgreSQL's text is all that an operation selects, it is the response. When something is left for Python (a
mutation, introspection, a resolver of its own), graphql-core executes over what the statement returned.
"""

import json
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from inspect import isawaitable
from types import MappingProxyType
from typing import Any

from graphql import (
    ExecutionResult,
    Executor as GraphQLExecutor,
    FieldNode,
    GraphQLResolveInfo,
    NameNode,
    OperationDefinitionNode,
    OperationType,
    SelectionSetNode,
    default_field_resolver,
    default_type_resolver,
    execute,
)
from graphql.execution.values import VariableValues

from isola.api import errors
from isola.api.body import dumped, loaded
from isola.api.context import Nobody
from isola.api.request import Request
from isola.api.services import Services
from isola.errors import BadUserInput, RateLimited, Refusal, Unavailable
from isola.identity.api_keys import Mint
from isola.identity.sessions import Visitor
from isola.platform.challenges import Challenges
from isola.query.caller import Context, Transaction
from isola.query.compiler import Compiler, Reading
from isola.query.documents import Document, Documents, InvalidError, Operation, UnknownHashError
from isola.query.effort import Effort
from isola.query.json_text import VIOLATION
from isola.query.limits import Limits
from isola.query.mapping import Model
from isola.query.read_plan import ReadPlan, Refused
from isola.query.variables import Variables
from isola.subjects.sessions.fields import OPEN

_MAX_ERRORS = 20
# The number of characters from which on a document takes tens of milliseconds to be read.
_LARGE = 4000
_BAD_REQUEST, _METHOD_NOT_ALLOWED, _INTERNAL = 400, 405, 500


@dataclass(frozen=True, slots=True)
class Response:
    """``status`` is what HTTP says with it; ``body`` is JSON in UTF-8.

    ``is_read``: it answers a query. What a mutation answers may be a secret that was just made. ``retry_after`` is the
    number of seconds after which the same request is worth sending again, where nothing of it was done.
    """

    status: int
    body: bytes
    is_read: bool = False
    retry_after: int | None = None


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
        cache_bytes: int = 30 * 1024 * 1024,
        effort: Effort | None = None,
        by_code_point: bool = False,
    ) -> None:
        """``secret`` keys cursors and API keys, and has to be the same on every server and after a restart.

        ``production`` turns introspection and suggestions off. ``trusted`` are documents that are compiled now; with
        ``trusted_only`` no others are admitted. ``cache_bytes`` is the memory for what is remembered of documents and
        statements, and ``effort`` what the making of them may cost. ``by_code_point``: so the database sorts texts.
        """
        limits = limits or Limits()
        self._schema = model.schema
        self._suggestions = not production
        self._services = services or Services(Mint(secret), Challenges(reserved=lambda _: False))
        self.compiler = Compiler(
            model, limits, secret, effort=effort, most=cache_bytes // 3, by_code_point=by_code_point
        )
        self.documents = Documents(
            model.schema,
            limits,
            trusted=trusted,
            trusted_only=trusted_only,
            introspection=not production,
            suggestions=not production,
            most=cache_bytes // 3 * 2,
        )
        for document in self.documents.trusted:
            self.compiler.prepare(document)

    async def execute(
        self,
        text: str | None,
        operation_name: str | None,
        variables: Mapping[str, Any] | None,
        extensions: Mapping[str, Any] | None,
        context: Context | Nobody,
        *,
        mutations: bool = True,
        visitor: Callable[[], Visitor | None] = lambda: None,
    ) -> Response:
        """Execute one operation. ``mutations=False`` refuses them, as for GET. Raises nothing but cancellation.

        ``visitor`` gives who asks, to mutations that are open to all. Nobody as ``context`` gets to these alone.
        """
        try:
            sha = _hash(extensions)
            document = await self._document(text, sha, operation_name, context, visitor)
            operation = document.operation(operation_name)
            if operation.type is OperationType.MUTATION and not mutations:
                message = "mutations are executed by POST only"
                return _refused(_METHOD_NOT_ALLOWED, [errors.graphql_error(message, BadUserInput.code)])
            return await self._run(operation, variables or {}, context, visitor)
        except UnknownHashError:
            return _refused(200, [errors.graphql_error("PersistedQueryNotFound", "PERSISTED_QUERY_NOT_FOUND")])
        except InvalidError as invalid:
            return _refused(_BAD_REQUEST, errors.invalid(invalid.errors))
        except Refusal as refusal:
            return _refused(refusal.status, [errors.refusal(refusal)], refusal.retry_after)
        except Exception as error:  # noqa: BLE001  whatever it is, the client is told nothing and the log all
            return _refused(_INTERNAL, [errors.crash(error)])

    async def _document(
        self,
        text: str | None,
        sha: str | None,
        name: str | None,
        context: Context | Nobody,
        visitor: Callable[[], Visitor | None],
    ) -> Document:
        """Raises RateLimited for those who have sent too many that are new."""
        effort = self.compiler.effort
        if isinstance(context, Nobody):
            # Where they come from is all that is known of them.
            who = visitor()
            user: Hashable = who.address if who else ""
            await effort.turn(user)
            public = effort.now(user, partial(self.documents.find_public, text, sha, name, OPEN))
            if public is None:
                raise context.refusal
            return public
        tenant = context.principal.tenant.id
        await effort.turn(tenant)
        document = self.documents.known(text, sha, tenant)
        if document is None and text is not None:
            read = partial(self._read, text)
            document = await effort.spend(tenant, read, large=len(text) > _LARGE)
            self.documents.keep(text, document, tenant)
        if document is None:
            raise UnknownHashError
        return document

    def _read(self, text: str) -> Document:
        return self.compiler.prepare(self.documents.read(text))

    async def _run(
        self,
        operation: Operation,
        variables: Mapping[str, Any],
        context: Context,
        visitor: Callable[[], Visitor | None],
    ) -> Response:
        """What a field asks for is looked at before the database is asked: a field is refused, and others are not."""
        values = self._coerced(operation, variables)
        if operation.is_within(OPEN):
            request = Request(context, _read_nothing, self._services, visitor)
            return _answered(await self._core(operation, variables, None, request))
        plans = self.compiler.plans(operation, values.coerced, context.principal.tenant.id)
        if isinstance(plans, ReadPlan):
            reading = self.compiler.read(plans, values, context.principal)
            return replace(await self._query(operation, variables, reading, context), is_read=True)
        readings = {key: self.compiler.read(each, values, context.principal) for key, each in plans.items()}
        return await self._mutate(operation, variables, values, readings, context, visitor)

    async def _query(
        self, operation: Operation, variables: Mapping[str, Any], reading: Reading, context: Context
    ) -> Response:
        """Raises Unavailable and RateLimited: there is nothing to answer, and asking again does no harm."""
        source: Any = {}
        marked = not reading.plan.complete or bool(reading.refused)
        if reading.plan.reads:
            try:
                async with context.transaction(read_only=True) as transaction:
                    text = await self.compiler.fetch(reading, transaction, marked=marked)
                    if not marked and VIOLATION in text:
                        # Only now it is worth knowing of which type everything is.
                        text, marked = await self.compiler.fetch(reading, transaction, marked=True), True
                if not marked:
                    return Response(200, b'{"data":%b}' % text.encode())
                source = loaded(text)
            except (Unavailable, RateLimited):
                raise
            except Exception as error:  # noqa: BLE001  it becomes the error of every field that was to be read
                source = _Failed(error)
        return _answered(await self._core(operation, variables, source, context, reading.refused))

    async def _mutate(
        self,
        operation: Operation,
        variables: Mapping[str, Any],
        values: VariableValues,
        readings: Mapping[str, Reading],
        context: Context,
        visitor: Callable[[], Visitor | None],
    ) -> Response:
        bare = operation.once("bare", _bare, operation)
        refused = {key: each for reading in readings.values() for key, each in reading.refused.items()}
        # Of a field that is open to all, a statement reads nothing.
        read = len(readings) == len(operation.node.selection_set.selections)
        texts: dict[str, str] = {}

        async def select(key: str, transaction: Transaction, given: dict[str, object], *, marked: bool = True) -> str:
            text = await self.compiler.fetch(readings[key], transaction, given, marked=marked)
            if VIOLATION in text:
                raise ValueError(f"{operation.type.value}: a value that is never null is null; it is rolled back")
            # Together they are one answer; without room for this one, its change is rolled back.
            self.compiler.limits.check_answer(text, *texts.values())
            texts[key] = text
            return text

        async def load(key: str, transaction: Transaction, given: dict[str, object]) -> Any:
            return loaded(await select(key, transaction, given))

        async def keep(key: str, transaction: Transaction, given: dict[str, object]) -> Any:
            await select(key, transaction, given, marked=False)
            return {}

        if refused or bare is None or not read or not all(reading.plan.complete for reading in readings.values()):
            request = Request(context, load, self._services, visitor)
            result = await self._core(operation, variables, None, request, refused)
            texts.clear()
        else:
            # The values are coerced already: graphql-core's ``execute`` would do it again.
            executor: GraphQLExecutor[Any] = GraphQLExecutor(
                self._schema,
                {},
                {},
                None,
                Request(context, keep, self._services, visitor),
                bare,
                values,
                default_field_resolver,
                default_type_resolver,
                default_field_resolver,
                hide_suggestions=not self._suggestions,
            )
            result = await _finished(executor.execute_operation())
        # What is open to all asks others as well, who may have done something.
        if not operation.roots & OPEN and (refusal := unavailable(result)):
            return refusal
        return _answered(result, texts)

    async def _core(
        self,
        operation: Operation,
        variables: Mapping[str, Any],
        source: Any,
        context: Any,
        refused: Mapping[str, Refused] = MappingProxyType({}),
    ) -> ExecutionResult:
        """Let graphql-core execute over what was read: completion, errors and null propagation are its own."""

        def refuse(resolve: Callable[..., Any], parent: Any, info: GraphQLResolveInfo[Any], **given: Any) -> Any:
            if info.path.prev is None and info.path.key in refused:
                raise refused[str(info.path.key)].error()
            return resolve(parent, info, **given)

        execution = execute(
            self._schema,
            operation.document,
            root_value=source,
            context_value=context,
            variable_values=dict(variables),
            operation_name=operation.node.name.value if operation.node.name else None,
            max_coercion_errors=_MAX_ERRORS,
            hide_suggestions=not self._suggestions,
            middleware=[refuse] if refused else None,
        )
        result = await _finished(execution)
        # Of arguments that make no sense graphql-core has something else to say.
        told = [
            refused[str(each.path[0])].error() if each.path and each.path[0] in refused else each
            for each in result.errors or ()
        ]
        return ExecutionResult(result.data, told or None)

    def _coerced(self, operation: Operation, variables: Mapping[str, Any]) -> VariableValues:
        # Of a request that gives no variables: nothing of it is in what is kept.
        return self._computed(operation, variables) if variables else operation.once("", self._computed, operation)

    def _computed(self, operation: Operation, variables: Mapping[str, Any] = MappingProxyType({})) -> VariableValues:
        if not operation.node.variable_definitions:
            return _NO_VARIABLES
        declared = operation.once("variables", Variables, self._schema, operation)
        values = declared.coerced(variables, max_errors=_MAX_ERRORS, hide_suggestions=not self._suggestions)
        if isinstance(values, list):
            raise InvalidError(values)
        return values


_NO_VARIABLES = VariableValues({}, {})


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


def unavailable(result: ExecutionResult) -> Response | None:
    """The refusal of a whole request, where none of it was done for want of the database.

    Whoever stands between is to see it, and may try again.
    """
    if not result.errors or any(value is not None for value in (result.data or {}).values()):
        return None
    for error in result.errors:
        original = error.original_error
        if not isinstance(original, Unavailable) or original.retry_after is None:
            return None
    return _refused(Unavailable.status, errors.located(result.errors), Unavailable.retry_after)


def _answered(result: ExecutionResult, texts: Mapping[str, str] | None = None) -> Response:
    """The answer to an operation that was executed. ``texts`` are what was read for each field of its data."""
    data = dumped(result.data)
    if texts and result.data is not None:
        # A payload is read before its change is committed: where there is none, that has failed.
        fields = [f"{json.dumps(key)}:{'null' if value is None else texts[key]}" for key, value in result.data.items()]
        data = b"{%b}" % ",".join(fields).encode()
    if not result.errors:
        return Response(200, b'{"data":%b}' % data)
    return Response(200, b'{"errors":%b,"data":%b}' % (dumped(errors.located(result.errors)), data))


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


def _refused(status: int, told: list[dict[str, Any]], retry_after: int | None = None) -> Response:
    return Response(status, dumped({"errors": told}), retry_after=retry_after)
