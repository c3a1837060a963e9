"""WebSockets within limits: uvicorn's protocol, for clients that send endless fragments or stop reading."""

import asyncio
import logging
from typing import ClassVar

from uvicorn._types import ASGISendEvent
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import CloseCode, Frame

from isola.server.protocol import Limits

_FRAGMENTS = 1000
_LINGER = 1.0  # seconds
_CLOSING = 5.0  # seconds

# uvicorn would log the address of each client with its query.
_quiet = logging.getLogger("isola.websocket")
_quiet.setLevel(logging.WARNING)


class GuardedWebSocket(WebSocketsSansIOProtocol):
    """A connection of which the HTTP protocol has checked the handshake. Created by ``guarded_websocket``."""

    limits: ClassVar[Limits]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.logger = _quiet
        self.close_timeout = _CLOSING
        self._reading: asyncio.TimerHandle | None = None
        super().connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_reading()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._abort_after(self.limits.read_time)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._stop_reading()

    def handle_cont(self, event: Frame) -> None:
        if len(self.frames) >= _FRAGMENTS:
            self.conn.fail(CloseCode.MESSAGE_TOO_BIG, "too many fragments")
            self.handle_parser_exception()
            return
        super().handle_cont(event)

    async def send(self, message: ASGISendEvent) -> None:
        await super().send(message)
        if message["type"] == "websocket.close":
            # A client that does not read would never get the rest.
            self._abort_after(2 * _CLOSING)

    def shutdown(self) -> None:
        self.stop_keepalive()
        if self.handshake_complete and not self.close_sent:
            self.queue.put_nowait({"type": "websocket.disconnect", "code": CloseCode.GOING_AWAY})
            self.conn.send_close(CloseCode.GOING_AWAY, "the server is stopping")
            self.transport.write(b"".join(self.conn.data_to_send()))
            self.close_sent = True
            self.transport.close()
        else:
            super().shutdown()
        self._abort_after(_LINGER)

    def _abort_after(self, seconds: float) -> None:
        self._stop_reading()
        self._reading = self.loop.call_later(seconds, self.transport.abort)

    def _stop_reading(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
            self._reading = None


def guarded_websocket(limits: Limits) -> type[GuardedWebSocket]:
    """A protocol class whose connections share these limits."""
    return type("GuardedWebSocket", (GuardedWebSocket,), {"limits": limits})
