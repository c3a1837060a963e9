"""GraphQL over HTTP (https://graphql.github.io/graphql-over-http/draft/), and the liveness and readiness probes."""

import asyncio
import gzip
import re
from abc import ABC, abstractmethod
from codecs import BOM_UTF8
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from email.message import Message
from functools import lru_cache, partial
from http import HTTPStatus
from typing import Any, ClassVar, Protocol
from urllib.parse import parse_qsl

import structlog
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from isola import exact_json
from isola.api import errors
from isola.api.body import dumped
from isola.api.context import Anonymous, Context
from isola.api.execute import Executor, Response as Answer
from isola.api.idempotency import HEADER as KEY, REPLAYED, key_in
from isola.api.live import events
from isola.api.live.caller import Caller
from isola.api.live.hub import Hub
from isola.api.live.websocket import Sockets
from isola.api.observation import Observation, Observer, observation_of, observed
from isola.api.request_id import HEADER, request_id
from isola.database.transactions import Database
from isola.errors import BadUserInput, Forbidden, Refusal, TenantRequired, Unauthenticated, Unavailable, Unconfirmed
from isola.identity.authentication import Authenticator, Principal
from isola.identity.cookies import HEADER as COOKIE, Jar
from isola.identity.members import Members
from isola.identity.visitors import Visitor
from isola.platform.families import Families
from isola.settings import Settings

log = structlog.get_logger()

JSON = "application/json"
GRAPHQL_JSON = "application/graphql-response+json"
HTML = "text/html"
RATE_LIMIT, RATE_LIMIT_POLICY = "ratelimit", "ratelimit-policy"
UNAUTHENTICATED_BODY_BYTES = 16 * 1024
# Nobody gets it: the client has disconnected.
_CLIENT_GONE = 499
_QUALITY = re.compile(r";\s*q=([01](?:\.[0-9]{0,3})?)\s*(?:;|$)", re.IGNORECASE)
REFUSED = re.compile(r";\s*q=0(\.0*)?\s*(;|$)", re.IGNORECASE)


class UnsupportedMediaType(BadUserInput):
    status = 415


class TooLarge(BadUserInput):
    status = 413


class NotAcceptable(BadUserInput):
    status = 406


class MethodNotAllowed(BadUserInput):
    status = 405


class ClientGone(Exception):  # noqa: N818  not an error
    pass


@dataclass(frozen=True, slots=True)
class GraphQLRequest:
    """The parameters of a request, as the specification names them."""

    query: str | None
    operation_name: str | None
    variables: Mapping[str, Any] | None
    extensions: Mapping[str, Any] | None


class Principals(Protocol):
    """Authenticates the caller: see ``Authenticator``."""

    @property
    def members(self) -> Members: ...
    @property
    def families(self) -> Families | None: ...
    async def principal(self, scope: Mapping[str, Any]) -> Principal: ...
    def visitor(self, scope: Mapping[str, Any], request_id: str) -> Visitor | None: ...


class Endpoint(ABC):
    """GraphQL over HTTP, as an ASGI application. Subclasses authenticate the caller and read the operation."""

    __slots__ = ()

    kind: ClassVar[str] = "graphql"
    """The name of the endpoint in observations."""
    compress_from: int | None
    """The size in bytes from which on query responses are compressed."""
    by_get: bool
    """Whether GET is accepted for queries. Their text then appears in the access logs of proxies."""

    @abstractmethod
    async def answer(self, scope: Scope, headers: Headers, receive: Receive, request_id: str) -> Answer:
        """Execute a request. Raises a Refusal of the whole request."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] == "OPTIONS":
            # A CORS preflight has no credentials. If origins are configured, the middleware answers it instead.
            await Response(status_code=204, headers={"allow": self.methods})(scope, receive, send)
            return
        headers = Headers(scope=scope)
        media, lenient = JSON, False
        called = request_id(headers.get(HEADER))
        structlog.contextvars.bind_contextvars(request_id=called)
        observation = observation_of(scope)
        observation.endpoint = self.kind
        try:
            if self.streams(headers.get("accept")):
                streamed = await self.stream(scope, headers, receive, send, called)
                if streamed is None:
                    observation.streamed = True
                    return
                answer = streamed
            else:
                media, lenient = self.accepted(headers.get("accept"))
                answer = await self.answer(scope, headers, receive, called)
            # A client that accepts only plain JSON expects 200 for every well-formed request.
            status = 200 if lenient and answer.status in {400, 403} else answer.status
            observation.answered(status, answer.body, answer.code)
            if status < HTTPStatus.MULTIPLE_CHOICES:
                compressed = answer.is_read and self.compresses(answer.body, headers)
                await _answer(send, answer, media, called, compressed=compressed, status=status)
                return
            response = _refused(answer, status, media)
        except ClientGone:
            observation.answered(_CLIENT_GONE, b"", "CLIENT_GONE")
            return
        except asyncio.CancelledError:
            # Only a shutdown cancels a request; this is its last chance to send a response.
            stopping = Unconfirmed("the server is stopping: the request may have been executed or not")
            response = _error(stopping, media, observation)
        except Refusal as refusal:
            response = _error(refusal, media, observation)
        except Exception as error:  # noqa: BLE001  any error: logged in full, hidden from the client
            response = _response(dumped({"errors": [errors.crash(error)]}), 500, media)
            observation.answered(500, bytes(response.body), "INTERNAL")
        _explain(response, self.methods)
        response.headers[HEADER] = called
        await response(scope, receive, send)

    def streams(self, accept: str | None) -> bool:  # noqa: ARG002  see GraphQL
        """Whether to answer with a stream of events."""
        return False

    async def stream(
        self, scope: Scope, headers: Headers, receive: Receive, send: Send, request_id: str
    ) -> Answer | None:
        """Answer with a stream of events; if it cannot begin, return the response instead. Raises a Refusal."""
        raise NotImplementedError

    def compresses(self, body: bytes, headers: Headers) -> bool:
        """Whether to compress the response to a query.

        BREACH guesses a secret from the sizes of many responses that contain it next to text chosen by the attacker.
        It needs a browser that sends the victim's credentials automatically, such as cookies; here pages set them in
        headers themselves, except the cookie of sessions, which only mutations read. Responses to mutations are never
        compressed: they may contain a secret.
        """
        return (
            self.compress_from is not None
            and len(body) >= self.compress_from
            and _takes_gzip(headers.get("accept-encoding"))
        )

    @property
    def methods(self) -> str:
        """The accepted methods, as the value of the header ``allow``."""
        return "GET, POST, OPTIONS" if self.by_get else "POST, OPTIONS"

    def accepted(self, accept: str | None) -> tuple[str, bool]:
        """The media type of the response, and whether the client accepts only plain JSON. Raises NotAcceptable."""
        return _accepted(accept)

    async def read_request(self, scope: Scope, headers: Headers, receive: Receive, most: int) -> GraphQLRequest:
        match scope["method"]:
            case "GET" if self.by_get:
                parameters: dict[str, Any] = dict(parse_qsl(scope["query_string"].decode("latin-1")))
                for name in ("variables", "extensions"):
                    if name in parameters:
                        parameters[name] = _parsed(parameters[name].encode(), name)
            case "POST":
                parameters = await self.json(headers, receive, most)
            case _:
                raise MethodNotAllowed("expected POST, or GET for a query" if self.by_get else "expected POST")
        return _checked(parameters)

    async def json(self, headers: Headers, receive: Receive, most: int) -> Any:
        """The parsed body of a request. Raises UnsupportedMediaType, TooLarge, and BadUserInput for invalid JSON."""
        # RFC 9110 (5.3) combines repeated headers into one list; these headers may not be lists.
        if not _is_json(",".join(headers.getlist("content-type"))):
            raise UnsupportedMediaType(f"content-type: expected {JSON} in UTF-8")
        if ",".join(headers.getlist("content-encoding")).strip().lower() not in {"", "identity"}:
            raise UnsupportedMediaType("content-encoding: expected none")
        return _parsed(await self._body(headers, receive, most), "body")

    async def _body(self, headers: Headers, receive: Receive, most: int) -> bytes:
        declared = headers.get("content-length", "0")
        too_large = TooLarge(f"body: expected at most {most} bytes")
        # Python does not parse integers of thousands of digits; leading zeros are legal.
        digits = declared.lstrip("0") or "0"
        if digits.isdecimal() and (len(digits) > len(str(most)) or int(digits) > most):
            raise too_large
        parts: list[bytes] = []
        size = 0
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientGone
            part = message.get("body", b"")
            parts.append(part)
            size += len(part)
            if size > most:
                raise too_large
            more = message.get("more_body", False)
        return b"".join(parts)


@dataclass(frozen=True, slots=True)
class GraphQL(Endpoint):
    """The GraphQL endpoint of tenants."""

    principals: Principals
    executor: Executor
    database: Database
    max_body_bytes: int
    compress_from: int | None
    by_get: bool
    hub: Hub | None = None
    """Subscriptions; None if there are none here."""
    origins: Sequence[str] = ()
    """The origins of other pages that may use the cookie of sessions."""

    def streams(self, accept: str | None) -> bool:
        return self.hub is not None and accept is not None and events.MEDIA in accept

    async def stream(
        self, scope: Scope, headers: Headers, receive: Receive, send: Send, request_id: str
    ) -> Answer | None:
        if self.hub is None:
            raise TypeError("there are no subscriptions here")
        caller = await Caller.authenticated(self.principals, self.hub.changes, self.database, scope, request_id)
        asked = await self.read_request(scope, headers, receive, self.max_body_bytes)
        parameters = (asked.query, asked.operation_name, asked.variables, asked.extensions)
        return await events.stream(self.executor, self.hub, caller, parameters, scope, receive, send, key_in(headers))

    async def answer(self, scope: Scope, headers: Headers, receive: Receive, request_id: str) -> Answer:
        context: Context | Anonymous
        jar = Jar.read(headers, self.origins)
        observation = observation_of(scope)
        try:
            # Authenticate before reading the body.
            principal = await self.principals.principal(scope)
        except (Unauthenticated, Forbidden, TenantRequired) as refusal:
            # Public mutations need no credential, so they accept an invalid one: a client that renews its session
            # sends its expired token.
            if (named := self._visitor(scope, request_id, jar)) is None:
                raise
            context, asked = Anonymous(refusal), await self._read_unauthenticated(scope, headers, receive, refusal)
            visitor: Callable[[], Visitor | None] = partial(lambda known: known, named)
        else:
            visitor = partial(self._visitor, scope, request_id, jar)
            context = Context(principal, self.database, self.principals.members, request_id, self.principals.families)
            observation.principal = principal
            asked = await self.read_request(scope, headers, receive, self.max_body_bytes)
        answer = await self.executor.execute(
            asked.query,
            asked.operation_name,
            asked.variables,
            asked.extensions,
            context,
            mutations=scope["method"] == "POST",
            streams=self.hub is not None,
            visitor=visitor,
            key=key_in(headers),
            observation=observation,
        )
        return answer if jar is None or jar.set_cookie is None else replace(answer, set_cookie=jar.set_cookie)

    def _visitor(self, scope: Scope, request_id: str, jar: Jar | None) -> Visitor | None:
        visitor = self.principals.visitor(scope, request_id)
        return visitor if visitor is None or jar is None else replace(visitor, jar=jar)

    async def _read_unauthenticated(
        self, scope: Scope, headers: Headers, receive: Receive, refusal: Refusal
    ) -> GraphQLRequest:
        """A request without a valid credential. Its body must be small; on any error the credential is refused."""
        try:
            return await self.read_request(
                scope, headers, receive, min(self.max_body_bytes, UNAUTHENTICATED_BODY_BYTES)
            )
        except Refusal:
            raise refusal from None


async def _answer(send: Send, answer: Answer, media: str, called: str, *, compressed: bool, status: int) -> None:
    """Send a successful response. The hot path: it creates no Response object."""
    headers, body = [*_HEADERS[media], (_REQUEST_ID, called.encode())], answer.body
    if answer.replayed:
        headers.append((REPLAYED.encode(), b"true"))
    if answer.set_cookie is not None:
        headers.append((b"set-cookie", answer.set_cookie.encode()))
    if answer.rates is not None:
        left, policy = answer.rates
        headers += (RATE_LIMIT.encode(), left.encode()), (RATE_LIMIT_POLICY.encode(), policy.encode())
    if compressed:
        if len(body) <= _INLINE:
            body = gzip.compress(body, _LEVEL, mtime=0)
        else:
            # Compressing megabytes on the event loop would block other requests.
            body = await asyncio.to_thread(gzip.compress, body, _LEVEL, mtime=0)
        headers.append((b"content-encoding", b"gzip"))
    headers.append((b"content-length", b"%d" % len(body)))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


_REQUEST_ID = HEADER.encode()
_HEADERS = {
    media: [(b"content-type", media.encode()), (b"cache-control", b"no-store"), (b"vary", b"accept, accept-encoding")]
    for media in (JSON, GRAPHQL_JSON)
}
# Level 4 takes twice as long for large responses and makes them only a tenth smaller.
_LEVEL = 1
# Up to this size compression takes less than a millisecond; a thread would cost more than it saves.
_INLINE = 65_536
_UTF_8 = {"utf-8", "utf8"}


@lru_cache(100)
def _takes_gzip(accept_encoding: str | None) -> bool:
    named = {
        part.partition(";")[0].strip().lower()
        for part in (accept_encoding or "").split(",")
        if not REFUSED.search(part)
    }
    return bool(named & {"gzip", "*"})


@lru_cache(100)
def _is_json(content_type: str) -> bool:
    """Whether a content type is JSON: UTF-8 by RFC 8259, also with the charset parameter that some clients add."""
    message = Message()
    message["content-type"] = content_type
    [(named, _), *parameters] = message.get_params([("", "")])
    # A value in RFC 2231 encoding is a tuple.
    return named.strip().lower() == JSON and all(
        isinstance(value, str) and value.strip().lower() in _UTF_8
        for name, value in parameters
        if name.lower() == "charset"
    )


@lru_cache(100)
def _accepted(accept: str | None) -> tuple[str, bool]:
    """The media type of the response, and whether the client accepts only plain JSON."""
    if not accept or accept.isspace():
        return JSON, False
    asked = {part.partition(";")[0].strip().lower() for part in accept.split(",") if not REFUSED.search(part)}
    if GRAPHQL_JSON in asked:
        return GRAPHQL_JSON, False
    if JSON in asked:
        return JSON, True
    if asked & {"*/*", "application/*"}:
        return JSON, False
    raise NotAcceptable(f"accept: expected {GRAPHQL_JSON} or {JSON}")


def _parsed(text: bytes, name: str) -> Any:
    try:
        return exact_json.loads(text.removeprefix(BOM_UTF8).decode())
    except (ValueError, RecursionError):
        raise BadUserInput(f"{name}: expected JSON") from None


def _checked(parameters: Any) -> GraphQLRequest:
    if not isinstance(parameters, dict):
        raise BadUserInput("body: expected one JSON object; batches are not supported")
    for name, kind, expected in (
        ("query", str, "a string"),
        ("operationName", str, "a string"),
        ("variables", dict, "an object"),
        ("extensions", dict, "an object"),
    ):
        if not isinstance(parameters.get(name), kind | None):
            raise BadUserInput(f"{name}: expected {expected}")
    return GraphQLRequest(
        parameters.get("query"),
        parameters.get("operationName"),
        parameters.get("variables"),
        parameters.get("extensions"),
    )


def _refused(answer: Answer, status: int, media: str) -> Response:
    response = _response(answer.body, status, media, answer.retry_after)
    if answer.replayed:
        response.headers[REPLAYED] = "true"
    if answer.rates is not None:
        response.headers[RATE_LIMIT], response.headers[RATE_LIMIT_POLICY] = answer.rates
    return response


def _error(refusal: Refusal, media: str, observation: Observation) -> Response:
    body = dumped({"errors": [errors.refusal(refusal)]})
    observation.answered(refusal.status, body, refusal.code)
    return _response(body, refusal.status, media, refusal.retry_after)


def _response(body: bytes, status: int, media: str, retry_after: int | None = None) -> Response:
    headers = {} if retry_after is None else {"retry-after": str(retry_after)}
    return Response(body, status, headers, media)


def _explain(response: Response, methods: str) -> None:
    """Add the headers that HTTP requires for some statuses. ``methods`` are the accepted methods."""
    match response.status_code:
        case 401:
            response.headers["www-authenticate"] = "Bearer"
        case 405:
            response.headers["allow"] = methods
    response.headers["cache-control"] = "no-store"
    response.headers["vary"] = "accept"


def application(
    settings: Settings,
    authenticator: Authenticator,
    executor: Executor,
    tenants: Database,
    control: Database,
    hub: Hub,
    further: Sequence[BaseRoute] = (),
    page: ASGIApp | None = None,
    observers: Sequence[Observer] = (),
    *,
    tracing: bool = False,
) -> ASGIApp:
    """The HTTP application: ``/graphql``, ``/livez`` (this process answers), ``/readyz`` (it can serve requests).

    If the path is a tenant source, ``/t/<tenant>/graphql`` serves the same as ``/graphql``. ``further`` routes are
    served as well. ``hub`` follows subscriptions: over WebSockets, and as events in answers. ``page`` is the answer to
    browsers that open ``/graphql``; None for no such page. ``observers`` get each HTTP request when it has ended,
    with ``tracing`` with its timed parts.
    """

    async def livez(_: Request) -> Response:
        return JSONResponse({"status": "alive"})

    async def readyz(_: Request) -> Response:
        try:
            for database in (tenants, control):
                async with database.unbound() as work:
                    # Also "on" during recovery: after a failover, this may be the old server, now a standby.
                    if await work.value("SELECT current_setting('transaction_read_only')") == "on":
                        raise Unavailable("the database is read-only")
        except Refusal as refusal:
            return JSONResponse({"status": "not ready", "reason": refusal.message}, status_code=refusal.status)
        return JSONResponse({"status": "ready"})

    graphql = GraphQL(
        authenticator,
        executor,
        tenants,
        settings.max_body_bytes,
        settings.compress_from,
        by_get=not settings.production,
        hub=hub,
        origins=settings.cors_origins,
    )
    sockets = Sockets(
        authenticator, executor, tenants, hub, settings.head_timeout, settings.max_subscriptions_per_connection
    )
    endpoint = graphql if page is None else _Either(graphql, page)
    by_path = "path" in settings.tenant_sources
    starlette = Starlette(
        routes=[
            Route("/graphql", endpoint),
            *([Route("/t/{tenant:path}/graphql", endpoint)] if by_path else []),
            Route("/livez", livez),
            Route("/readyz", readyz),
            *further,
        ],
        middleware=_cors(settings),
    )
    # A redirect would go to the host in the request, which the client controls.
    starlette.router.redirect_slashes = False

    async def direct(scope: Scope, receive: Receive, send: Send) -> None:
        path: str = scope.get("path", "")
        if path == "/graphql/":
            path = "/graphql"
            scope = {**scope, "path": path, "raw_path": path.encode()}
        # /graphql handles its own errors, so it needs no middleware but CORS.
        if scope["type"] == "websocket":
            # The server lets only upgrades of this path through.
            await sockets(scope, receive, send)
        elif _is_endpoint(path, by_path=by_path) and not settings.cors_origins:
            await endpoint(scope, receive, send)
        else:
            await starlette(scope, receive, send)

    counting = settings.request_record_days is not None
    return observed(direct, observers, counting=counting, tracing=tracing)


@dataclass(frozen=True, slots=True)
class _Either:
    """A page for who prefers HTML, the endpoint for all others."""

    endpoint: ASGIApp
    page: ASGIApp

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_page = scope["method"] in {"GET", "HEAD"} and prefers_html(Headers(scope=scope).get("accept"))
        await (self.page if is_page else self.endpoint)(scope, receive, send)


@lru_cache(100)
def prefers_html(accept: str | None) -> bool:
    """Whether a client prefers HTML to JSON, as browsers do when they open an address."""
    qualities = {JSON: 0.0, GRAPHQL_JSON: 0.0, HTML: 0.0}
    for part in (accept or "").split(","):
        media, _, parameters = part.partition(";")
        quality = _QUALITY.search(f";{parameters}")
        if (name := media.strip().lower()) in qualities:
            qualities[name] = float(quality[1]) if quality else 1.0
    return qualities[HTML] > max(qualities[JSON], qualities[GRAPHQL_JSON])


def _is_endpoint(path: str, *, by_path: bool) -> bool:
    return path == "/graphql" or (by_path and path.startswith("/t/") and path.endswith("/graphql"))


def _cors(settings: Settings) -> Sequence[Middleware]:
    if not settings.cors_origins:
        return ()
    return (
        Middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=["GET", "POST", "PUT", "PATCH", "DELETE"],
            allow_headers=[
                "authorization",
                "content-type",
                KEY,
                "x-api-key",
                "x-request-id",
                "x-tenant-id",
                *([COOKIE] if settings.session_cookie_tenants else []),
                *settings.cors_headers,
            ],
            expose_headers=[RATE_LIMIT, RATE_LIMIT_POLICY, REPLAYED, "retry-after", "x-request-id"],
            max_age=settings.cors_max_age,
            allow_credentials=bool(settings.session_cookie_tenants),
        ),
    )
