"""A server that is asked to stop finishes the requests that it has accepted."""

import asyncio
import signal
import socket
import time
from urllib.parse import urlsplit

import asyncpg
import httpx
import pytest

from isola.database import embedded
from tests.cli.processes import Place
from tests.cli.writing import Writer, names_of

LOCK = "LOCK TABLE rls.resources IN ACCESS EXCLUSIVE MODE"


async def waiting(connection: asyncpg.Connection, wanted: int) -> None:
    """Return when this many statements wait for a lock."""
    while await connection.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted") < wanted:  # noqa: ASYNC110
        await asyncio.sleep(0.02)


def accepts(url: str) -> bool:
    """Whether a server accepts connections."""
    where = urlsplit(url)
    try:
        socket.create_connection((where.hostname, where.port)).close()
    except ConnectionRefusedError:
        return False
    return True


async def test_requests_in_progress_at_sigterm_are_answered(furnished: Place) -> None:
    token = furnished.token("acme")
    with furnished.server() as server:
        writer = Writer(server.url, token)
        owner = await asyncpg.connect(embedded.address(furnished.data_dir))
        async with owner.transaction():
            await owner.execute(LOCK)
            requests = [asyncio.create_task(writer.write(f"accepted {number}")) for number in range(3)]
            await waiting(owner, 3)
            server.process.send_signal(signal.SIGTERM)
            while accepts(server.url):  # noqa: ASYNC110  another process is waited for
                await asyncio.sleep(0.02)
            assert server.process.poll() is None
            with pytest.raises(httpx.ConnectError):
                await Writer(server.url, token).write("too late")
        await owner.close()

        answers = await asyncio.gather(*requests)
        assert await asyncio.to_thread(server.process.wait) == 0
        assert [answer.status_code for answer in answers] == [200, 200, 200]
        assert len(writer.acknowledged) == 3
    assert furnished.postgresql_is_gone()


async def test_changes_committed_before_sigterm_are_acknowledged_under_load(furnished: Place) -> None:
    token = furnished.token("globex")
    with furnished.server() as server:
        writer = Writer(server.url, token)
        load = [asyncio.create_task(writer.write_until_refused(f"w{number}-")) for number in range(8)]
        await writer.wrote(100)
        server.process.send_signal(signal.SIGTERM)
        await asyncio.gather(*load)
        assert await asyncio.to_thread(server.process.wait) == 0

    with furnished.server() as server:
        assert await names_of(server.url, token, "w") == writer.acknowledged.keys()


async def test_requests_that_do_not_end_within_the_grace_period_are_cut_off(furnished: Place) -> None:
    token = furnished.token("acme")
    with furnished.server(ISOLA_SHUTDOWN_GRACE="1", ISOLA_STATEMENT_TIMEOUT="3600") as server:
        owner = await asyncpg.connect(embedded.address(furnished.data_dir))
        await owner.execute(f"BEGIN; {LOCK}")
        request = asyncio.create_task(Writer(server.url, token).write("endless"))
        await waiting(owner, 1)

        server.process.send_signal(signal.SIGTERM)
        # Only the shutdown ends the request.
        assert await asyncio.to_thread(server.process.wait) == 0

        answer = await request
        assert (answer.status_code, answer.headers["content-type"]) == (503, "application/json")
        [error] = answer.json()["errors"]
        assert error["extensions"] == {"code": "UNAVAILABLE"}
        assert "Traceback" not in server.log
        owner.terminate()
    assert furnished.postgresql_is_gone()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_server_that_is_stopped_while_it_starts_leaves_nothing_behind(
    furnished: Place, number: signal.Signals
) -> None:
    process = furnished.begin("serve")
    started = furnished.data_dir / "postgresql" / "postmaster.pid"
    while not started.exists():
        assert process.poll() is None
        time.sleep(0.005)
    process.send_signal(number)
    _, said = process.communicate()

    assert process.returncode == 0, said
    assert "Traceback" not in said
    assert furnished.postgresql_is_gone()
