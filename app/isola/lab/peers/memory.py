"""Checks that a server's memory stays constant while clients send only new documents."""

from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.progress import track

from isola.lab.peers import measure
from isola.lab.peers.data import Place
from isola.lab.peers.load import Job
from isola.lab.peers.processes import Server

STEPS = 20
CONNECTIONS = 4
HOURS = 4 * 3600.0
FLAT = 1.05
"""How much the second half may add, as a factor."""


def watch(server: Server, places: Sequence[Place], minted: Mapping[str, str], documents: int, console: Console) -> None:
    """Send distinct valid documents, each with its own plan and statement; print the memory."""
    step = max(1, documents // STEPS)
    found = [(0, server.memory())]
    for start in track(range(0, documents, step), "sending documents", console=Console(stderr=True)):
        numbers = range(start, min(start + step, documents))
        requests = [_request(number, minted[places[number % len(places)].tenant], server.port) for number in numbers]
        measure.load(Job(server.port, CONNECTIONS, HOURS, requests, once=True), server)
        found.append((numbers.stop, server.memory()))
    for sent, resident in found:
        console.print(f"{sent:>9,} documents  {resident / 2**20:8.1f} MiB")
    # The first half fills every cache: each has at most a few thousand entries.
    growth = found[-1][1] / found[len(found) // 2][1]
    console.print(f"the second half changed it by {growth - 1:+.1%}: {'flat' if growth <= FLAT else 'NOT FLAT'}")


def _request(number: int, token: str, port: int) -> str:
    query = f"query Q{number} {{ resources(first: 2) {{ nodes {{ id a{number}: name owner {{ name }} }} }} }}"
    body = f'{{"query": "{query}"}}'
    return (
        f"POST /graphql HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\nauthorization: Bearer {token}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n{body}"
    )
