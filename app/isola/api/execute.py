"""Executes a request and returns the bytes of its response, by one of two executors over the same statement.

If PostgreSQL's text covers everything that an operation selects, it is the response. If Python has work left (a
mutation, introspection, a custom resolver), graphql-core executes over the result of the statement.
"""

import json
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from inspect import isawaitable
from types import MappingProxyType
from typing import Any, TypeAlias
from uuid import UUID

from graphql import (
    ExecutionResult,
    Executor as GraphQLExecutor,
    FieldNode,
    FragmentDefinitionNode,
    GraphQLError,
    GraphQLResolveInfo,
    MiddlewareManager,
    NameNode,
    OperationDefinitionNode,
    OperationType,
    SelectionSetNode,
    default_field_resolver,
    default_type_resolver,
)
from graphql.execution.collect_fields import FragmentDetails
from graphql.execution.values import VariableValues, get_directive_values

from isola.api import errors
from isola.api.body import dumped, loaded
from isola.api.context import Anonymous
from isola.api.idempotency import Allowance, Digests, Once, refuse_invalid, unrepeatable_in
from isola.api.observation import Observation
from isola.api.payloads import Payloads, Resolver
from isola.api.rates import Charging, Limiter, Shown, account
from isola.api.request import Request
from isola.api.services import Services
from isola.errors import BadUserInput, RateLimited, Refusal, Unavailable
from isola.identity.api_keys import Mint
from isola.identity.visitors import Visitor
from isola.platform.challenges import Challenges
from isola.platform.clients import Client, current
from isola.platform.families import Descendants
from isola.query.caller import Context, Principal, ReadsDescendants, Transaction
from isola.query.compiler import Compiler, Logged, Note, Reading, unnoted
from isola.query.documents import Document, Documents, InvalidError, Operation, UnknownHashError, digest
from isola.query.effort import Effort
from isola.query.json_text import VIOLATION
from isola.query.limits import Limits
from isola.query.mapping import Model
from isola.query.read_plan import ReadPlan, Refused
from isola.query.variables import Variables
from isola.subjects.sessions.fields import OPEN

NoteReads: TypeAlias = Callable[[UUID, UUID, str, Client, Mapping[str, int]], None]
"""Called with a tenant, a user, an operation, the client, and the number of rows that were read by subject."""
LIVE = "live"
"""The name of the directive that makes a query a live query."""
_MAX_ERRORS = 20
# From this number of characters on, parsing a document takes tens of milliseconds.
_LARGE = 4000
_BAD_REQUEST, _METHOD_NOT_ALLOWED, _INTERNAL = 400, 405, 500


@dataclass(frozen=True, slots=True)
class Response:
    """``status`` is the HTTP status; ``body`` is JSON in UTF-8.

    ``is_read``: it answers a query. The response to a mutation may contain a new secret. ``retry_after``: the seconds
    after which the client may retry the request, of which nothing was executed. ``replayed``: it repeats the first
    response to a mutation. ``set_cookie`` is the value of that header. ``code`` is that of its first error. ``rates``
    is what is left of the tenant's rates.
    """

    status: int
    body: bytes
    is_read: bool = False
    retry_after: int | None = None
    replayed: bool = False
    set_cookie: str | None = None
    code: str | None = None
    rates: Shown | None = None


class _Around(MiddlewareManager):
    """Middleware of one request, of plain functions: graphql-core's own examines and remembers each."""

    def __init__(self, middleware: Sequence[Resolver]) -> None:
        self._middleware = middleware

    def get_field_resolver(self, field_resolver: Resolver) -> Resolver:
        for each in self._middleware:
            field_resolver = partial(each, field_resolver)
        return field_resolver


class Executor:
    """Executes operations. Created once; raises if a trusted document is invalid."""

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
        kept_bytes: int = 256 * 1024 * 1024,
        by_code_point: bool = False,
        note: Note = unnoted,
        note_reads: NoteReads | None = None,
        limiter: Limiter | None = None,
    ) -> None:
        """``secret`` keys cursors, API keys and idempotency keys: the same on every server, and after a restart.

        ``production`` turns introspection and suggestions off. ``trusted`` documents are compiled now; with
        ``trusted_only`` no others are accepted. ``cache_bytes`` is the memory for cached documents and statements,
        ``effort`` limits the time spent on making them. ``kept_bytes`` is the size of the first answers to mutations
        with a key that a tenant may have. ``by_code_point``: the database sorts texts by code point. ``note`` is called
        with the tenant and the shares whose rows a response has, ``note_reads`` with what is read of subjects whose
        reads a tenant has in its log. ``limiter`` keeps what tenants use of their rates; by default this process alone.
        """
        limits = limits or Limits()
        self._note_reads = note_reads
        self._charging = Charging(limiter)
        self._schema = model.schema
        self._live = model.schema.get_directive(LIVE)
        self._suggestions = not production
        self._unrepeatable = unrepeatable_in(model)
        self._allowance = Allowance(kept_bytes)
        self._digests = Digests(secret)
        self._services = services or Services(Mint(secret), Challenges(reserved=lambda _: False))
        self.compiler = Compiler(
            model, limits, secret, effort=effort, most=cache_bytes // 3, by_code_point=by_code_point, note=note
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
        context: Context | Anonymous,
        *,
        mutations: bool = True,
        streams: bool = True,
        visitor: Callable[[], Visitor | None] = lambda: None,
        key: object = None,
        observation: Observation | None = None,
        charged: bool = False,
    ) -> Response:
        """Execute one operation. ``mutations=False`` refuses mutations, as for GET. Raises only cancellation.

        ``streams``: the endpoint has other ways for operations that are streamed, which the refusal of one names.
        ``visitor`` identifies the client of a public field. With an Anonymous ``context`` only public fields run.
        ``key`` is the idempotency key of a mutation, as the client sent it; queries ignore it. ``observation`` gets the
        operation. ``charged``: the request is charged already, by ``operation``.
        """
        asked = text, operation_name, variables, extensions
        payer = account(context)
        if payer is None:
            return await self._execute(*asked, context, mutations, streams, visitor, key, observation)
        try:
            if not charged:
                await self._charging.request(payer)
        except Exception as error:  # noqa: BLE001  as in _execute
            return replace(refused(error), rates=self._charging.shown(payer))
        response = await self._execute(*asked, context, mutations, streams, visitor, key, observation)
        await self._charging.answer(payer, len(response.body))
        return replace(response, rates=self._charging.shown(payer))

    async def _execute(
        self,
        text: str | None,
        operation_name: str | None,
        variables: Mapping[str, Any] | None,
        extensions: Mapping[str, Any] | None,
        context: Context | Anonymous,
        mutations: bool,  # noqa: FBT001  see execute
        streams: bool,  # noqa: FBT001
        visitor: Callable[[], Visitor | None],
        key: object,
        observation: Observation | None,
    ) -> Response:
        try:
            sha = _hash(extensions)
            document = await self._document(text, sha, operation_name, context, visitor)
            operation = document.operation(operation_name)
            if observation is not None:
                observation.operation = operation
            if operation.type is OperationType.MUTATION and not mutations:
                message = "mutations are executed by POST only"
                return _refused(_METHOD_NOT_ALLOWED, [errors.graphql_error(message, BadUserInput.code)])
            values = self._coerced(operation, variables or {})
            if self.is_streamed(operation, values):
                raise BadUserInput(
                    "subscriptions and live queries need a WebSocket, or a request with accept: text/event-stream"
                    if streams
                    else "this endpoint does not stream: expected no subscription and no live query"
                )
            if key is None or operation.type is not OperationType.MUTATION:
                return await self._run(operation, values, context, visitor)
            valid = refuse_invalid(key, operation.roots & self._unrepeatable)
            sent = sha if text is None else operation.once("sha", digest, text)
            once = partial(
                Once, valid, context, (sent, operation_name, variables or {}), self._digests, self._allowance
            )
            return await self._run(operation, values, context, visitor, once)
        except Exception as error:  # noqa: BLE001  any error: logged in full, hidden from the client
            return refused(error)

    async def operation(
        self,
        text: str | None,
        operation_name: str | None,
        variables: Mapping[str, Any] | None,
        extensions: Mapping[str, Any] | None,
        context: Context,
    ) -> tuple[Operation, VariableValues]:
        """The operation of a request, valid and with its variables. Raises what ``refused`` describes to the client.

        The request is charged to the rates of the tenant.
        """
        if (payer := account(context)) is not None:
            await self._charging.request(payer)
        document = await self._document(text, _hash(extensions), operation_name, context, lambda: None)
        operation = document.operation(operation_name)
        return operation, self._coerced(operation, variables or {})

    async def charge(self, reading: Reading, values: VariableValues, context: Context) -> None:
        """Charge what a query or a subscription may cost. Raises RateLimited, and Unavailable."""
        if (payer := account(context)) is not None:
            await self._charging.operation(payer, [reading], values)

    async def charge_event(self, event: str, context: Context) -> None:
        """Charge the bytes of an event of a stream: later requests wait, not the stream. Raises nothing."""
        if (payer := account(context)) is not None:
            await self._charging.answer(payer, len(event.encode()))

    def is_streamed(self, operation: Operation, values: VariableValues) -> bool:
        """Whether an operation is a subscription or a live query. Raises BadUserInput if that is null."""
        if operation.type is not OperationType.QUERY:
            return operation.type is OperationType.SUBSCRIPTION
        if not operation.node.directives or self._live is None:
            return False
        try:
            given = get_directive_values(self._live, operation.node, values)
        except GraphQLError:
            raise BadUserInput("if: expected a value of the type Boolean!", "if") from None
        return given is not None and bool(given["if"])

    async def read(self, operation: Operation, values: VariableValues, reading: Reading, context: Context) -> str:
        """The response to a query, as JSON. Raises Unavailable and RateLimited."""
        return (await self._query(operation, values, reading, context)).body.decode()

    async def event(
        self,
        operation: Operation,
        values: VariableValues,
        reading: Reading,
        context: Context,
        transaction: Transaction,
        given: Mapping[str, object],
    ) -> str:
        """The response to a subscription for one event, as JSON. ``given`` are the parameters of the event's type."""
        [key] = reading.plan.required
        if reading.plan.complete:
            text = await self.compiler.fetch(reading, transaction, given, marked=False)
            if VIOLATION not in text:
                return f'{{"data":{{{json.dumps(key)}:{text}}}}}'
        source = {key: loaded(await self.compiler.fetch(reading, transaction, given, marked=True))}
        request = Request(context, _read_nothing, self._services)
        return answered(await self._core(operation, values, source, request)).body.decode()

    async def _document(
        self,
        text: str | None,
        sha: str | None,
        name: str | None,
        context: Context | Anonymous,
        visitor: Callable[[], Visitor | None],
    ) -> Document:
        """Raises RateLimited for a user who has sent too many new documents."""
        effort = self.compiler.effort
        if isinstance(context, Anonymous):
            # Only their address is known.
            caller = visitor()
            user: Hashable = caller.address if caller else ""
            await effort.turn(user)
            public = effort.now(user, partial(self.documents.find_public, text, sha, name, OPEN))
            if public is None:
                raise context.refusal
            return public
        tenant = context.principal.tenant.id
        await effort.turn(tenant)
        document = self.documents.cached(text, sha, tenant)
        if document is None and text is not None:
            if (payer := account(context)) is not None:
                await self._charging.document(payer)
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
        values: VariableValues,
        context: Context,
        visitor: Callable[[], Visitor | None],
        keyed: Callable[..., Once] | None = None,
    ) -> Response:
        """Checks each root field before it queries the database: it can refuse one field and execute the others."""
        if operation.is_within(OPEN):
            request = Request(context, _read_nothing, self._services, visitor)
            return answered(await self._core(operation, values, None, request))
        planned = self._plan(operation, values, context)
        if isinstance(planned, Reading):
            return replace(await self._query(operation, values, planned, context, visitor), is_read=True)
        return await self._mutate(operation, values, planned, context, visitor, keyed)

    def _plan(self, operation: Operation, values: VariableValues, context: Context) -> Reading | Mapping[str, Reading]:
        """What a query reads, or what each field of a mutation reads after its change."""
        plans = self.compiler.plans(operation, values.coerced, context.principal.tenant.id)
        logged = self.logged(operation, context.principal, current)
        if isinstance(plans, ReadPlan):
            return self.compiler.read(plans, values, context.principal, logged)
        return {key: self.compiler.read(each, values, context.principal, logged) for key, each in plans.items()}

    def logged(
        self, operation: Operation, principal: Principal, client: Callable[[], Client] = Client
    ) -> Logged | None:
        """What the log of the caller's tenant has of reads, if it has any. ``client`` is only called then."""
        tenant = principal.tenant
        if self._note_reads is None or not tenant.logged_reads:
            return None
        note = partial(self._note_reads, tenant.id, principal.user_id, operation.label, client())
        return Logged(tenant.logged_reads, note)

    async def _query(
        self,
        operation: Operation,
        values: VariableValues,
        reading: Reading,
        context: Context,
        visitor: Callable[[], Visitor | None] = lambda: None,
    ) -> Response:
        """Raises Unavailable and RateLimited: there is no result, and a read is safe to retry."""
        await self.charge(reading, values, context)
        source: Any = {}
        marked = not reading.plan.complete or bool(reading.refused)
        if reading.plan.reads:
            try:
                text, marked = await self._read_rows(reading, context, marked=marked)
                if not marked:
                    return Response(200, b'{"data":%b}' % text.encode())
                source = loaded(text)
            except (Unavailable, RateLimited):
                raise
            except Exception as error:  # noqa: BLE001  it becomes the error of every field of this read
                source = _Failed(error)
        request = Request(context, _read_nothing, self._services, visitor)
        return answered(await self._core(operation, values, source, request, reading.refused))

    async def _read_rows(self, reading: Reading, context: Context, *, marked: bool) -> tuple[str, bool]:
        """The result of the statement, and whether it has type marks."""
        if reading.descendants:
            if not isinstance(context, ReadsDescendants):
                raise BadUserInput("scope: the rows of descendants cannot be read here", "scope")
            subjects = sorted({self.compiler.subject_of(each) for each in reading.plan.root.fields} - {""})

            async def read(transaction: Transaction, descendants: Descendants) -> str:
                self.compiler.check_family(reading, descendants.family)
                family, given = descendants.family, descendants.given
                return await self.compiler.fetch(reading, transaction, given, marked=marked, family=family)

            text = await context.read_descendants(subjects, read)
            if marked or VIOLATION not in text:
                return text, marked
            marked = True
            return await context.read_descendants(subjects, read), True
        async with context.transaction(read_only=True) as transaction:
            text = await self.compiler.fetch(reading, transaction, marked=marked)
            if not marked and VIOLATION in text:
                # Read again with type marks: graphql-core needs them to report the null.
                text, marked = await self.compiler.fetch(reading, transaction, marked=True), True
            return text, marked

    async def _mutate(
        self,
        operation: Operation,
        values: VariableValues,
        readings: Mapping[str, Reading],
        context: Context,
        visitor: Callable[[], Visitor | None],
        keyed: Callable[..., Once] | None,
    ) -> Response:
        if (payer := account(context)) is not None:
            await self._charging.operation(payer, readings.values(), values)
        bare = operation.once("bare", _bare, operation)
        refused = {key: each for reading in readings.values() for key, each in reading.refused.items()}
        # No statement reads the payload of a public field.
        read = len(readings) == len(operation.node.selection_set.selections)
        marked = bool(refused) or bare is None or not read or not all(each.plan.complete for each in readings.values())
        once = None if keyed is None else keyed(marked=marked)
        payloads = Payloads(self.compiler, readings, once, marked=marked)
        request = Request(context, payloads.select, self._services, visitor, once)
        middleware = () if once is None else (payloads.once(once, refused.keys()),)
        if marked or bare is None:
            result = await self._core(operation, values, None, request, refused, middleware)
        else:
            result = await self._executed(bare, {}, values, {}, request, middleware)
        # A public mutation also calls other services, where it may have had effects.
        if not operation.roots & OPEN[OperationType.MUTATION] and (refusal := unavailable(result)):
            return refusal
        response = answered(result, None if marked else payloads.texts)
        return replace(response, replayed=True) if once is not None and once.is_replay else response

    async def _core(
        self,
        operation: Operation,
        values: VariableValues,
        source: Any,
        context: Any,
        refused: Mapping[str, Refused] = MappingProxyType({}),
        middleware: Sequence[Resolver] = (),
    ) -> ExecutionResult:
        """Let graphql-core execute over the rows read: it does completion, errors and null propagation."""

        def refuse(resolve: Callable[..., Any], parent: Any, info: GraphQLResolveInfo[Any], **given: Any) -> Any:
            if info.path.prev is None and info.path.key in refused:
                raise refused[str(info.path.key)].error()
            return resolve(parent, info, **given)

        if refused:
            middleware = (*middleware, refuse)
        result = await self._executed(operation.node, operation.fragments, values, source, context, middleware)
        # graphql-core reports invalid arguments in its own words; replace its error by ours.
        reported = [
            refused[str(each.path[0])].error() if each.path and each.path[0] in refused else each
            for each in result.errors or ()
        ]
        return ExecutionResult(result.data, reported or None)

    async def _executed(
        self,
        node: OperationDefinitionNode,
        fragments: Mapping[str, FragmentDefinitionNode],
        values: VariableValues,
        source: Any,
        context: Any,
        middleware: Sequence[Resolver] = (),
    ) -> ExecutionResult:
        # graphql-core's ``execute`` would coerce the variables again, and refuse the exact numbers of the body.
        executor: GraphQLExecutor[Any] = GraphQLExecutor(
            self._schema,
            dict(fragments),
            {name: FragmentDetails(each) for name, each in fragments.items()},
            source,
            context,
            node,
            values,
            default_field_resolver,
            default_type_resolver,
            default_field_resolver,
            middleware_manager=_Around(middleware) if middleware else None,
            hide_suggestions=not self._suggestions,
        )
        execution: Any = executor.execute_operation()
        result: ExecutionResult = await execution if isawaitable(execution) else execution
        return result

    def _coerced(self, operation: Operation, variables: Mapping[str, Any]) -> VariableValues:
        # Without variables the values are the same for every request, so they can be cached.
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
    raise TypeError(f"{key}: a public field has no data that a statement reads")


def _bare(operation: Operation) -> OperationDefinitionNode | None:
    """The same mutation with nothing selected from its payloads; None if its selection is not that simple.

    graphql-core runs its fields in order, with its usual semantics; the selected payloads are PostgreSQL's text.
    """
    fields = []
    for field in operation.node.selection_set.selections:
        if not isinstance(field, FieldNode) or field.selection_set is None:
            return None
        fields.append(replace(field, selection_set=_NOTHING))
    return replace(operation.node, selection_set=SelectionSetNode(selections=tuple(fields)))


_NOTHING = SelectionSetNode(selections=(FieldNode(name=NameNode(value="__typename")),))


def unavailable(result: ExecutionResult) -> Response | None:
    """The refusal of a whole request of which nothing was executed: the database was unavailable, or a rate limited it.

    The HTTP status lets proxies detect it and retry.
    """
    if not result.errors or any(value is not None for value in (result.data or {}).values()):
        return None
    originals = [error.original_error for error in result.errors]
    refusals = [
        each for each in originals if isinstance(each, Unavailable | RateLimited) and each.retry_after is not None
    ]
    if len(refusals) < len(originals) or len({each.status for each in refusals}) > 1:
        return None
    return _refused(refusals[0].status, errors.located(result.errors), refusals[0].retry_after)


def answered(result: ExecutionResult, texts: Mapping[str, str] | None = None) -> Response:
    """The response to an executed operation. ``texts`` are the payloads read for each field of its data."""
    data = dumped(result.data)
    if texts and result.data is not None:
        # A payload is read before its change is committed; it is null if the commit failed.
        fields = [f"{json.dumps(key)}:{'null' if value is None else texts[key]}" for key, value in result.data.items()]
        data = b"{%b}" % ",".join(fields).encode()
    if not result.errors:
        return Response(200, b'{"data":%b}' % data)
    located = errors.located(result.errors)
    return Response(200, b'{"errors":%b,"data":%b}' % (dumped(located), data), code=_code(located))


class _Failed(dict[str, Any]):
    """The result of a failed statement: every field raises its error."""

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


def refused(error: Exception) -> Response:
    """The response to a request that an error ended before anything was executed."""
    match error:
        case UnknownHashError():
            return _refused(200, [errors.graphql_error("PersistedQueryNotFound", "PERSISTED_QUERY_NOT_FOUND")])
        case InvalidError():
            return _refused(_BAD_REQUEST, errors.invalid(error.errors))
        case Refusal():
            return _refused(error.status, [errors.refusal(error)], error.retry_after)
    return _refused(_INTERNAL, [errors.crash(error)])


def _refused(status: int, reported: list[dict[str, Any]], retry_after: int | None = None) -> Response:
    return Response(status, dumped({"errors": reported}), retry_after=retry_after, code=_code(reported))


def _code(reported: Sequence[Mapping[str, Any]]) -> str:
    code: str = reported[0]["extensions"]["code"]
    return code
