"""kill -9 in the middle of writing."""

import asyncio
import signal

import pytest

from tests.cli.processes import Place
from tests.cli.writing import Writer, names_of

WRITERS = 6


@pytest.mark.parametrize("tenant", ["acme", "globex"], ids=["rls", "schema"])
async def test_acknowledged_changes_survive_a_kill_and_no_other_is_half_done(furnished: Place, tenant: str) -> None:
    token = furnished.token(tenant)
    with furnished.server() as server:
        writer = Writer(server.url, token)
        load = [asyncio.create_task(writer.write_until_refused(f"w{number}-")) for number in range(WRITERS)]
        await writer.wrote(100)
        server.process.send_signal(signal.SIGKILL)
        await asyncio.gather(*load)

    with furnished.server() as server:
        there = await names_of(server.url, token, "w")

        assert there >= writer.acknowledged.keys()
        assert there <= writer.sent
        # Each writer had one request in flight, committed or not.
        assert len(there - writer.acknowledged.keys()) <= WRITERS
        await Writer(server.url, token).write("afterwards")
        assert server.stop() == 0
