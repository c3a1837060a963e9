"""The PostgreSQL backend process of a connection, as the operating system reports it."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from isola.database.transactions import Transaction
from isola.lab.laboratory import Laboratory

PROCESSES = Path("/proc")


class Backend:
    """Its figures are available if PostgreSQL runs on this machine under Linux; otherwise they are None."""

    def __init__(self, process: int | None) -> None:
        self._process = None if process is None else PROCESSES / str(process)

    @classmethod
    async def behind(cls, transaction: Transaction, laboratory: Laboratory) -> "Backend":
        process: int = await transaction.value("SELECT pg_backend_pid()")
        return cls(None if laboratory.postgresql is None else process)

    def cpu_us(self) -> float | None:
        """Microseconds of CPU used, as the scheduler counts them."""
        if self._process is not None:
            with suppress(OSError):
                return int((self._process / "schedstat").read_text().split()[0]) / 1000
        return None

    def own_bytes(self) -> int | None:
        """Anonymous memory. Pages shared with other processes count proportionally; shared buffers do not count."""
        if self._process is not None:
            with suppress(OSError):
                return _rollup((self._process / "smaps_rollup").read_text()).get("Pss_Anon")
        return None

    def timed(self) -> Callable[[], float | None]:
        """Returns a function that returns the microseconds of CPU used since this call."""
        before = self.cpu_us()

        def ended() -> float | None:
            after = self.cpu_us()
            return None if before is None or after is None else after - before

        return ended


def _rollup(text: str) -> Mapping[str, int]:
    lines = [line.split() for line in text.splitlines()[1:]]
    return {line[0].removesuffix(":"): int(line[1]) * 1024 for line in lines if line[-1] == "kB"}
