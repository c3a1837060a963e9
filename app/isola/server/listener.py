"""The HTTP server: its socket, and what signals do to it."""

import asyncio
import gc
import resource
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from starlette.types import ASGIApp

from isola.errors import OperatorError
from isola.server.protocol import Limits, guarded
from isola.settings import Settings

BACKLOG = 2048
# Files that a process has open besides connections of clients and those of the pool: its log, its listeners, its keys'.
OWN_FILES = 128
MOST_CONNECTIONS = 10_000
# What frames a body that comes in chunks of one byte is six times as long as the body.
WIRE_BYTES_A_BYTE = 8
WIRE_BYTES = 65_536


def configured(application: ASGIApp, settings: Settings) -> uvicorn.Config:
    """Uvicorn's configuration for an application: nothing that a client sends is read without a bound."""
    limits = Limits(
        head=settings.max_head_bytes,
        headers=settings.max_headers,
        head_time=settings.head_timeout,
        wire=settings.max_body_bytes * WIRE_BYTES_A_BYTE + WIRE_BYTES,
        body_time=settings.body_timeout,
        read_time=settings.read_timeout,
        connections=_connections(settings),
    )
    return uvicorn.Config(
        application,
        http=guarded(limits),
        ws="none",  # an upgrade is ignored, whatever is installed
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # the client's address is used for nothing
        lifespan="off",
        timeout_keep_alive=settings.keep_alive,
        timeout_graceful_shutdown=max(1, round(settings.shutdown_grace)),
    )


def _connections(settings: Settings) -> int:
    """How many connections of clients this process takes: as it is set, if files are left for all else.

    Raises the process's limit of open files, where it may.
    """
    wanted = settings.max_connections or MOST_CONNECTIONS
    own = OWN_FILES + settings.pool_size
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return wanted
    if soft < wanted + own:
        soft = wanted + own if hard == resource.RLIM_INFINITY else max(soft, min(hard, wanted + own))
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    # Where the limit is so low, half of it has to do.
    return min(wanted, max(soft - own, soft // 2))


class Listener:
    """A server's socket. The address is taken by ``bound``; connections are accepted after ``listen``."""

    def __init__(self, settings: Settings, bound: socket.socket) -> None:
        self._settings = settings
        self._socket = bound

    @property
    def url(self) -> str:
        host, port, *_ = self._socket.getsockname()
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    def listen(self) -> None:
        """From now on clients can connect; they wait until they are served. Raises OperatorError."""
        try:
            self._socket.listen(BACKLOG)
        except OSError as error:
            raise _cannot_listen(self._settings, error) from error

    async def serve(self, application: ASGIApp) -> None:
        """Serve until SIGTERM or SIGINT; what was accepted until then is finished, for ``shutdown_grace`` at most."""
        # What there is now stays: without this, each full collection looks through all of it, for some 50 ms.
        gc.collect()
        gc.freeze()
        gc.set_threshold(700, 10, 10)
        # A thread that reads a large document lets requests in between after this time, not after 5 ms each time.
        sys.setswitchinterval(0.0005)
        await _Server(configured(application, self._settings)).serve([self._socket])


@contextmanager
def bound(settings: Settings) -> Iterator[Listener]:
    """The address that the settings name, for this process alone: a port in use is known before anything is started.

    Raises OperatorError.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        taken = socket.socket(family, kind, protocol)
    except (OSError, UnicodeError) as error:
        raise _cannot_listen(settings, error) from error
    with taken:
        try:
            # A port is free again as soon as the server before has ended.
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            taken.bind(address)
        except OSError as error:
            raise _cannot_listen(settings, error) from error
        yield Listener(settings, taken)


def _cannot_listen(settings: Settings, error: Exception) -> OperatorError:
    reason = error.strerror if isinstance(error, OSError) else "expected the name of a host"
    return OperatorError(f"cannot listen on ISOLA_HOST {settings.host}, ISOLA_PORT {settings.port}: {reason}")


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        # uvicorn would raise the signal anew after it has ended, and so cut short what else there is to end.
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self.handle_exit, number, None)
        yield
