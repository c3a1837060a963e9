"""``isola platform rotate-key``, beside running servers."""

import asyncio
import json

from tests.cli.processes import Place
from tests.cli.writing import Writer, names_of


async def test_running_servers_go_on_with_the_new_key_and_no_request_fails(furnished: Place) -> None:
    token = furnished.token("acme")
    with furnished.server("demo") as server:
        writer = Writer(server.url, token)
        ended = asyncio.Event()

        async def write(number: int) -> None:
            turn = 0
            while not ended.is_set():
                answer = await writer.write(f"r{number}-{turn}")
                assert (answer.status_code, "errors" in answer.json()) == (200, False), answer.text
                turn += 1

        load = [asyncio.create_task(write(number)) for number in range(4)]
        for written in (20, 60):
            await writer.wrote(written)
            said = await asyncio.to_thread(furnished.run, "platform", "rotate-key")
            assert said == "the binding key is replaced\n"
        await writer.wrote(100)
        ended.set()
        await asyncio.gather(*load)
        assert await names_of(server.url, token, "r") == writer.acknowledged.keys()
        assert "Traceback" not in server.log
        log = furnished.run("platform", "log", "--action", "binding_key:rotate").splitlines()
        assert [json.loads(entry)["object"] for entry in log] == ["platform:binding_key"] * 2
