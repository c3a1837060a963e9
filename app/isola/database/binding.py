"""How a transaction proves in which tenant it is and who acts in it, to a database that believes no setting.

Whoever can run SQL in a transaction can change its settings. So the setting that names the tenant comes with a proof: a
record of the tenant and of who acts, with a code over it and over the one transaction that it is for, which only
holders of a key can make. ``isola.proved_tenant_id()`` checks it; the policies ask for what it says, and the log takes
from it who acted. See docs/decisions/0008.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from types import MappingProxyType
from uuid import UUID

FIELDS = ("user", "actor", "behalf", "request")
"""What can be said of a request, in the order in which a record has it behind the tenant.

``user`` is the id of the tenant's user, ``actor`` what the log calls whoever acts, ``behalf`` who is behind it.
"""

NOTHING: Mapping[str, str] = MappingProxyType({})
_CONTROLS = re.compile(r"[\x00-\x09\x0b-\x1f\x7f]")


def record(tenant: UUID, about: Mapping[str, str] = NOTHING) -> str:
    """What a transaction is to prove: the tenant, and what is said of the request.

    Raises ValueError for what is not among ``FIELDS``, and for values that could not be told apart.
    """
    if not about:
        return f"{tenant}\n\n\n\n"
    values = [about.get(name, "") for name in FIELDS]
    stated = "\n".join((str(tenant), *values))
    if about.keys() - FIELDS or stated.count("\n") > len(FIELDS) or _CONTROLS.search(stated):
        raise ValueError(f"of a request one can say {', '.join(FIELDS)}, without control characters")
    return stated


@dataclass(frozen=True, slots=True, repr=False)  # without repr: logs print objects
class BindingKey:
    """The key, as the table ``control.binding_key`` has it. Tenant traffic cannot read that."""

    inner: bytes
    outer: bytes

    def proof(self, record: str, transaction: str) -> str:
        """The value of ``isola.proof`` for one transaction, given as ``isola.this_transaction()`` tells of it."""
        code = sha256(self.outer + sha256(self.inner + f"{record}\n{transaction}".encode()).digest()).hexdigest()
        return f"{record}\n{code}"
