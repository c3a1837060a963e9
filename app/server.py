"""The HTTP server: its socket, and what signals do to it."""

import asyncio
import gc
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from starlette.types import ASGIApp

from app.errors import OperatorError
from app.settings import Settings

BACKLOG = 2048


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
        config = uvicorn.Config(
            application,
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,  # the client's address is used for nothing
            lifespan="off",
            timeout_graceful_shutdown=max(1, round(self._settings.shutdown_grace)),
        )
        # What there is now stays: without this, each full collection looks through all of it, for some 50 ms.
        gc.collect()
        gc.freeze()
        await _Server(config).serve([self._socket])


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
