"""Partners' reads of shared resources: from few owners or from many, by one partner or by a thousand."""

from collections.abc import Mapping, Sequence
from itertools import product

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
from isola.platform import partnerships
from isola.subjects.resources import resources

SHARED = 100
"""Resources that a partner is granted, over all owners: one of each if there are more owners."""
PAGE = 50
WARMING_SECONDS = 1.5
PATIENCE_SECONDS = 120.0
OPERATION = Contracted(Operation("SharedWithMe", "what others shared", lambda *_: {"first": PAGE}, lambda *_: {}))


class Partner(Workload):
    """``partners`` tenants read, in turn, a page of 50 of what ``owners`` others shared with each of them.

    Each partner is granted 100 resources, or one of each owner if there are more owners.
    """

    name = "partner"
    baselines = ()
    question = "How fast do partners read what others shared with them?"
    notes = (
        (
            "Each shared resource is read by a function of its own call, which enters the owner's home for that one "
            "row and nothing else. So the cost is per resource, by our design, and that of a batch would be lower."
        ),
    )

    def __init__(self) -> None:
        self._granted: dict[Size, tuple[int, int]] = {}
        self._warm: set[tuple[int, Point]] = set()

    async def measure(self, laboratory: Laboratory, point: Point, subject: str, round: int) -> Mapping[str, float]:  # noqa: ARG002  as every other
        size = self.size(point, subject)
        population = await laboratory.populated(size)
        owners, count = point.number("owners"), point.number("partners")
        if owners + count > len(population.residents):
            raise OperatorError(f"{owners} owners and {count} partners: expected no more than there are tenants")
        # From the end of the list, so that no partner is one of the owners.
        partners = population.residents[-count:]
        if self._granted.get(size) != (owners, count):
            await _grant(population, partners, owners)
            self._granted[size] = (owners, count)
        connections = point.number("connections")
        served = await laboratory.server(population, subject, connections=connections)
        port = served.server.port
        requests = [served.request(OPERATION, partner, 0) for partner in partners]
        with laboratory.pinned():
            if (port, point) not in self._warm:
                [answer] = measure.answers(requests[:1], served.server)
                found = {node["owner"]["slug"] for node in answer["data"]["sharedWithMe"]["nodes"]}
                if len(found) != min(owners, PAGE):
                    raise OperatorError(f"a page of {PAGE} is of {len(found)} owners: expected {min(owners, PAGE)}")
                await load(served, Job(port, connections, PATIENCE_SECONDS, requests, once=True))
                await load(served, Job(port, connections, WARMING_SECONDS, requests))
                self._warm.add((port, point))
            return await sampled(laboratory, served, Job(port, connections, self._seconds, requests))


async def _grant(population: Population, partners: Sequence[Resident], owners: int) -> None:
    """Share resources with tenants, taken from the owners in turn, and nothing else."""
    each = max(1, SHARED // owners)
    granted = []
    async with await population.place.tenants() as tenants:
        for owner in population.residents[:owners]:
            async with tenants.transaction(owner.tenant) as work:
                found = await work.rows(select(resources.c.id).order_by(resources.c.id).limit(each))
            granted += [(number, owner.tenant.id, row["id"], owner.user) for number, row in enumerate(found)]
    granted.sort(key=lambda share: share[0])
    if len(granted) != max(SHARED, owners):
        raise OperatorError(f"{owners} owners have {len(granted)} resources to share: expected {max(SHARED, owners)}")
    async with await population.place.owner() as owner_login, owner_login.unbound() as work:
        await work.script("DELETE FROM control.shares; DELETE FROM control.partners")
        grantees = [partner.tenant.id for partner in partners]
        owning = [owner.tenant.id for owner in population.residents[:owners]]
        await partnerships.establish(work, product(owning, grantees))
        await work.value(
            "INSERT INTO control.shares"
            " (owner_id, subject, row_id, grantee_slug, grantee_id, partnership_id, granted_by, fields)"
            " SELECT owner, 'resource', resource, p.partner_slug, p.partner_id, p.id, granter, $5"
            " FROM control.partners p"
            " JOIN unnest($1::uuid[], $2::uuid[], $3::uuid[]) AS shared (owner, resource, granter)"
            " ON owner = p.tenant_id WHERE p.partner_id = ANY($4)",
            [share[1] for share in granted],
            [share[2] for share in granted],
            [share[3] for share in granted],
            grantees,
            resources.info["shared_columns"],
        )
        for each_owner in owning:
            await work.value("SELECT isola.copy_all($1, 'resource')", each_owner)
    async with await population.place.owner() as owner_login, owner_login.unbound() as work:
        await work.script("ANALYZE control.shares, control.partners, received.resources")
