"""The HTTP server: its sockets, and its signal handling."""

import asyncio
import gc
import resource
import signal
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

import uvicorn
from starlette.types import ASGIApp

from isola.errors import OperatorError
from isola.server.protocol import Limits, guarded
from isola.server.websocket import guarded_websocket
from isola.settings import Settings

BACKLOG = 2048
# Open files of a process besides the connections of clients and of the pool: log, listeners, keys.
OWN_FILES = 128
MOST_CONNECTIONS = 10_000
# With chunks of one byte, a body with its framing is six times as long as the body alone.
WIRE_BYTES_A_BYTE = 8
WIRE_BYTES = 65_536
# Of the port for metrics: one or two programs scrape it.
SCRAPERS = 20


def configured(application: ASGIApp, settings: Settings, connections: int | None = None) -> uvicorn.Config:
    """Uvicorn's configuration for an application: everything that clients send is limited in size.

    ``connections`` is the maximum number of them, by default what the settings say.
    """
    limits = Limits(
        head=settings.max_head_bytes,
        headers=settings.max_headers,
        head_time=settings.head_timeout,
        wire=settings.max_body_bytes * WIRE_BYTES_A_BYTE + WIRE_BYTES,
        body_time=settings.body_timeout,
        read_time=settings.read_timeout,
        connections=connections or _connections(settings),
    )
    return uvicorn.Config(
        application,
        http=guarded(limits),
        ws=guarded_websocket(limits),
        ws_max_size=settings.max_body_bytes,
        ws_per_message_deflate=False,  # its memory is several times that of a connection
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # isola.identity.hosts reads them, from trusted proxies only
        lifespan="off",
        timeout_keep_alive=settings.keep_alive,
        timeout_graceful_shutdown=max(1, round(settings.shutdown_grace)),
    )


def _connections(settings: Settings) -> int:
    """The maximum number of client connections: the setting, as far as the limit of open files allows.

    Raises the process's soft limit of open files if necessary and possible.
    """
    limit = settings.max_connections or MOST_CONNECTIONS
    own = OWN_FILES + settings.pool_size
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return limit
    if soft < limit + own:
        soft = limit + own if hard == resource.RLIM_INFINITY else max(soft, min(hard, limit + own))
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    # With a very low limit, use half of it.
    return min(limit, max(soft - own, soft // 2))


@dataclass(frozen=True, slots=True)
class Place:
    """Where a server listens, and how the settings for that begin."""

    host: str
    port: int
    prefix: str = "ISOLA"


class Listener:
    """A server's socket. ``bound`` binds the address; connections are accepted after ``listen``."""

    def __init__(self, settings: Settings, place: Place, bound: socket.socket) -> None:
        self._settings = settings
        self._place = place
        self._socket = bound

    @property
    def url(self) -> str:
        host, port, *_ = self._socket.getsockname()
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    def listen(self) -> None:
        """Accept connections from now on; they wait until they are served. Raises OperatorError."""
        try:
            self._socket.listen(BACKLOG)
        except OSError as error:
            raise _cannot_listen(self._place, error) from error

    async def serve(self, application: ASGIApp) -> None:
        """Serve until SIGTERM or SIGINT; then finish accepted requests, within ``shutdown_grace``."""
        # Exclude all current objects from garbage collection: otherwise each full collection scans them, some 50 ms.
        gc.collect()
        gc.freeze()
        gc.set_threshold(700, 10, 10)
        # A thread that parses a large document yields to requests after this time, instead of 5 ms.
        sys.setswitchinterval(0.0005)
        await _Server(configured(application, self._settings)).serve([self._socket])

    @asynccontextmanager
    async def beside(self, application: ASGIApp) -> AsyncIterator[None]:
        """Serve as long as the context is open, whatever signals come, beside the server that they are for."""
        self.listen()
        server = _Beside(configured(application, self._settings, SCRAPERS))
        task = asyncio.create_task(server.serve([self._socket]))
        try:
            yield
        finally:
            server.should_exit = True
            await task


@contextmanager
def bound(settings: Settings, place: Place | None = None) -> Iterator[Listener]:
    """Bind the configured address, before anything else is started, so that a port in use is detected early.

    ``place`` is another one than that of requests. Raises OperatorError.
    """
    place = place or Place(settings.host, settings.port)
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            place.host, place.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        taken = socket.socket(family, kind, protocol)
    except (OSError, UnicodeError) as error:
        raise _cannot_listen(place, error) from error
    with taken:
        try:
            # The port can be reused as soon as the previous server has ended.
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            taken.bind(address)
        except OSError as error:
            raise _cannot_listen(place, error) from error
        yield Listener(settings, place, taken)


@contextmanager
def bound_for_metrics(settings: Settings) -> Iterator[Listener | None]:
    """Bind the address of metrics; None if there is none. Raises OperatorError."""
    if settings.metrics_port is None:
        yield None
    else:
        with bound(settings, Place(settings.metrics_host, settings.metrics_port, "ISOLA_METRICS")) as listener:
            yield listener


def _cannot_listen(place: Place, error: Exception) -> OperatorError:
    reason = error.strerror if isinstance(error, OSError) else "expected the name of a host"
    return OperatorError(
        f"cannot listen on {place.prefix}_HOST {place.host}, {place.prefix}_PORT {place.port}: {reason}"
    )


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        # uvicorn would raise the signal again after its end, and so interrupt the rest of the shutdown.
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self.handle_exit, number, None)
        yield


class _Beside(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
