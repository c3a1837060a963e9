"""What reads cost PostgreSQL, on one connection, as the server reads them."""

from collections.abc import Sequence

from isola.database.transactions import Database
from isola.errors import OperatorError
from isola.lab.backend import Backend
from isola.lab.population import Resident
from isola.lab.statements import Written


async def microseconds(
    database: Database, reads: Sequence[tuple[Resident, Written]], backend: Backend, *, warming: int, repeated: int
) -> float:
    """PostgreSQL's CPU of one of these reads: ``repeated`` times all of them, after as many for ``warming``.

    Raises OperatorError if the operating system does not say it.
    """
    for times in (warming, repeated):
        used = backend.timed()
        for _ in range(times):
            for resident, written in reads:
                async with database.transaction(resident.tenant, read_only=True, about=written.about) as work:
                    await work.value(written.sql, *written.arguments)
        spent = used()
    if spent is None:
        raise OperatorError("the CPU of PostgreSQL is not known: expected Linux")
    return spent / repeated / len(reads)
