"""Delivers the events of all tenants' logs to their webhooks, as long as the server runs.

Each webhook has its place in the feed of the log. A server that takes one delivers in order what follows, notes each
request after its end, and gives the webhook back when nothing is left, after a failure, or after some seconds. An
event is delivered at least once: if a server ends between a delivery and its note, another delivers the event again.
How events become a request is a matter of the webhook's kind: see isola.webhooks.kinds.
"""

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from uuid import UUID

import structlog

from isola.database.transactions import Database
from isola.errors import NotFound, RateLimited, Refusal
from isola.platform import webhooks
from isola.platform.background import repeating
from isola.platform.directory import Directory
from isola.platform.tenants import Status, Tenant
from isola.platform.webhooks import Attempt, Claimed, Entry
from isola.query import caller
from isola.webhooks import endpoints, events
from isola.webhooks.kinds import Request, kinds
from isola.webhooks.sealing import Sealer
from isola.webhooks.sending import Failure, Sender
from isola.webhooks.signing import Signer

INTERVAL = 0.5
"""Seconds between two looks for webhooks that are due."""
ATTEMPTS = 14
"""How often an event is tried before it is given up, within about 35 hours."""
FIRST_DELAY = 5.0
"""Seconds until the second attempt. Each further delay is three times as long, up to six hours."""
LONGEST_DELAY = 6 * 3600.0
_FACTOR = 3.0
_JITTER = 0.2
AT_ONCE = 500
"""Entries that are read at once."""
TURN = 20.0
"""Seconds after which a server gives a webhook back, so that others get their turn."""
SLOTS = 40
"""Webhooks that a server delivers to at the same time, besides those whose last attempt failed."""
FAILING_SLOTS = 20
"""Webhooks whose last attempt failed, that a server tries at the same time."""
OF_TENANT = 5
"""Webhooks of one tenant that a server delivers to at the same time."""
TESTS = 10
"""Tests of webhooks that a server makes at the same time; of each tenant, one."""
PAUSE = 5.0
"""Seconds until a webhook is tried again whose tenant could not be read."""

log = structlog.get_logger(__name__)


def delay_after(attempts: int) -> float:
    """Seconds between an attempt and the next, with jitter, so that many endpoints that failed at once are spread."""
    exact = min(FIRST_DELAY * _FACTOR ** (attempts - 1), LONGEST_DELAY)
    return exact * random.uniform(1 - _JITTER, 1 + _JITTER)  # noqa: S311  no secret depends on it


@dataclass
class _Progress:
    """The next event of a claimed webhook: what was done before it, and the attempts that failed."""

    delivered: int
    failures: int


class Delivery:
    """Delivers to webhooks, and tests them. ``control`` and ``tenants`` need connections of their own."""

    def __init__(
        self,
        control: Database,
        tenants: Database,
        directory: Directory,
        signer: Signer,
        sealer: Sealer,
        sender: Sender,
    ) -> None:
        self._control = control
        self._tenants = tenants
        self._directory = directory
        self._signer = signer
        self._sealer = sealer
        self._kinds = kinds(signer, sealer)
        self._sender = sender
        self._running: dict[asyncio.Task[None], tuple[UUID, bool]] = {}
        self._testing: set[UUID] = set()

    def url(self, text: str) -> str:
        """Check the URL of a webhook. Raises BadUserInput."""
        endpoints.parse(text, private=self._sender.private)
        return text

    def secret(self, webhook: UUID, secret_id: UUID) -> str:
        """The secret of a webhook, for the answer to the request that made it."""
        return self._signer.secret(webhook, secret_id)

    def seal(self, tenant: caller.Tenant, kind: str, url: str, secret: str) -> bytes:
        """A secret that a tenant gave for its connector of a kind and URL, encrypted."""
        return self._sealer.seal(tenant.id, kind, url, secret)

    async def given_secret(self, tenant: caller.Tenant, webhook: UUID) -> str | None:
        """The secret that a tenant gave for a connector, to compare with what else it gives; None if it has none.

        Raises Unavailable.
        """
        target = await webhooks.target(self._control, tenant.id, webhook)
        if target is None or not target.sealed:
            return None
        try:
            return self._sealer.open(target)
        except Failure:
            return None

    async def test(self, tenant: caller.Tenant, webhook: UUID) -> str | None:
        """Send a ``ping`` to a tenant's webhook; why that failed, None if it did not.

        Raises NotFound, Unavailable, and RateLimited while others are tested.
        """
        if tenant.id in self._testing or len(self._testing) >= TESTS:
            raise RateLimited("a webhook is being tested: try again when that has ended", 10)
        self._testing.add(tenant.id)
        try:
            target = await webhooks.target(self._control, tenant.id, webhook)
            if target is None:
                raise NotFound("there is no such webhook")
            await self._send(self._kinds[target.kind].ping(target, tenant))
        except Failure as failure:
            return failure.kind
        finally:
            self._testing.discard(tenant.id)
        return None

    @asynccontextmanager
    async def delivering(self) -> AsyncIterator[None]:
        """Deliver as long as the context is open."""
        async with repeating(self.look, INTERVAL, "webhooks cannot be delivered to"):
            try:
                yield
            finally:
                tasks = list(self._running)
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    async def look(self) -> None:
        """Begin to deliver to the webhooks that are due, as far as there are slots. Raises Unavailable."""
        for failing, slots in ((False, SLOTS), (True, FAILING_SLOTS)):
            while sum(kind == failing for _, kind in self._running.values()) < slots:
                claimed = await webhooks.claim(self._control, failing=failing, besides=self._busy())
                if claimed is None:
                    break
                task = asyncio.create_task(self._work(claimed))
                self._running[task] = (claimed.tenant_id, failing)
                task.add_done_callback(lambda done: self._running.pop(done, None))

    def _busy(self) -> Sequence[UUID]:
        """The tenants that have as many deliveries here as one may have."""
        counted = Counter(tenant for tenant, _ in self._running.values())
        return [tenant for tenant, count in counted.items() if count >= OF_TENANT]

    async def _work(self, claimed: Claimed) -> None:
        pause = PAUSE
        try:
            tenant = await self._directory.find(str(claimed.tenant_id))
            if tenant is not None and tenant.status is Status.ACTIVE and tenant.moving_to is None:
                await self._deliver_all(tenant, claimed)
                pause = 0.0
        except Refusal as refusal:
            log.warning("webhooks.not_delivered", webhook=str(claimed.id), reason=refusal.code)
        except Exception:
            log.exception("webhooks.not_delivered", webhook=str(claimed.id))
        finally:
            await self._release(claimed, pause)

    async def _release(self, claimed: Claimed, pause: float) -> None:
        try:
            await webhooks.release(self._control, claimed, pause)
        except Refusal as refusal:
            # The lease ends by itself.
            log.warning("webhooks.not_released", webhook=str(claimed.id), reason=refusal.code)

    async def _deliver_all(self, tenant: Tenant, claimed: Claimed) -> None:
        """Deliver what follows in the log, until nothing is left, an attempt fails, or the turn ends."""
        until = time.monotonic() + TURN
        kind = self._kinds[claimed.kind]
        progress = _Progress(claimed.delivered, claimed.failures)
        while True:
            async with self._tenants.transaction(tenant, read_only=True) as work:
                entries = await webhooks.after(work, progress.delivered, AT_ONCE)
            wanted = [each for each in entries if each.public and events.matches(each.action, claimed.events)]
            while wanted:
                # After a failure the next event alone, so that one that is never accepted does not keep others waiting.
                most = 1 if progress.failures else kind.most
                batch, wanted = wanted[:most], wanted[most:]
                if not await self._deliver(tenant, claimed, batch, progress) or time.monotonic() > until:
                    return
            if not entries:
                return
            last = entries[-1].number
            if progress.delivered < last and not await webhooks.advance(self._control, claimed, last, success=False):
                return
            progress.delivered = last

    async def _deliver(self, tenant: Tenant, claimed: Claimed, batch: Sequence[Entry], progress: _Progress) -> bool:
        """Try to deliver events once, in one request; whether to continue with the next."""
        attempt = await self._tried(tenant, claimed, batch, progress.failures + 1)
        await webhooks.note(self._control, claimed, attempt)
        if attempt.failure is None:
            goes_on = await webhooks.advance(self._control, claimed, batch[-1].number, success=True)
        else:
            log.info(
                "webhooks.attempt_failed", webhook=str(claimed.id), attempt=attempt.number, failure=attempt.failure
            )
            if attempt.failure in self._kinds[claimed.kind].gone:
                await webhooks.disable(self._tenants, tenant, claimed.id, attempt.failure)
                return False
            if attempt.number < ATTEMPTS or len(batch) > 1:
                await webhooks.postpone(self._control, claimed, attempt.failure, delay_after(attempt.number))
                return False
            goes_on = await webhooks.bury(self._control, claimed, batch[0], attempt.number, attempt.failure)
        progress.delivered, progress.failures = batch[-1].number, 0
        return goes_on

    async def _tried(self, tenant: Tenant, claimed: Claimed, batch: Sequence[Entry], number: int) -> Attempt:
        size, failure = 0, None
        try:
            request = self._kinds[claimed.kind].request(claimed, tenant, batch)
            size = len(request.body)
            await self._send(request)
        except Failure as reason:
            failure = reason.kind
        return Attempt(batch, number, failure, size)

    async def _send(self, request: Request) -> None:
        await self._sender.send(request.url, request.headers, request.body)
