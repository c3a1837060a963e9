"""The protocol graphql-transport-ws: https://github.com/enisdenjo/graphql-ws/blob/master/PROTOCOL.md.

Strawberry's handler keeps the order of messages. What it runs are our own operations, whose results are already JSON.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, cast

import structlog
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState
from strawberry.exceptions import ConnectionRejectionError
from strawberry.http.exceptions import NonJsonMessageReceived, NonTextMessageReceived, WebSocketDisconnected
from strawberry.subscriptions.protocols.graphql_transport_ws.handlers import BaseGraphQLTransportWSHandler, Operation
from strawberry.subscriptions.protocols.graphql_transport_ws.types import ErrorMessage, Message, SubscribeMessage

from isola import exact_json
from isola.api import errors
from isola.api.execute import Executor, refused
from isola.api.idempotency import EXTENSION
from isola.api.live.caller import Caller, Principals
from isola.api.live.hub import Hub
from isola.api.request_id import HEADER, request_id
from isola.database.transactions import Database
from isola.errors import BadUserInput, Forbidden, RateLimited, Refusal, Unauthenticated

PROTOCOL = "graphql-transport-ws"
_FAILED, _AGAIN_LATER, _INVALID, _UNAUTHENTICATED, _FORBIDDEN = 1011, 1013, 4400, 4401, 4403
_MAX_ID = 64
_MAX_REASON = 123
# The credentials and tenant names that connection_init may have: the headers of the same names, for browsers, which
# can set none.
_HEADERS = frozenset({"authorization", "x-api-key", "x-tenant-id"})


@dataclass(frozen=True, slots=True)
class Sockets:
    """The WebSocket endpoint, as an ASGI application."""

    principals: Principals
    executor: Executor
    database: Database
    hub: Hub
    init_timeout: float
    most: int
    """Operations at once on one connection."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        socket = WebSocket(scope, receive, send)
        called = request_id(socket.headers.get(HEADER))
        structlog.contextvars.bind_contextvars(request_id=called)
        with suppress(WebSocketDisconnect):
            offered = PROTOCOL in scope["subprotocols"]
            await socket.accept(PROTOCOL if offered else None, [(HEADER.encode(), called.encode())])
            if not offered:
                await socket.close(4406, "Subprotocol not acceptable")
                return
            await _Handler(self, socket, called).handle()


class _Socket:
    """A WebSocket as Strawberry's handler uses it. It can be closed more than once: the first reason counts."""

    def __init__(self, socket: WebSocket) -> None:
        self._socket = socket
        self._closed = False

    async def iter_json(self) -> AsyncIterator[object]:
        while True:
            message = await self._socket.receive()
            if message["type"] == "websocket.disconnect" or self._closed:
                raise WebSocketDisconnected
            text = message.get("text")
            if text is None:
                raise NonTextMessageReceived
            try:
                parsed = exact_json.loads(text)
            except (ValueError, RecursionError):
                raise NonJsonMessageReceived from None
            yield parsed

    async def send_json(self, message: Mapping[str, object]) -> None:
        await self.send_text(json.dumps(message))

    async def send_text(self, text: str) -> None:
        if not self._closed and self._socket.client_state is WebSocketState.CONNECTED:
            await self._socket.send_text(text)

    async def close(self, code: int, reason: str) -> None:
        if not self._closed:
            self._closed = True
            if self._socket.client_state is WebSocketState.CONNECTED:
                await self._socket.close(code, reason.encode()[:_MAX_REASON].decode(errors="ignore"))


class _Handler(BaseGraphQLTransportWSHandler[Any, Any]):
    """One connection. It is also its own ``view``: the handler asks it whether the client may connect."""

    def __init__(self, endpoint: Sockets, socket: WebSocket, called: str) -> None:
        self._adapter = _Socket(socket)
        super().__init__(
            view=cast("Any", self),
            websocket=cast("Any", self._adapter),
            context={},
            root_value=None,
            schema=cast("Any", None),  # the executor runs the operations
            connection_init_wait_timeout=timedelta(seconds=endpoint.init_timeout),
        )
        self._endpoint = endpoint
        self._scope = socket.scope
        self._called = called
        self._caller: Caller | None = None
        self._payloads: dict[str, Mapping[str, Any]] = {}
        self._closing: asyncio.Task[None] | None = None

    async def on_ws_connect(self, context: Mapping[str, Any]) -> Mapping[str, object]:
        """Authenticate the client by the payload of connection_init. Called by Strawberry's handler."""
        endpoint = self._endpoint
        try:
            scope = _with_credentials(self._scope, context["connection_params"])
            self._caller = await Caller.authenticated(
                endpoint.principals, endpoint.hub.changes, endpoint.database, scope, self._called
            )
        except Exception as error:  # noqa: BLE001  any error: logged in full, hidden from the client
            await self._close(error)
            raise ConnectionRejectionError from None
        self._caller.end = self._end
        return {}

    def _end(self, refusal: Refusal) -> None:
        self._closing = asyncio.create_task(self._close(refusal))

    async def _close(self, error: Exception) -> None:
        code, reason = _closing(error)
        with suppress(WebSocketDisconnect, RuntimeError):
            await self._adapter.close(code, reason)

    async def handle_message(self, message: Message) -> None:
        if not _is_valid(message):
            await self.handle_invalid_message("expected a message of graphql-transport-ws")
            return
        if message["type"] == "connection_init" and message.get("payload", {}) is None:
            message = {"type": "connection_init"}
        await super().handle_message(message)

    async def handle_subscribe(self, message: SubscribeMessage) -> None:
        name, payload = message["id"], message["payload"]
        most = self._endpoint.most
        # Strawberry could limit this as well, but its error has no code.
        if self.connection_acknowledged and name not in self.operations and len(self.operations) >= most:
            await self._refuse(name, RateLimited(f"expected at most {most} operations at once on one connection", 1))
            return
        if name not in self.operations:
            self._payloads[name] = cast("Mapping[str, Any]", payload)
        # A persisted document has only a hash.
        await super().handle_subscribe({**message, "payload": {"query": "", **payload}})
        if name not in self.operations:
            self._payloads.pop(name, None)

    async def run_operation(self, operation: Operation[Any, Any]) -> None:
        payload = self._payloads.pop(operation.id)
        try:
            if self._caller is not None and await self._caller.check():
                await self._run(operation, payload, self._caller)
        except (WebSocketDisconnect, RuntimeError) as error:
            if isinstance(error, RuntimeError) and not self._adapter._closed:  # noqa: SLF001  of the same module
                await self._fail(operation, error)
        except Exception as error:  # noqa: BLE001  any error: logged in full, hidden from the client
            await self._fail(operation, error)

    async def _fail(self, operation: Operation[Any, Any], error: Exception) -> None:
        with suppress(WebSocketDisconnect):
            await operation.send_operation_message(_error(operation.id, error))

    async def _refuse(self, name: str, refusal: Refusal) -> None:
        with suppress(WebSocketDisconnect):
            await self.send_message(_error(name, refusal))

    async def _run(self, operation: Operation[Any, Any], payload: Mapping[str, Any], caller: Caller) -> None:
        executor = self._endpoint.executor
        asked = (
            # graphql-ws sends a text with every hash, even if it is empty.
            payload.get("query") or None,
            payload.get("operationName"),
            payload.get("variables"),
            payload.get("extensions"),
        )
        selected, values = await executor.operation(*asked, caller.context)
        beginning = f'{{"id":{json.dumps(operation.id)},"type":"next","payload":'
        if executor.is_streamed(selected, values):
            async with self._endpoint.hub.subscribed(caller, selected, values) as subscription:
                while True:
                    for text in await subscription.batch():
                        await executor.charge_event(text, caller.context)
                        await self._adapter.send_text(f"{beginning}{text}}}")
        extensions = payload.get("extensions") or {}
        # Null is an invalid key: the client meant to send one.
        key = extensions[EXTENSION] or "" if EXTENSION in extensions else None
        text = (await executor.execute(*asked, caller.context, key=key, charged=True)).body.decode()
        if "data" not in (body := json.loads(text)):
            await operation.send_operation_message({"id": operation.id, "type": "error", "payload": body["errors"]})
            return
        await self._adapter.send_text(f"{beginning}{text}}}")
        await operation.send_operation_message({"id": operation.id, "type": "complete"})


def _error(name: str, error: Exception) -> ErrorMessage:
    """The message that ends an operation with an error."""
    return {"id": name, "type": "error", "payload": json.loads(refused(error).body)["errors"]}


def _closing(error: Exception) -> tuple[int, str]:
    """The close code and the reason for a client."""
    match error:
        case Unauthenticated():
            return _UNAUTHENTICATED, error.message if error.reason is None else f"{error.reason}: {error.message}"
        case Forbidden():
            return _FORBIDDEN, error.message
        case BadUserInput():
            return _INVALID, error.message
        case Refusal():
            return _AGAIN_LATER, error.message
    return _FAILED, str(errors.crash(error)["message"])


def _with_credentials(scope: Scope, payload: Mapping[str, object]) -> Scope:
    """A scope with the headers that connection_init has. One that is given twice is refused like a repeated header."""
    headers = list(scope["headers"])
    for name, value in payload.items():
        if name.lower() in _HEADERS:
            if not isinstance(value, str) or not value.isascii():
                raise BadUserInput(f"connection_init: expected a text as {name.lower()}")
            headers.append((name.lower().encode(), value.encode()))
    return {**scope, "headers": headers}


_TYPES = frozenset({"connection_init", "ping", "pong", "subscribe", "complete"})


def _is_valid(message: object) -> bool:
    """Whether a message has the form that the protocol demands."""
    if not isinstance(message, dict) or message.get("type") not in _TYPES:
        return False
    if message["type"] not in {"subscribe", "complete"}:
        return True
    name = message.get("id")
    if not isinstance(name, str) or not 0 < len(name.encode(errors="replace")) <= _MAX_ID:
        return False
    if message["type"] == "complete":
        return True
    payload = message.get("payload")
    return isinstance(payload, dict) and all(
        isinstance(payload.get(key), kind | None)
        for key, kind in (("query", str), ("operationName", str), ("variables", dict), ("extensions", dict))
    )
