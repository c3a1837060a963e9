"""PgBouncer in transaction mode in front of the test's database, with fewer server connections than clients."""

import os
import pwd
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import quote

import pytest
from sqlalchemy import URL, make_url

from isola.testing.patience import PATIENCE

SERVER_CONNECTIONS = 2
CLIENT_CONNECTIONS = 100


@contextmanager
def running(url: str, server_connections: int = SERVER_CONNECTIONS) -> Iterator[str]:
    """Run PgBouncer in front of the database and login of ``url``, and yield its address.

    Skips the test if the program is missing; on CI it is required.
    """
    program = shutil.which("pgbouncer")
    if program is None:
        reason = "the program pgbouncer is missing: expected Debian's package of that name"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    server = make_url(url)
    with TemporaryDirectory(prefix="isola-pgbouncer-") as name:
        directory = Path(name)
        port = _free_port()
        user = _user(server)
        file = directory / "pgbouncer.ini"
        file.write_text(_configured(server, port, server_connections))
        file.chmod(0o600)  # it contains the password
        if user:
            for path in (directory, file):
                os.chown(path, user["user"], user["group"])
        log = directory / "pgbouncer.log"
        with log.open("wb") as said:
            process = subprocess.Popen([program, file], **user, cwd=directory, stdout=said, stderr=said)
        try:
            _wait(process, port, log)
            yield f"postgresql://{server.username}@127.0.0.1:{port}/{quote(str(server.database))}"
        finally:
            process.terminate()
            process.wait(10)


def _configured(server: URL, port: int, server_connections: int) -> str:
    address = {
        "host": server.query.get("host") or server.host or "127.0.0.1",
        "port": server.query.get("port") or server.port or 5432,
        "dbname": server.database,
        "user": server.username,
        "password": server.password,
    }
    parts = (
        f"{name}='{str(value).replace(chr(39), chr(39) * 2)}'" for name, value in address.items() if value is not None
    )
    return f"""
[databases]
{server.database} = {" ".join(parts)}

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = {server_connections}
max_client_conn = {CLIENT_CONNECTIONS}
"""


def _user(server: URL) -> dict[str, Any]:
    """The user that it runs as, as arguments of ``subprocess``: it refuses to run as root.

    It is the owner of PostgreSQL's socket, to which other users may have no access.
    """
    if os.geteuid() != 0:
        return {}
    directory = str(server.query.get("host") or "")
    account = pwd.getpwuid(Path(directory).stat().st_uid) if directory.startswith("/") else pwd.getpwnam("nobody")
    return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def _wait(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while process.poll() is None and time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    pytest.fail(f"PgBouncer did not start; it said:\n{log.read_text()}")
