"""HTTP requests of residents, and their cost."""

import asyncio
import json
import random
import sys
from asyncio.subprocess import PIPE
from collections.abc import Mapping, Sequence
from dataclasses import asdict

from hdrh.histogram import HdrHistogram

from isola.errors import OperatorError
from isola.lab.laboratory import Laboratory
from isola.lab.operations import Operation
from isola.lab.peers import measure, operations
from isola.lab.peers.load import Job, Measured
from isola.lab.peers.operations import VARIANTS
from isola.lab.population import Resident
from isola.lab.serving import Served

REQUESTS = 2_000
"""About how many different requests are sent in turn."""
COMPARED = 5
LONGEST_US = 120_000_000
DIGITS = 3


def requests(served: Served, operation: Operation, residents: Sequence[Resident], seed: int) -> list[str]:
    """Requests of all residents, in proportion to their rows, in the same order for every subject."""
    chance = random.Random(f"{operation.name} {seed}")  # noqa: S311  the same in every run
    if len({resident.rows for resident in residents}) == 1:
        each = min(VARIANTS, max(1, REQUESTS // len(residents)))
        asked = [(resident, variant) for resident in residents for variant in range(each)]
        chance.shuffle(asked)
    else:
        weights = [resident.rows for resident in residents]
        drawn = chance.choices(residents, weights, k=REQUESTS)
        asked = [(resident, chance.randrange(VARIANTS)) for resident in drawn]
    tokens = {resident.number: served.token(resident) for resident, _ in asked}
    return [served.request(operation, resident, variant, tokens[resident.number]) for resident, variant in asked]


def answers(served: Served, some: Sequence[str]) -> object:
    """A server's answers to some requests, without details that may differ between subjects."""
    return [operations.comparable(answer) for answer in measure.answers(some[:COMPARED], served.server)]


class Answers:
    """Checks that all subjects return the same rows as the first."""

    def __init__(self) -> None:
        self._first: dict[object, tuple[str, object]] = {}

    def compare(self, about: object, subject: str, found: object) -> None:
        """Raises OperatorError when a subject's answer differs from the first subject's answer about the same."""
        first, expected = self._first.setdefault(about, (subject, found))
        if found != expected:
            raise OperatorError(f"{subject} does not answer what {first} does: {str(found)[:500]}")


async def load(served: Served, job: Job) -> Measured:
    """Send requests from a separate process. Raises OperatorError when an answer is wrong or missing."""
    generator = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "isola.lab.peers.load",
        stdin=PIPE,
        stdout=PIPE,
        stderr=PIPE,
    )
    try:
        async with asyncio.timeout(job.seconds + measure.PATIENCE_SECONDS):
            said, complaint = await generator.communicate(json.dumps(asdict(job)).encode())
    except TimeoutError:
        raise OperatorError(f"{served.server.peer.title} left a request without an answer") from None
    finally:
        if generator.returncode is None:
            generator.kill()
            await generator.wait()
    if generator.returncode != 0:
        raise OperatorError(
            f"{served.server.peer.title} gave an answer that is not right: {complaint.decode()[-1000:]}"
        )
    return Measured(**json.loads(said))


async def sampled(laboratory: Laboratory, served: Served, job: Job) -> Mapping[str, float]:
    """Send requests. Returns throughput, latencies, and CPU per request. Raises OperatorError as above."""
    server, postgresql = served.server.cpu(), laboratory.postgresql_cpu()
    measured = await load(served, job)
    server_used, postgresql_after = served.server.cpu() - server, laboratory.postgresql_cpu()
    answered = len(measured.latencies)
    values = {
        "throughput_per_s": answered / measured.seconds,
        **latencies(measured.latencies),
        "server_cpu_ms": server_used / answered * 1e3,
    }
    if postgresql is not None and postgresql_after is not None:
        values["postgresql_cpu_ms"] = (postgresql_after - postgresql) / answered * 1e3
    return values


def latencies(seconds: Sequence[float]) -> Mapping[str, float]:
    """The median and the high percentiles, from a histogram with three significant digits."""
    histogram = HdrHistogram(1, LONGEST_US, DIGITS)
    for each in seconds:
        histogram.record_value(min(LONGEST_US, max(1, round(each * 1e6))))
    return {f"p{part}_ms": histogram.get_value_at_percentile(part) / 1e3 for part in (50, 95, 99)}
