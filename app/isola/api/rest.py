"""REST routes: a request becomes the variables of a GraphQL operation, part of its data the response.

The executor is that of ``/graphql``, and so are authentication, permissions, rules, limits, errors and the log.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Any, TypeAlias
from urllib.parse import parse_qs

from graphql import (
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLError,
    GraphQLSchema,
    InlineFragmentNode,
    ListTypeNode,
    NamedTypeNode,
    NonNullTypeNode,
    OperationDefinitionNode,
    OperationType,
    SelectionSetNode,
    TypeNode,
    parse,
    validate,
)
from starlette.datastructures import Headers
from starlette.routing import BaseRoute, Route as Path
from starlette.types import Receive, Scope

from isola import exact_json
from isola.api import errors
from isola.api.body import dumped
from isola.api.context import Context
from isola.api.execute import Executor, Response
from isola.api.http import JSON, REFUSED, Endpoint, MethodNotAllowed, NotAcceptable, Principals
from isola.api.idempotency import key_in
from isola.api.observation import observation_of
from isola.database.transactions import Database
from isola.errors import BadUserInput, NotFound, OperatorError, Refusal
from isola.identity.resolution import API, OWN_API
from isola.settings import Settings
from isola.subjects.routes import Route

WITH_BODY = ("POST", "PUT", "PATCH")
METHODS = ("GET", *WITH_BODY, "DELETE")
TENANT = "tenantId"
MOST = 100
"""The most parameters of a query string."""
# Types whose values are texts in a query string, but not in JSON.
_PLAIN = {"Int": re.compile(r"0|-?[1-9][0-9]{0,9}"), "Boolean": re.compile("true|false")}
_PATH = re.compile(r"(/([a-z0-9-]+|{[a-zA-Z]+}))+")
_PARAMETER = re.compile("{([a-zA-Z]+)}")
_STATUSES = {each.code: each.status for each in Refusal.__subclasses__()}


@dataclass(frozen=True, slots=True)
class Operation:
    """A route, and the types of its operation's variables."""

    route: Route
    variables: Mapping[str, TypeNode]

    def values(self, parameters: Mapping[str, str], sent: Mapping[str, Any]) -> dict[str, Any]:
        """The variables, from the path and from the sent fields. Raises BadUserInput for an unknown field."""
        free = [name for name in self.variables if name not in parameters]
        if sent.keys() - set(free):
            raise BadUserInput(f"expected no fields but {', '.join(free)}" if free else "expected no fields")
        return {**sent, **{name: value for name, value in parameters.items() if name != TENANT}}

    def parsed(self, query: bytes) -> dict[str, Any]:
        """The parsed values of a query string. Raises BadUserInput for a malformed or repeated parameter."""
        try:
            given = parse_qs(query.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=MOST)
        except ValueError:
            raise BadUserInput(f"expected at most {MOST} parameters, in UTF-8") from None
        return {
            name: _of_query(self.variables[name], texts, name) if name in self.variables else None
            for name, texts in given.items()
        }


Selected: TypeAlias = Sequence[SelectionSetNode | None]

Paths: TypeAlias = Mapping[str, Mapping[str, Operation]]
"""Operations by path and method."""


@dataclass(frozen=True, slots=True)
class Rest(Endpoint):
    """One path, with the operation of each method."""

    kind = "rest"
    principals: Principals
    executor: Executor
    database: Database
    operations: Mapping[str, Operation]
    max_body_bytes: int
    compress_from: int | None
    by_get: bool = True

    @property
    def methods(self) -> str:
        return ", ".join((*self.operations, "OPTIONS"))

    def accepted(self, accept: str | None) -> tuple[str, bool]:
        accepted = {
            part.partition(";")[0].strip().lower() for part in (accept or "").split(",") if not REFUSED.search(part)
        }
        if not accept or accept.isspace() or accepted & {JSON, "application/*", "*/*"}:
            return JSON, False
        raise NotAcceptable(f"accept: expected {JSON}")

    async def answer(self, scope: Scope, headers: Headers, receive: Receive, request_id: str) -> Response:
        # Authenticate before reading the body. The path names the tenant: see isola.identity.resolution.
        principal = await self.principals.principal(scope)
        observation = observation_of(scope)
        observation.principal = principal
        operation = self.operations.get(scope["method"])
        if operation is None:
            raise MethodNotAllowed(f"expected one of {self.methods}")
        reads = scope["method"] == "GET"
        if scope["method"] in WITH_BODY:
            sent = await self.json(headers, receive, self.max_body_bytes)
            if not isinstance(sent, dict):
                raise BadUserInput("body: expected one JSON object")
        else:
            sent = operation.parsed(scope["query_string"])
        variables = operation.values(scope["path_params"], sent)
        context = Context(principal, self.database, self.principals.members, request_id, self.principals.families)
        response = await self.executor.execute(
            operation.route.document,
            None,
            variables,
            None,
            context,
            mutations=not reads,
            key=key_in(headers),
            observation=observation,
        )
        return _shown(operation.route, response)


def read(declared: Iterable[Route], schema: GraphQLSchema) -> Paths:
    """Routes by path and method. Raises OperatorError for an invalid route."""
    by_path: dict[str, dict[str, Operation]] = {}
    for route in declared:
        operations = by_path.setdefault(route.path, {})
        if route.method in operations:
            raise OperatorError(f"the route {route.method} {route.path} is declared twice")
        try:
            operations[route.method] = _read(route, schema)
        except ValueError as error:
            raise OperatorError(f"the route {route.method} {route.path}: {error}") from error
    return by_path


def documents(paths: Paths) -> Sequence[str]:
    """The documents of the operations of all paths."""
    return [operation.route.document for operations in paths.values() for operation in operations.values()]


def routes(
    own: Paths,
    of_applications: Paths,
    settings: Settings,
    principals: Principals,
    executor: Executor,
    tenants: Database,
) -> Sequence[BaseRoute]:
    """The HTTP routes of the paths. The documents of the paths must be trusted documents of the executor."""
    most, compress_from = settings.max_body_bytes, settings.compress_from
    return [
        Path(f"{prefix}{path}", Rest(principals, executor, tenants, operations, most, compress_from))
        for prefix, paths in ((OWN_API, own), (f"{API}/{{{TENANT}}}", of_applications))
        for path, operations in paths.items()
    ]


def _read(route: Route, schema: GraphQLSchema) -> Operation:
    """A route with the types of its variables. Raises ValueError with the expected form."""
    if route.method not in METHODS:
        raise ValueError(f"expected one of {', '.join(METHODS)}")
    if not _PATH.fullmatch(route.path):
        raise ValueError("expected a path such as /cases/{caseId}")
    try:
        document = parse(route.document)
    except GraphQLError as error:
        raise ValueError(error.message) from error
    if invalid := validate(schema, document):
        raise ValueError(invalid[0].message)
    definitions = [each for each in document.definitions if isinstance(each, OperationDefinitionNode)]
    expected = OperationType.QUERY if route.method == "GET" else OperationType.MUTATION
    if len(definitions) != 1 or definitions[0].operation is not expected:
        raise ValueError(f"expected a document with one {expected.value}")
    variables = {each.variable.name.value: each.type for each in definitions[0].variable_definitions or ()}
    missing = set(_PARAMETER.findall(route.path)) - variables.keys()
    if missing:
        raise ValueError(f"expected the operation to have the variable ${min(missing)}")
    fragments = {each.name.value: each for each in document.definitions if isinstance(each, FragmentDefinitionNode)}
    selected: Selected = [definitions[0].selection_set]
    for key in route.answer.split("."):
        selected = list(_below(selected, key, fragments))
        if not selected:
            raise ValueError(f"answer: expected the path of a field that the operation selects, not {route.answer!r}")
    return Operation(route, variables)


def _below(
    selected: Selected, key: str, fragments: Mapping[str, FragmentDefinitionNode]
) -> Iterator[SelectionSetNode | None]:
    """The selections below a field, found by its response key; None for a leaf field."""
    for each in (each for one in selected if one is not None for each in one.selections):
        match each:
            case FieldNode():
                if (each.alias or each.name).value == key:
                    yield each.selection_set
            case InlineFragmentNode():
                yield from _below([each.selection_set], key, fragments)
            case FragmentSpreadNode():
                yield from _below([fragments[each.name.value].selection_set], key, fragments)


def _of_query(type_: TypeNode, texts: Sequence[str], name: str) -> Any:
    """A value of a query string, converted to its JSON form. The operation validates it."""
    if isinstance(type_, NonNullTypeNode):
        return _of_query(type_.type, texts, name)
    if isinstance(type_, ListTypeNode):
        return [_of_query(type_.type, [each], name) for each in texts]
    if len(texts) > 1:
        raise BadUserInput(f"{name}: expected the parameter once", name)
    [text] = texts
    plain = _PLAIN.get(type_.name.value) if isinstance(type_, NamedTypeNode) else None
    return exact_json.loads(text) if plain and plain.fullmatch(text) else text


def _shown(route: Route, response: Response) -> Response:
    """The REST response of a path: the operation's response without the GraphQL envelope."""
    body = exact_json.loads(response.body.decode())
    if found := body.get("errors"):
        failed = [{"message": each["message"], "extensions": _extensions(each["extensions"])} for each in found]
        status = (
            _STATUSES.get(failed[0]["extensions"]["code"], 500) if response.status == HTTPStatus.OK else response.status
        )
        return replace(response, status=status, body=dumped({"errors": failed}))
    value = body["data"]
    for key in route.answer.split("."):
        value = value and value[key]
    if value is None:
        missing = NotFound("there is no such object")
        return replace(
            response, status=missing.status, body=dumped({"errors": [errors.refusal(missing)]}), code=missing.code
        )
    status = HTTPStatus.CREATED if route.method == "POST" else HTTPStatus.OK
    return replace(response, status=status, body=dumped(value), is_read=route.method == "GET")


def _extensions(of_error: Mapping[str, Any]) -> Mapping[str, Any]:
    """The extensions of an error, with ``field`` as clients of the path know it, without ``input.``."""
    field = of_error.get("field")
    return of_error if field is None else {**of_error, "field": field.removeprefix("input.")}
