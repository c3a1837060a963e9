"""Proofs of a transaction's tenant and actor, for a database that does not trust settings.

SQL in a transaction can change its settings. So the setting that names the tenant comes with a proof: a record of the
tenant and the actor, with a MAC over it and over the one transaction that it is for, which only holders of a key can
compute. ``isola.proved_tenant_id()`` checks it; policies use its result, and the log takes the actor from it. See
docs/decisions/0008.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from types import MappingProxyType
from uuid import UUID

FIELDS = ("user", "actor", "behalf", "request", "permissions")
"""The fields about a request, in their order in a record, after the tenant.

``user`` is the id of the tenant's user, ``actor`` the actor's name in the log, ``behalf`` the person behind the actor;
``permissions`` are those of the user that visibility rules ask for, separated by spaces.
"""

NOTHING: Mapping[str, str] = MappingProxyType({})
_CONTROLS = re.compile(r"[\x00-\x09\x0b-\x1f\x7f]")


def record(tenant: UUID, about: Mapping[str, str] = NOTHING) -> str:
    """The record that a transaction proves: the tenant, and fields about the request.

    Raises ValueError for names that are not in ``FIELDS``, and for ambiguous values.
    """
    if not about:
        return f"{tenant}\n\n\n\n\n"
    values = [about.get(name, "") for name in FIELDS]
    stated = "\n".join((str(tenant), *values))
    if about.keys() - FIELDS or stated.count("\n") > len(FIELDS) or _CONTROLS.search(stated):
        raise ValueError(f"expected only the fields {', '.join(FIELDS)}, without control characters")
    return stated


@dataclass(frozen=True, slots=True, repr=False)  # without repr: logs print objects
class BindingKey:
    """The key in the table ``control.binding_key``, which tenant traffic cannot read."""

    inner: bytes
    outer: bytes

    def proof(self, record: str, transaction: str) -> str:
        """The value of ``isola.proof`` for one transaction, identified by ``isola.this_transaction()``."""
        code = sha256(self.outer + sha256(self.inner + f"{record}\n{transaction}".encode()).digest()).hexdigest()
        return f"{record}\n{code}"
