"""The connection to the database is cut at every message of a change, in both directions, one after the other.

The answer to the client is true, the change is atomic, and the server keeps running.
"""

from dataclasses import replace

from isola.database.transactions import Database
from isola.settings import Settings
from isola.testing.fixtures import Copy
from isola.testing.served import serving
from isola_strategies.base import Strategy
from tests.faults import proxy
from tests.faults.deletion import PERHAPS, prepared
from tests.faults.proxy import Message


class Cut:
    """Ends the connection at the ``at``-th message from now on, counted from 1."""

    def __init__(self, at: int) -> None:
        self._left = at

    @property
    def reached(self) -> bool:
        return self._left <= 0

    async def __call__(self, _: Message) -> bool:
        self._left -= 1
        return self._left == 0


async def test_at_every_message_tells_the_truth(
    copy: Copy, owner: Database, settings: Settings, strategy: Strategy
) -> None:
    counts = {"done": 0, "refused": 0, "perhaps": 0}
    async with proxy.before(copy.where.tenant) as between:
        # A pool of one connection, so that the cut always hits it.
        few = settings.model_copy(update={"pool_size": 2})
        async with serving(replace(copy, where=replace(copy.where, tenant=between.address)), few) as api:
            client = api.client(f"{strategy.name}-a")
            await (await prepared(client)).ask()
            at, reached = 1, True
            while reached:
                deletion = await prepared(client)
                cut = between.stop = Cut(at)
                answer = await deletion.ask()
                reached = cut.reached
                between.stop = proxy._never
                done = await deletion.is_done(copy, owner)
                if "errors" not in answer.body:
                    assert done
                    counts["done"] += 1
                else:
                    assert answer.code == "UNAVAILABLE"
                    perhaps = PERHAPS in answer.error["message"]
                    assert perhaps or not done
                    counts["perhaps" if perhaps else "refused"] += 1
                at += 1
            assert (await client.ask("{ resources { totalCount } }")).status == 200
    assert at > 20
    assert min(counts.values()) >= 1
