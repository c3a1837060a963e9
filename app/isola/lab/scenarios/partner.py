"""A partner's reads of shared resources: the same number of resources, from few owners or from many."""

from collections.abc import Mapping

from sqlalchemy import select

from isola.errors import OperatorError
from isola.lab.asking import load, sampled
from isola.lab.laboratory import Laboratory
from isola.lab.operations import Contracted
from isola.lab.peers import measure
from isola.lab.peers.load import Job
from isola.lab.peers.operations import Operation
from isola.lab.population import Population, Resident, Size
from isola.lab.scenario import Point
from isola.lab.workload import Workload
from isola.subjects.resources import resources

SHARED = 100
"""Resources that a partner is granted, over all owners."""
PAGE = 50
WARMING_SECONDS = 1.5
OPERATION = Contracted(Operation("SharedWithMe", "what others shared", lambda *_: {"first": PAGE}, lambda *_: {}))


class Partner(Workload):
    name = "partner"
    baselines = ()
    question = "How fast does a partner read what others shared with it?"
    notes = (
        (
            "Each shared resource is read by a function of its own call, which enters the owner's home for that one "
            "row and nothing else. So the cost is per resource, by our design, and that of a batch would be lower."
        ),
    )

    def __init__(self) -> None:
        self._granted: set[tuple[Size, int]] = set()
        self._warm: set[tuple[int, Point]] = set()

    async def measure(self, laboratory: Laboratory, point: Point, subject: str, round: int) -> Mapping[str, float]:  # noqa: ARG002  as every other
        size = self.size(point, subject)
        population = await laboratory.populated(size)
        owners = point.number("owners")
        # A partner for each number of owners, from the end of the list, so that it is not one of the owners.
        partner = population.residents[-len(str(owners))]
        if (size, owners) not in self._granted:
            await _grant(population, partner, owners)
            self._granted.add((size, owners))
        connections = point.number("connections")
        served = await laboratory.server(population, subject, connections=connections)
        port = served.server.port
        request = served.request(OPERATION, partner, 0)
        with laboratory.pinned():
            if (port, point) not in self._warm:
                [answer] = measure.answers([request], served.server)
                found = {node["owner"]["slug"] for node in answer["data"]["sharedWithMe"]["nodes"]}
                if len(found) != min(owners, PAGE):
                    raise OperatorError(f"a page of {PAGE} is of {len(found)} owners: expected {min(owners, PAGE)}")
                await load(served, Job(port, connections, WARMING_SECONDS, [request]))
                self._warm.add((port, point))
            return await sampled(laboratory, served, Job(port, connections, self._seconds, [request]))


async def _grant(population: Population, partner: Resident, owners: int) -> None:
    """Share resources with a tenant, taken from the owners in turn."""
    each = SHARED // owners
    granted = []
    async with await population.place.tenants() as tenants:
        for owner in population.residents[:owners]:
            async with tenants.transaction(owner.tenant) as work:
                found = await work.rows(select(resources.c.id).order_by(resources.c.id).limit(each))
            granted += [(number, owner.tenant.id, row["id"], owner.user) for number, row in enumerate(found)]
    granted.sort(key=lambda share: share[0])
    if len(granted) != SHARED:
        raise OperatorError(f"{owners} owners have {len(granted)} resources to share: expected {SHARED}")
    async with await population.place.owner() as owner_login, owner_login.unbound() as work:
        await work.value(
            "INSERT INTO control.shares (owner_id, subject, row_id, grantee_slug, grantee_id, granted_by)"
            " SELECT owner, 'resource', resource, slug, id, granter FROM control.tenants,"
            " unnest($1::uuid[], $2::uuid[], $3::uuid[]) AS shared (owner, resource, granter) WHERE id = $4",
            [share[1] for share in granted],
            [share[2] for share in granted],
            [share[3] for share in granted],
            partner.tenant.id,
        )
        await work.value(
            "INSERT INTO control.share_answers (grantee_id, owner_id, owner_slug, share_id, accepted, answered_by)"
            " SELECT DISTINCT ON (s.owner_id) s.grantee_id, s.owner_id, o.slug, s.id, true, s.granted_by"
            " FROM control.shares s JOIN control.tenants o ON o.id = s.owner_id WHERE s.grantee_id = $1",
            partner.tenant.id,
        )
    async with await population.place.owner() as owner_login, owner_login.unbound() as work:
        await work.script("ANALYZE control.shares, control.share_answers")
