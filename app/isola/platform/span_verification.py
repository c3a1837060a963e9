"""Verifies the signatures of all tenants' spans, again and again, so that a change by anybody is noticed.

Every server does so, one page of one tenant after another: no transaction is long, and whoever else works waits for
none of them.
"""

from contextlib import AbstractAsyncContextManager
from functools import partial

from isola.database.transactions import Database
from isola.errors import Refusal
from isola.platform import provisioning
from isola.platform.background import repeating
from isola.platform.tenants import Status, Tenant
from isola.subjects.spans import ALL_SPANS
from isola.subjects.spans.verification import Findings, Place, keys_of, verify_page

INTERVAL = 3600.0
"""Seconds between two passes."""


async def verify(tenants: Database, tenant: Tenant) -> Findings:
    """Verify all signed spans of a tenant, each page in a transaction of its own. Raises Unavailable."""
    found = Findings()
    async with tenants.transaction(tenant) as work:
        keys = await keys_of(work)
    for key in keys:
        after: Place | None = None
        while True:
            async with tenants.transaction(tenant, about={"permissions": ALL_SPANS}) as work:
                page, after = await verify_page(work, key, after)
            found.add(page)
            if after is None:
                break
    return found


async def verify_every(control: Database, tenants: Database) -> Findings:
    """Verify the spans of all active tenants. A tenant that is being moved or dropped is left for the next pass."""
    found = Findings()
    for tenant in await provisioning.every(control):
        if tenant.status is not Status.ACTIVE:
            continue
        try:
            found.add(await verify(tenants, tenant))
        except Refusal:
            continue
    return found


def verifying(control: Database, tenants: Database, interval: float = INTERVAL) -> AbstractAsyncContextManager[None]:
    """Verifies all signed spans every ``interval`` seconds, as long as the context is open."""
    return repeating(partial(verify_every, control, tenants), interval, "signatures of spans cannot be verified")
