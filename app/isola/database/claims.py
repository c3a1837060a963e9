"""Claims of idempotency keys: a transaction makes its change only if the same request was not answered before.

The transaction claims its place together with its entry into the tenant, before its first statement, and keeps its
answer by the statement that reads it. So neither needs a round trip. See docs/idempotency.md.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

CLAIM = "isola.claim_answer($5, $6, $7)"
"""The condition that claims a place, after the four parameters of the entry. It is false, or raises an error."""


@dataclass(slots=True)
class Claim:
    """One root field of a mutation with an idempotency key.

    ``digest`` stands for the key of one user in one tenant; ``place`` is the field's position, ``request`` the SHA-256
    of the request; ``permissions`` are those of its user, separated by spaces. ``kept``: the transaction keeps an
    answer.
    """

    digest: bytes
    place: int
    request: bytes
    permissions: str
    kept: bool = False

    @property
    def claimed(self) -> tuple[str, ...]:
        """The parameters of ``CLAIM``, as texts."""
        return f"\\x{self.digest.hex()}", str(self.place), f"\\x{self.request.hex()}"

    def keep(self, sql: str, values: Sequence[object], *, refusal: bool = False) -> tuple[str, list[object]]:
        """The statement and its values that keep the text that a statement reads, and return it.

        ``refusal``: it is an error. Run it in the transaction of the claim.
        """
        self.kept = True
        kept = [*values, self.digest, self.place, self.request, self.permissions, refusal]
        return _keeping(sql, len(values)), kept


@lru_cache(maxsize=512)
def _keeping(sql: str, count: int) -> str:
    parameters = ", ".join(f"${number}" for number in range(count + 1, count + 6))
    return f"SELECT isola.keep_answer({parameters}, ({sql}))"


class Answered(Exception):  # noqa: N818  not an error
    """The same request was answered before; the transaction is rolled back."""
