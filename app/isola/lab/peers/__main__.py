"""Loads this server and its peers in turn, over the same data, and prints throughput and cost of each."""

import asyncio
import json
import secrets
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from isola.database import embedded
from isola.errors import IsolaError, OperatorError
from isola.lab.peers import data, measure, memory, operations, report, tokens
from isola.lab.peers.data import Places, Size
from isola.lab.peers.load import Job
from isola.lab.peers.measure import Sample
from isola.lab.peers.operations import OPERATIONS, Operation
from isola.lab.peers.processes import ISOLA, NODE, PEERS, POSTGRAPHILE, Cores, PostgreSQL, Server, serving

COMPARED = 3
"""Answers that are compared before anything is timed, for each operation."""
EQUAL_LOAD = 0.6
"""The part of PostGraphile's own rate at which latencies are compared."""

err = Console(stderr=True)


def main(
    *,
    quick: Annotated[bool, typer.Option("--quick", help="use a tenth of the data and short rounds")] = False,
    tenants: Annotated[int, typer.Option(min=2, help="number of tenants under each strategy")] = 200,
    rounds: Annotated[int, typer.Option(min=1)] = 7,
    seconds: Annotated[float, typer.Option(min=0.1, help="seconds of load for each peer, operation and round")] = 2.0,
    warming: Annotated[float, typer.Option(min=0.1, help="seconds of load before the first round")] = 5.0,
    connections: Annotated[int, typer.Option(min=1)] = 8,
    pin: Annotated[bool, typer.Option(help="reserve a core for the server under test")] = True,
    peer: Annotated[
        list[str] | None, typer.Option(help="peers to measure: " + ", ".join(p.name for p in PEERS))
    ] = None,
    operation: Annotated[
        list[str] | None, typer.Option(help="operations to measure: " + ", ".join(o.name for o in OPERATIONS))
    ] = None,
    directory: Annotated[Path, typer.Option(help="directory in which the data is kept between runs")] = Path(
        ".isola/bench-peers"
    ),
    output: Annotated[Path | None, typer.Option("--json", help="JSON file for all figures")] = None,
    documents: Annotated[int, typer.Option(help="measure only the server's memory, over this number of documents")] = 0,
) -> None:
    """Measure this server beside its peers, interleaved, over loopback, tenants rotating, tokens verified."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    if quick:
        tenants, rounds, seconds = 20, 3, 0.5
    chosen = [each for each in PEERS if not peer or each.name in peer]
    size, directory = Size(tenants), directory / str(tenants)
    cores = Cores.split(pinned=pin)
    cores.keep()
    if POSTGRAPHILE in chosen and not documents:
        _install()
    with ExitStack() as held:
        address, places = held.enter_context(_database(directory, size))
        secret = secrets.token_hex(32)
        minted = {
            place.tenant: tokens.mint(secret, place.tenant, place.user) for some in places.values() for place in some
        }
        if documents:
            server = held.enter_context(serving(ISOLA, address, directory, secret, cores))
            memory.watch(server, places[ISOLA.places], minted, documents, Console())
            return
        servers = [held.enter_context(serving(each, address, directory, secret, cores)) for each in chosen]
        asked = [each for each in OPERATIONS if not operation or each.name in operation]
        bench = Bench(servers, address, PostgreSQL(directory), places, minted, connections, asked)
        bench.compare()
        bench.run(rounds, seconds, warming)
        settings = {
            "tenants": tenants,
            "resources_per_tenant": size.resources,
            "connections": connections,
            "rounds": rounds,
            "seconds": seconds,
            "warming_seconds": warming,
            "postgresql": data.POSTGRESQL,
            "cores": {"server": sorted(cores.server), "postgresql, generator, this": sorted(cores.others)},
            "equal_load": f"{EQUAL_LOAD:.0%} of the requests/s that PostGraphile reached in the same round",
        }
        report.show(Console(width=None if sys.stdout.isatty() else 160), bench.closed_loop, bench.equal_load)
        print(f"the server ran on core {_named(cores.server)}; PostgreSQL and the generator on {_named(cores.others)}")
        if output:
            output.write_text(json.dumps(report.as_json(bench.closed_loop, bench.equal_load, settings), indent=1))


class Bench:
    """The servers and their measurements."""

    def __init__(
        self,
        servers: Sequence[Server],
        address: str,
        postgresql: PostgreSQL,
        places: Places,
        minted: Mapping[str, str],
        connections: int,
        asked: Sequence[Operation] = OPERATIONS,
    ) -> None:
        self.asked = asked
        self.servers = servers
        self.address = address
        self.postgresql = postgresql
        self.connections = connections
        self.requests = {
            (operation.name, server.peer.name): operations.requests(
                operation, server.peer.dialect, places[server.peer.places], minted, server.port
            )
            for operation in asked
            for server in servers
        }
        self.closed_loop = self._empty()
        self.equal_load = self._empty()

    def compare(self) -> None:
        """Send the same requests to all servers. Raises OperatorError if answers differ."""
        for operation in self.asked:
            first: object = None
            for server in self.servers:
                requests = self.requests[operation.name, server.peer.name][:COMPARED]
                answers = [operations.comparable(each) for each in measure.answers(requests, server)]
                found = [operations.without_made(each) for each in answers] if operation.writes else answers
                if first is None:
                    first = found
                elif first != found:
                    raise OperatorError(
                        f"{operation.name}: {server.peer.title} answers {found}\n\n"
                        f"{self.servers[0].peer.title} answers {first}"
                    )

    def run(self, rounds: int, seconds: float, warming: float) -> None:
        """Run every operation on every server in every round, in changing order."""
        with _progress() as bar:
            paced = [server for server in self.servers if server.peer in (ISOLA, POSTGRAPHILE)]
            task = bar.add_task("", total=len(self.asked) * (rounds + 1) * len(self.servers))
            for number in range(-1, rounds):
                for operation in self.asked:
                    for turn in range(len(self.servers)):
                        server = self.servers[(turn + number) % len(self.servers)]
                        bar.update(task, description=f"{operation.name}: {server.peer.title}", advance=1)
                        if number < 0:
                            self._sample(operation, server, warming)
                        else:
                            sample = self._sample(operation, server, seconds)
                            self.closed_loop[operation.name][server.peer.name].append(sample)
                    if number >= 0 and len(paced) > 1:
                        rate = EQUAL_LOAD * self.closed_loop[operation.name][POSTGRAPHILE.name][-1].rate
                        for server in paced:
                            sample = self._sample(operation, server, seconds, rate)
                            self.equal_load[operation.name][server.peer.name].append(sample)

    def _sample(self, operation: Operation, server: Server, seconds: float, rate: float | None = None) -> Sample:
        requests = self.requests[operation.name, server.peer.name]
        job = Job(server.port, self.connections, seconds, requests, rate)
        sample = measure.sample(server, self.postgresql, job)
        if operation.writes:
            asyncio.run(data.clean(self.address))
        return sample

    def _empty(self) -> dict[str, dict[str, list[Sample]]]:
        return {each.name: {server.peer.name: [] for server in self.servers} for each in self.asked}


@contextmanager
def _database(directory: Path, size: Size) -> Iterator[tuple[str, Places]]:
    with err.status("starting PostgreSQL") as status:
        if data.discard_other(directory, size):
            err.print("threw away data of another make")
        with embedded.running(directory, data.POSTGRESQL) as address:
            places = asyncio.run(data.fill(address, directory, size, status.update))
            status.stop()
            yield address, places


def _install() -> None:
    """Install PostGraphile and Node below this folder, at the versions in package-lock.json."""
    if NODE.exists():
        return
    npm = shutil.which("npm")
    if npm is None:
        raise OperatorError("npm installs PostGraphile: expected it on the PATH, or --peer for others only")
    with err.status("installing PostGraphile and Node"):
        done = subprocess.run([npm, "ci", "--loglevel=error"], check=False, cwd=operations.HERE)
    if done.returncode != 0 or not NODE.exists():
        raise OperatorError("npm could not install PostGraphile")


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}", justify="left"),
        BarColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=err,
    )


def _named(cores: frozenset[int]) -> str:
    return ", ".join(map(str, sorted(cores)))


if __name__ == "__main__":
    try:
        typer.run(main)
    except IsolaError as error:
        err.print(error.message, style="red", markup=False, highlight=False, soft_wrap=True)
        sys.exit(1)
    except KeyboardInterrupt:
        err.print("interrupted")
        sys.exit(130)
