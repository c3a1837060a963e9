"""PostgreSQL addresses mean the same as in libpq or are rejected by name; connection errors name their reason."""

import re
import socket
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event, Thread
from urllib.parse import quote

import pytest
from pydantic import SecretStr
from sqlalchemy import make_url

from isola.database import embedded
from isola.database.address import connecting, normalised
from isola.database.transactions import Database
from isola.errors import Unavailable
from isola.platform import logins
from isola.settings import Settings
from isola.testing.fixtures import DEFAULTS, FAST, Copy, memory

SECRET = "hidden"

REFUSED = {
    "no address": ("mysql://h/d", "expected postgresql://"),
    "no scheme": (SECRET, "expected postgresql://"),
    "a port that is none": (f"postgresql://u:{SECRET}@h:port/d", "expected postgresql://"),
    "a host that is none": (f"postgresql://u:{SECRET}@{'h' * 64}/d", "expected postgresql://"),
    "an unknown parameter": (f"postgresql://u:{SECRET}@h/d?pgbouncer=true", "pgbouncer is not supported"),
    "a setting of the server": ("postgresql://u@h/d?statement_timeout=1", "statement_timeout is not supported"),
    "a name that may be a secret": (f"postgresql://u@h/d?{SECRET}1=1", "one of its parameters is not supported"),
    "channel binding": ("postgresql://u@h/d?channel_binding=require", "channel_binding: not supported"),
    "a name of the session": ("postgresql://u@h/d?application_name=shop", "application_name: this program sets it"),
    "options": ("postgresql://u@h/d?options=-c%20role%3Dx", "options: omit it"),
    "a service": ("postgresql:///?service=shop", "service: omit it"),
    "a mode of TLS that is none": ("postgresql://u@h/d?sslmode=on", "sslmode: expected disable|allow|"),
    "another kind of server": ("postgresql://u@h/d?target_session_attrs=leader", "target_session_attrs: expected any|"),
    "a time that is none": ("postgresql://u@h/d?connect_timeout=10s", "connect_timeout: expected"),
    "the same twice": ("postgresql://u@h/d?sslmode=require&sslmode=disable", "sslmode occurs twice"),
    "two users": ("postgresql://u@h/d?user=v", "user occurs twice"),
    "two hosts": ("postgresql://u@h/d?host=g", "host occurs twice"),
    "two databases": ("postgresql://u@h/d?dbname=e", "dbname occurs twice"),
}


@pytest.mark.parametrize("refused", REFUSED)
def test_unsupported_parameters_are_refused_by_name(refused: str) -> None:
    address, said = REFUSED[refused]
    with pytest.raises(ValueError, match=f"^{re.escape(said)}") as caught:
        normalised(address)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("address", "form"),
    [
        ("postgres://u:p@h:5433/d", "postgres://u:p@h:5433/d"),
        ("postgresql://u:p%40%3F@h/d", "postgresql://u:p%40%3F@h/d"),
        ("postgresql://h/?user=u&password=p&dbname=d", "postgresql://u:p@h/d"),
        ("postgresql://u@one:1,two/d", "postgresql://u@/d?host=one%2Ctwo&port=1%2C5432"),
        (
            "postgresql://u@one,two:2/d?sslmode=require",
            "postgresql://u@/d?host=one%2Ctwo&port=5432%2C2&sslmode=require",
        ),
        ("postgresql://u@[::1]:1,[::2]/d", "postgresql://u@/d?host=%5B%3A%3A1%5D%2C%5B%3A%3A2%5D&port=1%2C5432"),
    ],
)
def test_an_address_has_one_form(address: str, form: str) -> None:
    assert make_url(normalised(address)) == make_url(form)
    assert normalised(normalised(address)) == normalised(address)


async def test_parameters_of_libpq_are_supported(copy: Copy) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"postgresql://u@127.0.0.1:{silent.getsockname()[1]}/d?connect_timeout=1"
        async with await Database.open(normalised(address), wait=60) as database:
            with pytest.raises(Unavailable, match="does not answer in time"):
                async with database.unbound():
                    pytest.fail("connected")
    more = "connect_timeout=10&keepalives=1&sslmode=prefer&target_session_attrs=primary&channel_binding=prefer"
    separator = "&" if "?" in copy.where.tenant else "?"
    async with (
        await Database.open(normalised(f"{copy.where.tenant}{separator}{more}")) as database,
        database.unbound() as work,
    ):
        assert await work.value("SELECT 1") == 1


def test_options_of_sockets_have_their_values() -> None:
    by = connecting("postgresql://u@h/d?keepalives_idle=7&keepalives_interval=8&keepalives_count=9&tcp_user_timeout=10")
    assert by.address == "postgresql://u@h/d"
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as end:
        for option in by.socket_options:
            end.setsockopt(*option)
        assert end.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        names = ("TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_KEEPCNT", "TCP_USER_TIMEOUT")
        assert [end.getsockopt(socket.IPPROTO_TCP, getattr(socket, name)) for name in names] == [7, 8, 9, 10]


@pytest.fixture(scope="module")
def listening() -> Iterator[int]:
    """The port of a PostgreSQL on TCP that asks for passwords, and has a database ``shop`` owned by ``ada``."""
    with socket.socket() as free, TemporaryDirectory(prefix="isola-test-", dir=memory()) as directory:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        free.close()
        cluster = Path(directory) / "postgresql"
        with embedded.running(Path(directory), FAST) as url:
            for sql in (
                "CREATE ROLE ada LOGIN PASSWORD 'hidden'; CREATE ROLE bob LOGIN PASSWORD 'hidden'",
                "CREATE ROLE carl LOGIN",
                "CREATE DATABASE shop OWNER ada",
                "REVOKE CONNECT ON DATABASE shop FROM PUBLIC",
                "ALTER SYSTEM SET listen_addresses = '127.0.0.1'",
                f"ALTER SYSTEM SET port = {port}",
            ):
                _psql(url, sql)
        rules = "local all all trust\nhost all carl all reject\nhost all all all scram-sha-256\n"
        (cluster / "pg_hba.conf").write_text(rules)
        with embedded.running(Path(directory), FAST):
            yield port


@contextmanager
def answering(directory: Path, answer: bytes) -> Iterator[int]:
    """The port of a server that answers the request for TLS, and speaks TLS if the answer is yes."""
    key, certificate = directory / f"{answer.decode()}.key", directory / f"{answer.decode()}.crt"
    openssl = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=elsewhere"]
    subprocess.run([*openssl, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)

    def answer_all() -> None:
        while not ended.is_set():
            end, _ = there.accept()
            with suppress(OSError), end:
                end.recv(8)
                end.sendall(answer)
                if answer == b"S":
                    with context.wrap_socket(end, server_side=True, do_handshake_on_connect=False) as talking:
                        talking.do_handshake()

    ended = Event()
    with socket.create_server(("127.0.0.1", 0)) as there:
        thread = Thread(target=answer_all)
        thread.start()
        yield there.getsockname()[1]
        ended.set()
        socket.create_connection(there.getsockname()).close()
        thread.join()


def _psql(url: str, sql: str) -> None:
    where = make_url(url)
    arguments = ["-h", str(where.query["host"]), "-p", str(where.query["port"]), "-U", "postgres", "-d", "postgres"]
    subprocess.run([embedded.tool("psql"), *arguments, "-qc", sql], check=True, capture_output=True)


CAUSES = {
    "ada:hidden@127.0.0.1:{port}/shop": None,
    "ada:hidden@127.0.0.1:1,127.0.0.1:{port}/shop": None,
    "ada:hidden@127.0.0.1:{port}/shop?target_session_attrs=read-write": None,
    "ada:wrong-hidden@127.0.0.1:{port}/shop": "refuses the password",
    "ada@127.0.0.1:{port}/shop?passfile=/nowhere": "refuses the password",
    "carl:hidden@127.0.0.1:{port}/shop": "refuses the login;",
    "ada:hidden@127.0.0.1:{port}/hidden": "no such database",
    "bob:hidden@127.0.0.1:{port}/shop": "may not connect to this database;",
    "ada:hidden@127.0.0.1:1/shop": "nothing listens",
    "ada:hidden@127.0.0.1:1,127.0.0.1:2/shop": "nothing listens",
    "ada:hidden@hidden.invalid/shop": "no host of that name",
    "ada:hidden@/shop?host=/hidden": "no such socket",
    "ada:hidden@127.0.0.1:{tls}/shop?sslmode=verify-ca&sslrootcert={another}": "certificate is not trusted",
    "ada:hidden@127.0.0.1:{port}/shop?sslmode=verify-full&sslrootcert=/hidden": "the address names is missing",
    "ada:hidden@127.0.0.1:{port}/shop?target_session_attrs=standby": "no host matches target_session_attrs",
    "ada:hidden@127.0.0.1:{plain}/shop?sslmode=require": "does not support TLS",
}


@pytest.mark.parametrize("address", CAUSES)
async def test_a_failed_connection_reports_the_cause_and_no_name(address: str, listening: int, tmp_path: Path) -> None:
    with answering(tmp_path, b"N") as plain, answering(tmp_path, b"S") as tls:
        names = {"port": listening, "plain": plain, "tls": tls, "another": tmp_path / "N.crt"}
        url = normalised(f"postgresql://{address.format(**names)}")
        async with await Database.open(url, wait=10) as database:
            if (said := CAUSES[address]) is None:
                async with database.unbound() as work:
                    assert await work.value("SELECT current_user") == "ada"
                return
            with pytest.raises(Unavailable, match=f"^the database cannot be reached: .*{said}") as caught:
                async with database.unbound():
                    pytest.fail("connected")
    assert SECRET not in caught.value.message


@pytest.mark.parametrize("source", ["PGPASSWORD", "PGPASSFILE", "a file that the address names"])
def test_logins_have_a_password_if_the_owner_has_one(
    source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoken = logins.addresses(settings("postgresql://owner:hidden@h/d"))
    file = tmp_path / "passwords"
    file.write_text("h:5432:d:owner:hidden\n")
    file.chmod(0o600)
    owner = "postgresql://owner@h/d"
    if source == "PGPASSWORD":
        monkeypatch.setenv("PGPASSWORD", SECRET)
    elif source == "PGPASSFILE":
        monkeypatch.setenv("PGPASSFILE", str(file))
    else:
        owner += f"?passfile={quote(str(file), safe='')}"
    where = logins.addresses(settings(owner))
    assert (where.tenant, where.control) == (spoken.tenant, spoken.control)
    assert make_url(where.tenant).password not in {None, SECRET}


def settings(owner: str) -> Settings:
    return DEFAULTS.model_copy(update={"database_url": SecretStr(normalised(owner))})
