"""The results file of one run: JSON Lines, first the run, then each measurement as soon as it is finished."""

import json
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from isola.errors import OperatorError
from isola.lab.scenario import Point

Identity = tuple[str, str, Point, int]
"""Scenario, subject, point, round."""
# Properties that must be equal for measurements to share one file.
SAME = (("profile",), ("application",), ("seed",),
        ("versions", "isola"), ("versions", "commit"), ("versions", "postgresql"),
        ("machine", "cpu"), ("machine", "cores"), ("settings",))  # fmt: skip


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


class Record:
    """The measurements of a run so far. Each is written to disk before the next begins."""

    def __init__(self, path: Path, run: Mapping[str, Any]) -> None:
        """Create the file, or resume one that a run of the same code on the same machine has begun.

        Drops an incomplete last line. Raises OperatorError for a file with other content.
        """
        self.path = path
        self.finished: set[Identity] = set()
        path.parent.mkdir(parents=True, exist_ok=True)
        whole = self._read(run) if path.exists() else 0
        self._file = path.open("ab")
        self._file.truncate(whole)
        if whole == 0:
            self._append({"run": run})

    def add(self, identity: Identity, seconds: float, busy_elsewhere: float, values: Mapping[str, float]) -> None:
        """Append a measurement. ``seconds`` is its duration."""
        self._measured(
            identity, seconds, busy_elsewhere, {"values": {name: _rounded(value) for name, value in values.items()}}
        )
        self.finished.add(identity)

    def fail(self, identity: Identity, seconds: float, busy_elsewhere: float, reason: str) -> None:
        """Append a failure with its reason. A rerun tries again."""
        self._measured(identity, seconds, busy_elsewhere, {"failed": reason})

    def close(self) -> None:
        self._file.close()

    def _measured(self, identity: Identity, seconds: float, busy_elsewhere: float, rest: Mapping[str, Any]) -> None:
        scenario, subject, point, number = identity
        self._append(
            {
                "scenario": scenario,
                "subject": subject,
                "point": dict(point.dimensions),
                "round": number,
                "at": now(),
                "seconds": round(seconds, 3),
                **rest,
                "busy_elsewhere": busy_elsewhere,
            }
        )

    def _append(self, entry: Mapping[str, Any]) -> None:
        self._file.write(json.dumps(entry, allow_nan=False).encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())

    def _read(self, run: Mapping[str, Any]) -> int:
        """Load the finished measurements. Returns the size of all complete lines in bytes."""
        content = self.path.read_bytes()
        whole = content.rfind(b"\n") + 1
        try:
            lines = [json.loads(line) for line in content[:whole].splitlines()]
            before = lines[0]["run"] if lines else run
            for line in lines[1:]:
                if "values" in line:
                    point = Point(tuple(line["point"].items()))
                    self.finished.add((line["scenario"], line["subject"], point, line["round"]))
        except (ValueError, KeyError, TypeError, AttributeError):
            raise OperatorError(f"{self.path}: expected a file of results, or none that is there") from None
        for keys in SAME:
            was, is_now = _at(before, keys), _at(run, keys)
            if was != is_now:
                raise OperatorError(
                    f"{self.path} holds measurements with another {' '.join(keys)} ({was}, not {is_now}): "
                    "expected --output to name another file"
                )
        return whole


def _rounded(value: float) -> float:
    """The value rounded to significant digits."""
    return float(f"{value:.6g}")


def _at(run: Mapping[str, Any], keys: tuple[str, ...]) -> Any:
    found: Any = run
    for key in keys:
        found = found.get(key) if isinstance(found, Mapping) else None
    return found
