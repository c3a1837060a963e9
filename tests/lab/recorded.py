"""Generated results files with noise, in the form of a run of the lab."""

import json
import math
import random
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

ROUNDS = 5
NOISE = 0.03
TENANTS = (10, 100, 1000)

RUN: Mapping[str, Any] = {
    "id": "made-up",
    "started": "2026-11-21T04:10:00Z",
    "profile": "quick",
    "versions": {"isola": "0.1.0", "postgresql": "18.4"},
    "machine": {"cpu": "made up", "cores": 2, "memory_bytes": 16_000_000_000},
    "settings": {"shared_buffers": "512MB"},
    "seed": 1,
    "left_out": {"postgraphile": "<npm> is not installed"},
}


def record(
    path: Path,
    *,
    seed: int = 1,
    slower: Mapping[str, float] | None = None,
    run: Mapping[str, Any] | None = None,
    noise: float = NOISE,
) -> Path:
    """Write a run of three scenarios. ``slower`` says how many times as long reads of a subject take.

    Reads are faster under ``schema`` with 10 tenants, and under ``rls`` with 1,000. A connection's memory grows with
    tenants under ``schema`` alone. ``schema`` could not make tenants where there were 1,000.
    """
    chance = random.Random(seed)  # noqa: S311  noise is no secret
    lines = [{"run": {**RUN, **(run or {})}}, *_measured(chance, slower or {}, noise)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


def _measured(chance: random.Random, slower: Mapping[str, float], noise: float) -> Iterator[Mapping[str, Any]]:
    def noisy(value: float) -> float:
        return value * math.exp(chance.gauss(0, noise))

    for number in range(ROUNDS):
        for operation, cost in (("Resource", 1.0), ("Resources", 2.0)):
            for tenants in TENANTS:
                point = {"operation": operation, "tenants": tenants, "rows": 50, "connections": 8}
                for subject, base in (("rls", 2000.0), ("schema", 2400 * (tenants / 10) ** -0.1), ("none", 3000.0)):
                    speed = base / cost / slower.get(subject, 1.0)
                    values = {"throughput_per_s": noisy(speed), "p99_ms": noisy(16_000 / speed)}
                    yield line("read", subject, point, number, values=values)
        for tenants in TENANTS:
            for subject, base in (("rls", 8e6), ("schema", 8e6 + tenants * 40e3)):
                values = {"backend_bytes": noisy(base), "relations_count": 500.0}
                yield line("memory", subject, {"tenants": tenants}, number, values=values)
        for subject, base in (("rls", 4.0), ("schema", 40.0), ("django-tenants", 400.0)):
            yield line("making", subject, {"what": "one more", "tenants": 100}, number, values={"make_ms": noisy(base)})
        yield line("making", "schema", {"what": "one more", "tenants": 1000}, number, failed="no <disk> for it")


def line(scenario: str, subject: str, point: Mapping[str, Any], number: int, **rest: Any) -> Mapping[str, Any]:
    """A line of a measurement, with ``values`` or with the reason why it ``failed``."""
    said = {"scenario": scenario, "subject": subject, "point": point, "round": number, "at": "2026-11-21T04:11:00Z"}
    return {**said, "seconds": 1.0, **rest, "busy_elsewhere": 0.02}
