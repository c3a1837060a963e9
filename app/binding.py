"""How a transaction proves in which tenant it is, to a database that believes no setting.

Whoever can run SQL in a transaction can change its settings. So the setting that names the tenant comes with a proof:
when it was made, for which server process, and a code over both and the tenant that only holders of a key can make.
``isola.proved_tenant_id()`` checks it; the policies ask for what it says. See docs/decisions/0008.
"""

from dataclasses import dataclass
from hashlib import sha256
from uuid import UUID

ANY_PROCESS = 0
"""The server process of a proof that is good in each of them: a pooler in between does not say which it will be."""


@dataclass(frozen=True, slots=True, repr=False)  # without repr: logs print objects
class BindingKey:
    """The key, as the table ``control.binding_key`` has it. Tenant traffic cannot read that."""

    inner: bytes
    outer: bytes

    def proof(self, tenant: UUID, process: int, moment: float) -> str:
        """The value of ``isola.proof`` for transactions that begin within 10 s of ``moment``.

        ``moment`` is in seconds since 1970 by the clock of the database.
        """
        stated = f".{moment:.0f}.{process}."
        return stated + sha256(self.outer + sha256(self.inner + f"{tenant}{stated}".encode()).digest()).hexdigest()
