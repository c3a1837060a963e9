"""Settings that ignore the environment, and an identity provider on loopback."""

import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from isola.settings import Settings

MakeSettings = Callable[..., Settings]

SECRET = "0123456789abcdef0123456789abcdef"


@pytest.fixture
def make_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MakeSettings:
    for name in Settings.model_fields:
        monkeypatch.delenv(f"ISOLA_{name.upper()}", raising=False)
    monkeypatch.chdir(tmp_path)  # where there is no .env

    def make(**values: Any) -> Settings:
        # Times are exact, unless a test is about the leeway.
        return Settings(**{"data_dir": tmp_path / "data", "token_leeway": 0, **values})

    return make


class Provider(ThreadingHTTPServer):
    """Answers every request with what ``respond`` writes, and counts them."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.requests: list[str] = []
        self.respond: Callable[[BaseHTTPRequestHandler], None] = lambda handler: handler.send_error(404)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/keys"


class _Handler(BaseHTTPRequestHandler):
    server: Provider

    def do_GET(self) -> None:
        self.server.requests.append(self.path)
        self.server.respond(self)

    do_POST = do_GET  # noqa: N815  the name that the library calls

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def provider() -> Iterator[Provider]:
    with Provider() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()
