"""The time to reject documents that exceed the limits: under 50 ms each, without the database.

``python -m benchmarks.refusing`` from the checkout.
"""

import asyncio
import gc
import statistics
import time
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Never
from uuid import UUID

from rich.console import Console
from rich.table import Table

from isola.api.execute import Executor
from isola.api.schema import model
from isola.identity.authentication import Principal
from isola.platform.tenants import Status, Tenant
from isola.query.effort import Effort
from isola.subjects.permissions import Role, of_role
from tests.api.evil import EVIL

BAR_MS = 50
ROUNDS = 11
NOBODY = UUID(int=0)


@dataclass(frozen=True)
class Refused:
    """A caller whose requests must not start a transaction."""

    principal: Principal

    def transaction(self, *, read_only: bool = False, claim: object = None) -> AbstractAsyncContextManager[Never]:  # noqa: ARG002  the interface
        raise AssertionError(f"a transaction was begun (read only: {read_only})")


async def main() -> None:
    """Print a table of the medians; exit with 1 when one is over the bar."""
    # The burst is large enough that no request waits.
    executor = Executor(model, secret=b"of no use here, but of the right length", effort=Effort(rate=1, burst=1000))
    tenant = Tenant(NOBODY, "nobody", "Nobody", Status.ACTIVE, "rls", {}, datetime.now(UTC))
    caller = Refused(Principal(tenant, NOBODY, (Role.ADMIN,), of_role(Role.ADMIN)))
    gc.collect()
    gc.freeze()
    table = Table("document", "bytes", "median ms", "worst ms", box=None)
    slow = []
    for name, document in EVIL.items():
        took = []
        for _ in range(ROUNDS):
            start = time.perf_counter()
            answer = await executor.execute(document, None, None, None, caller)
            took.append((time.perf_counter() - start) * 1000)
            assert b"BAD_USER_INPUT" in answer.body, answer.body
        median = statistics.median(took)
        table.add_row(name, str(len(document)), f"{median:.1f}", f"{max(took):.1f}")
        if median > BAR_MS:
            slow.append(name)
    Console().print(table)
    print(f"{len(EVIL) - len(slow)} of {len(EVIL)} are refused in under {BAR_MS} ms")
    raise SystemExit(bool(slow))


if __name__ == "__main__":
    asyncio.run(main())
