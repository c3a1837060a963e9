"""Mutations with an idempotency key: each root field of a request is executed once, and its first answer is repeated.

See docs/idempotency.md and https://datatracker.ietf.org/doc/draft-ietf-httpapi-idempotency-key-header/.
"""

import hmac
import math
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence, Set as AbstractSet
from functools import lru_cache
from hashlib import blake2b, sha256
from inspect import isawaitable
from typing import Any
from uuid import UUID

from graphql import get_named_type
from sqlalchemy import Integer, LargeBinary, bindparam, func, select
from starlette.datastructures import Headers

from isola import exact_json
from isola.database.claims import Answered, Claim
from isola.errors import BadUserInput, Conflict, Forbidden, NotFound, QuotaExceeded, RateLimited, Refusal, Unavailable
from isola.platform.idempotency import LIFETIME, MAX_KEY
from isola.query.caller import Context
from isola.query.mapping import Model

HEADER = "idempotency-key"
REPLAYED = "idempotency-replayed"
EXTENSION = "idempotencyKey"
"""The key of an operation on a WebSocket, which has no headers, in its ``extensions``."""
_NAME = "Idempotency-Key"
# Errors that are answers. After others, such as UNAVAILABLE, the client should send the request again.
_KEPT: Mapping[str, type[Refusal]] = {
    each.code: each for each in (BadUserInput, Conflict, Forbidden, NotFound, QuotaExceeded)
}
_FIRST = select(
    func.isola.first_answer(
        bindparam("digest", type_=LargeBinary()),
        bindparam("place", type_=Integer()),
        bindparam("request", type_=LargeBinary()),
    ).table_valued("permissions", "refusal", "answer")
)


def key_in(headers: Headers) -> str | None:
    """The key that a request has, valid or not. Two headers are one invalid key."""
    keys = headers.getlist(HEADER)
    return "\n".join(keys) if keys else None


def refuse_invalid(key: object, unrepeatable: AbstractSet[str] = frozenset()) -> str:
    """The key, if it is valid. Raises BadUserInput, also if the request has ``unrepeatable`` fields."""
    if not isinstance(key, str) or not 1 <= len(key) <= MAX_KEY or not key.isascii() or not key.isprintable():
        raise BadUserInput(f"{_NAME}: expected 1 to {MAX_KEY} printable ASCII characters")
    if unrepeatable:
        raise BadUserInput(f"{_NAME}: {min(unrepeatable)} takes none, as its answer is not kept")
    return key


def unrepeatable_in(model: Model) -> AbstractSet[str]:
    """The mutations whose answers cannot be kept: of their payloads, Python makes a part, which may be a credential."""
    type_ = model.schema.mutation_type
    added = {place.partition(".")[0] for place, needs in model.left.items() if not needs.columns}
    fields = type_.fields if type_ else {}
    return frozenset(
        name
        for name, field in fields.items()
        if (payload := get_named_type(field.type).name) not in model.entities or payload in added
    )


class Digests:
    """What the database knows keys by. ``secret`` is the same on all servers of an installation, and after restarts.

    SQL inside a tenant cannot compute a digest, so it can neither use nor occupy the keys of others.
    """

    def __init__(self, secret: bytes) -> None:
        self._keyed = blake2b(key=hmac.digest(secret, b"isola idempotency keys", "sha256"), digest_size=32)

    def of(self, tenant: UUID, user: UUID, key: str) -> bytes:
        """The digest of a user's key in a tenant."""
        made = self._keyed.copy()
        made.update(tenant.bytes + user.bytes + key.encode())
        return made.digest()


class Allowance:
    """The bytes of first answers that each tenant may have: ``most``, as answers are kept for a day.

    Half of them at once, the other half spread over a day. ``clock`` gives seconds. Each process counts separately.
    """

    # Bytes of a row besides its answer and its permissions, with its entries in two indexes.
    _ROW = 512
    # The most tenants that are stored (LRU).
    _TENANTS = 10_000

    def __init__(self, most: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds_per_byte = LIFETIME / (most / 2)
        self._clock = clock
        # When each tenant will have its whole allowance again.
        self._full_at: OrderedDict[UUID, float] = OrderedDict()

    def wait(self, tenant: UUID) -> float:
        """Seconds until a tenant may have another answer; not positive if it may now."""
        full_at = self._full_at.get(tenant)
        return 0 if full_at is None else full_at - self._clock() - LIFETIME

    def charge(self, tenant: UUID, *texts: str) -> None:
        """Count an answer. Transactions that run at the same time may exceed the allowance by an answer each."""
        now = self._clock()
        size = self._ROW + sum(len(text) if text.isascii() else len(text.encode()) for text in texts)
        self._full_at[tenant] = max(self._full_at.get(tenant, now), now) + size * self._seconds_per_byte
        self._full_at.move_to_end(tenant)
        if len(self._full_at) > self._TENANTS:
            self._full_at.popitem(last=False)


class Once:
    """One request with a key. Its root fields are executed one after the other."""

    __slots__ = (
        "_allowance",
        "_context",
        "_digest",
        "_executed",
        "_permissions",
        "_repeated",
        "_request",
        "_tenant",
        "claim",
    )

    def __init__(
        self,
        key: str,
        context: Context,
        request: Sequence[object],
        digests: Digests,
        allowance: Allowance,
        *,
        marked: bool,
    ) -> None:
        """``request`` is what the key is for, as values of JSON; ``marked``: its payloads have type marks."""
        self._context = context
        self._allowance = allowance
        self._tenant = context.principal.tenant.id
        self._digest = digests.of(self._tenant, context.principal.user_id, key)
        self._request = sha256(exact_json.canonical([*request, marked]).encode("utf-8", "surrogatepass")).digest()
        self._permissions = _joined(context.principal.permissions)
        self.claim: Claim | None = None
        """The claim of the field that is being executed."""
        self._executed = self._repeated = 0

    @property
    def is_replay(self) -> bool:
        """Whether nothing was executed: all answers are repeated."""
        return self._repeated > 0 and self._executed == 0

    async def answer(self, place: int, resolve: Callable[[], Any], repeat: Callable[[str], Any]) -> Any:
        """Execute the root field at a place, or ``repeat`` its first answer. Raises its error, or its first error.

        Raises RateLimited, with nothing done, if the tenant may have no further answer kept.
        """
        if (wait := self._allowance.wait(self._tenant)) > 0:
            return repeat(await self._only_repeated(place, wait))
        self.claim = self._claim(place)
        self._executed += 1
        try:
            result = resolve()
            return await result if isawaitable(result) else result
        except Answered:
            pass
        except Refusal as refusal:
            if not await self._answered_before(place, refusal):
                raise
        finally:
            self.claim = None
        self._executed -= 1
        self._repeated += 1
        expired = Unavailable(f"{_NAME}: the first answer has expired meanwhile")
        return repeat(await self._first_answer(place, expired))

    def count(self, answer: str) -> None:
        """Count an answer that is kept."""
        self._allowance.charge(self._tenant, answer, self._permissions)

    async def _only_repeated(self, place: int, wait: float) -> str:
        limited = RateLimited(
            f"{_NAME}: too many answers of this tenant are kept: send no key, or wait", math.ceil(wait)
        )
        self._repeated += 1
        try:
            return await self._first_answer(place, limited)
        except RateLimited:
            self._repeated -= 1
            self._executed += 1
            raise

    def _claim(self, place: int) -> Claim:
        return Claim(self._digest, place, self._request, self._permissions)

    async def _answered_before(self, place: int, refusal: Refusal) -> bool:
        """Keep an error as the answer, in a transaction of its own: its change was rolled back.

        Returns whether the same request, sent at the same time, got an answer before.
        """
        if refusal.code not in _KEPT:
            return False
        claim = self._claim(place)
        answer = exact_json.dumps([refusal.code, refusal.message, refusal.field])
        sql, values = claim.keep("SELECT $1::text", (answer,), refusal=True)
        try:
            async with self._context.transaction(claim=claim) as work:
                await work.value(sql, *values)
            self.count(answer)
        except Answered:
            return True
        return False

    async def _first_answer(self, place: int, missing: Refusal) -> str:
        """The payload that was answered. Raises ``missing``, the refusal if it was one, Forbidden and Unavailable."""
        values = {"digest": self._digest, "place": place, "request": self._request}
        async with self._context.transaction(read_only=True) as work:
            rows = await work.rows(_FIRST, values)
        if not rows:
            raise missing
        [row] = rows
        if not set(row["permissions"].split()) <= self._context.principal.permissions:
            raise Forbidden(f"{_NAME}: the first answer needs permissions that you do not have now")
        answer: str = row["answer"]
        if row["refusal"]:
            code, message, field = exact_json.loads(answer)
            raise _KEPT[code](message, field)
        return answer


@lru_cache(100)
def _joined(permissions: AbstractSet[str]) -> str:
    return " ".join(sorted(permissions))
