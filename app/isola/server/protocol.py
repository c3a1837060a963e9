"""Limits of the HTTP server in bytes and time, applied before the application gets a request; one answer per request.

For an upgrade request, uvicorn with httptools parses only the head, drops the body, and parses the body as the next
request. It also treats trailers as headers, and bounds neither the size of a head nor the time that it takes. See
docs/decisions/0014.
"""

import asyncio
import json
import re
import socket
from collections import OrderedDict
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import ClassVar

import httptools
from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from isola.api.live.events import STOP

# Headers that ask for another protocol; a server may ignore them (RFC 9110, 7.8).
_UPGRADE = {b"upgrade", b"http2-settings"}
_HEAD = b"content-type: application/json\r\ncache-control: no-store\r\nconnection: close\r\ncontent-length: %d\r\n\r\n"
_TOO_LARGE = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
_VERSIONS = {"1.0", "1.1"}
_SOCKET = re.compile(rb"(?:/t/[A-Za-z0-9-]{1,63})?/graphql/?(?:\?.*)?", re.DOTALL)
_SOCKET_LINE = 8000
_BODY = {b"content-length", b"transfer-encoding", b"expect", b"trailer"}
_KERNEL_BYTES = 262_144
_LINGER = 1.0  # seconds
_LINGERING = 64
_CODES = {HTTPStatus.SERVICE_UNAVAILABLE: "UNAVAILABLE"}


@dataclass(frozen=True, slots=True)
class Limits:
    """``head`` and ``wire`` are in bytes, times in seconds.

    ``wire`` limits a body including its framing: chunk sizes, chunk extensions, trailers.
    """

    head: int
    headers: int
    head_time: float
    wire: int
    body_time: float
    read_time: float
    connections: int
    waiting: OrderedDict["GuardedProtocol", None] = field(default_factory=OrderedDict)
    """Connections that wait for their clients: to send a request, or the rest of one, or to read an answer.

    The longest waiting come first.
    """


class _RefusedError(Exception):
    """A head is refused. Raised inside the parser, which stops."""

    def __init__(self, status: HTTPStatus, message: str) -> None:
        super().__init__(message)
        self.status = status


class GuardedProtocol(HttpToolsProtocol):
    """HTTP/1.1 on one connection, within the limits of its class. Created by ``guarded``."""

    limits: ClassVar[Limits]

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        super().connection_made(transport)
        self._in_head = True  # a silent client runs into the time limit of a head
        self._begun = self._in_body = self._lingers = self._handed_over = False
        self._head_bytes = self._wire_bytes = 0
        self._upgrade = False
        self._timer: asyncio.TimerHandle | None = None
        self._timed: str | None = None
        self._reading: asyncio.TimerHandle | None = None
        self._read_time = self.limits.read_time
        self._answering: RequestResponseCycle | None = None
        # Otherwise the kernel buffers megabytes for a client that does not read, which stays undetected for long.
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _KERNEL_BYTES)
        limits = self.limits
        if len(self.connections) > limits.connections:
            if not limits.waiting:
                self._answer(HTTPStatus.SERVICE_UNAVAILABLE, "the server has too many connections")
                return
            oldest, _ = limits.waiting.popitem(last=False)
            oldest.transport.abort()
        limits.waiting[self] = None
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        self.limits.waiting.pop(self, None)
        self._stop_timer()
        # uvicorn notifies only the last request of the disconnect, and lets earlier ones write to a closed transport.
        self.pipeline.clear()
        if self._answering is not None:
            self._answering.disconnected = True
            self._answering.message_event.set()
        super().connection_lost(exc)
        self._stop_reading()

    def data_received(self, data: bytes) -> None:
        if self.timeout_keep_alive_task is not None:
            self._unset_keepalive_if_required()
        try:
            # Data after a refusal is discarded.
            while data and not (self._lingers or self.transport.is_closing()):
                data = self._feed(data)
        except httptools.HttpParserError as error:
            if isinstance(error.__context__, _RefusedError):
                self._refuse(error.__context__.status, str(error.__context__))
            else:
                self._refuse(HTTPStatus.BAD_REQUEST, "expected a request of HTTP/1.1")
            return
        if not (self._lingers or self._handed_over):
            self._watch()

    def _feed(self, data: bytes) -> bytes:
        """Parse the next part of some data; the rest of it."""
        limits = self.limits
        if self._in_body:
            piece, rest = data, b""
            self._wire_bytes += len(piece)
            if self._wire_bytes > limits.wire:
                self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "expected a body of fewer bytes")
                return b""
        else:
            room = limits.head - self._head_bytes
            piece, rest = data[:room], data[room:]
            self._head_bytes += len(piece)
        try:
            self.parser.feed_data(piece)
        except httptools.HttpParserUpgrade as upgrade:
            following = piece[upgrade.args[0] :] + rest
            if self._is_websocket() and not following:
                self._hand_over()
                return b""
            return self._without_upgrade() + following
        if not self._in_body and self._head_bytes >= limits.head:
            self._refuse(_TOO_LARGE, f"expected a request head of at most {limits.head} bytes")
            return b""
        return rest

    def _is_websocket(self) -> bool:
        """Whether the head that was just parsed, and nothing else, is a handshake for the GraphQL endpoint."""
        headers: dict[bytes, list[bytes]] = {}
        for name, value in self.headers:
            headers.setdefault(name, []).append(value.strip())
        return (
            self.parser.get_method() == b"GET"
            and self.parser.get_http_version() == "1.1"
            and _SOCKET.fullmatch(self.url) is not None
            and [value.lower() for value in headers.get(b"upgrade", ())] == [b"websocket"]
            and headers.get(b"sec-websocket-version") == [b"13"]
            and len(headers.get(b"sec-websocket-key", ())) == 1
            and _BODY.isdisjoint(headers)
            # Its parser has a limit of its own.
            and max(len(self.url), *(len(name) + len(value) for name, value in self.headers)) < _SOCKET_LINE
            and not (self._busy or self.pipeline or self.transport.is_closing())
        )

    def _hand_over(self) -> None:
        """Let the WebSocket protocol continue on this connection."""
        self._handed_over = True
        self._stop_timer()
        self._stop_reading()
        self.limits.waiting.pop(self, None)
        self.scope["method"] = "GET"
        self.handle_websocket_upgrade()

    def _without_upgrade(self) -> bytes:
        """The head that was just parsed, without its upgrade, to feed to a new parser."""
        method = self.parser.get_method()
        if method == b"CONNECT":
            raise httptools.HttpParserError
        head = [method, b" ", self.url, b" HTTP/", self.parser.get_http_version().encode(), b"\r\n"]
        for name, value in self.headers:
            if name == b"connection":
                kept = [token for token in value.split(b",") if token.strip().lower() not in _UPGRADE]
                value = b",".join(kept)  # noqa: PLW2901  the same header, shortened
            if name not in _UPGRADE and (name != b"connection" or value):
                head += [name, b": ", value, b"\r\n"]
        self.parser = httptools.HttpRequestParser(self)
        # As in uvicorn: data after a request that closes the connection is not answered.
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self._upgrade = False
        self._head_bytes = 0
        return b"".join([*head, b"\r\n"])

    def on_message_begin(self) -> None:
        self._in_head = self._begun = True
        if self in self.limits.waiting:
            self.limits.waiting.move_to_end(self)
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_body:
            return  # a trailer: ignored
        # Like uvicorn's method, without another call for each header.
        name = name.lower()
        if name == b"expect" and value.lower() == b"100-continue":
            self.expect_100_continue = True
        elif name == b"transfer-encoding" and value.strip().lower() != b"chunked":
            # The parser decodes chunks and ignores other encodings.
            raise _RefusedError(HTTPStatus.NOT_IMPLEMENTED, "transfer-encoding: expected chunked")
        self.headers.append((name, value))
        if len(self.headers) > self.limits.headers:
            raise _RefusedError(_TOO_LARGE, f"expected at most {self.limits.headers} headers")
        if len(value) > self.limits.head:
            raise _RefusedError(_TOO_LARGE, f"expected a request head of at most {self.limits.head} bytes")

    def on_headers_complete(self) -> None:
        if self.parser.should_upgrade():
            self._upgrade = True
            return
        if self.parser.get_http_version() not in _VERSIONS:
            raise _RefusedError(HTTPStatus.HTTP_VERSION_NOT_SUPPORTED, "expected HTTP/1.1")
        super().on_headers_complete()
        self._in_head, self._begun, self._in_body = False, False, True
        self._head_bytes = self._wire_bytes = 0

    def on_body(self, body: bytes) -> None:
        if not self._upgrade:
            super().on_body(body)

    def on_message_complete(self) -> None:
        if not self._upgrade:
            self._in_body = False
            if self._busy:
                self.limits.waiting.pop(self, None)
            super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.transport.is_closing():
            self._expect_reading()
            return
        if not self._busy:
            self.limits.waiting[self] = None
        if self._begun or self._in_body:
            self._watch()

    def timeout_keep_alive_handler(self) -> None:
        # A body that is still coming has its own time limit.
        if not self._in_body:
            super().timeout_keep_alive_handler()
            self._expect_reading()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._answering = cycle
        super()._start_asgi_task(cycle, app)

    def shutdown(self) -> None:
        # From now on, clients that do not read are disconnected soon.
        self._read_time = min(self._read_time, _LINGER)
        self._stop_reading()
        self._expect_reading()
        if self._busy and self._answering is not None:
            # A response without an end ends now.
            stop = self._answering.scope["state"].get(STOP)
            if stop is not None:
                stop()
        super().shutdown()

    def pause_writing(self) -> None:
        super().pause_writing()
        self.limits.waiting[self] = None
        self._expect_reading()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._stop_reading()
        if self.transport.is_closing():
            self._expect_reading()
        if self._busy and not self._in_body:
            self.limits.waiting.pop(self, None)

    def _expect_reading(self) -> None:
        """Require the client to read: one that reads nothing for a while is disconnected."""
        if self._reading is None and (left := self.transport.get_write_buffer_size()):
            self._reading = self.loop.call_later(self._read_time, self._has_read, left)

    def _stop_reading(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
            self._reading = None

    def _has_read(self, left: int) -> None:
        """Disconnect a client that has read nothing since ``left`` bytes were in the buffer."""
        self._reading = None
        if self.transport.get_write_buffer_size() >= left:
            self.transport.abort()
        else:
            self._expect_reading()

    @property
    def _busy(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _watch(self) -> None:
        """Run a timer while a head or a body is expected, from the time when it was first expected."""
        awaited: str | None = "body" if self._in_body else "head"
        if self.pipeline or (self._busy and not self._in_body):
            awaited = None  # the next request may have to wait for earlier answers
        if awaited == self._timed:
            return
        self._stop_timer()
        self._timed = awaited
        if awaited is not None:
            limit = self.limits.body_time if awaited == "body" else self.limits.head_time
            self._timer = self.loop.call_later(limit, self._overdue)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._timed = None

    def _overdue(self) -> None:
        self._timer = None
        self._refuse(HTTPStatus.REQUEST_TIMEOUT, "the request did not arrive in time")

    def _refuse(self, status: HTTPStatus, message: str) -> None:
        """End the connection. The message is sent only as the answer to the request that is arriving."""
        self._stop_timer()
        answered = self._in_body and not self._busy
        silent = not self._in_body and not self._begun
        if answered or silent:
            # No answer is expected, and the client would take one for that of its next request.
            self.transport.close()
            self._expect_reading()
            return
        arriving = self.cycle if self._in_body and self._busy else None
        if self.pipeline or (self._busy and arriving is None):
            # The client would take an answer for that of an earlier request.
            self.transport.abort()
            return
        if arriving is not None:
            started = arriving.response_started
            arriving.disconnected = True
            arriving.message_event.set()
            if started:
                self.transport.abort()
                return
        self._answer(status, message)

    def _answer(self, status: HTTPStatus, message: str) -> None:
        extensions = {"code": _CODES.get(status, "BAD_USER_INPUT")}
        body = json.dumps({"errors": [{"message": message, "extensions": extensions}]}).encode()
        self.transport.write(STATUS_LINE[status] + _HEAD % len(body) + body)
        if len(self.connections) > self.limits.connections + _LINGERING:
            self.transport.close()
            return
        # Closing while data is still arriving resets the connection, and the client never reads the answer.
        self._lingers = True
        self.limits.waiting.pop(self, None)
        self.transport.write_eof()
        self._timer = self.loop.call_later(_LINGER, self.transport.abort)


def guarded(limits: Limits) -> type[GuardedProtocol]:
    """A protocol class whose connections share these limits."""
    return type("GuardedProtocol", (GuardedProtocol,), {"limits": limits})
