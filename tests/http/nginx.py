"""nginx as a reverse proxy that sends all clients' requests over one connection."""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest


@contextmanager
def running(upstream: str) -> Iterator[str]:
    """Run nginx as a reverse proxy of ``upstream``, a host with a port, and yield its address.

    Skips the test where the program is missing, but on CI it must be there.
    """
    program = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None:
        reason = "the program nginx is missing: expected Debian's package nginx-light"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    with TemporaryDirectory(prefix="isola-nginx-") as name, socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        free.close()
        directory = Path(name)
        file, log = directory / "nginx.conf", directory / "log"
        file.write_text(_configured(directory, port, upstream))
        with log.open("wb") as said:
            process = subprocess.Popen([program, "-p", directory, "-c", file], stdout=said, stderr=said)
        try:
            _wait(process, port, log)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(10)


def _configured(directory: Path, port: int, upstream: str) -> str:
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    temporary = "\n".join(f"{kind}_temp_path {directory}/{kind};" for kind in kinds)
    return f"""
daemon off;
master_process off;
pid {directory}/pid;
error_log stderr warn;
events {{ worker_connections 256; }}
http {{
    access_log off;
    {temporary}
    upstream isola {{ server {upstream}; keepalive 1; }}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://isola;
            proxy_http_version 1.1;
            proxy_request_buffering off;  # the head of a request goes on before its body has come
            proxy_set_header Host localhost;
            # As many put it there who have read how websockets pass through.
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection $http_connection;
        }}
    }}
}}
"""


def _wait(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + 10
    while process.poll() is None and time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    pytest.fail(f"nginx did not start; it said:\n{log.read_text()}")
