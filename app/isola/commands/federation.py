"""The command that says how other installations know this one."""

import json
from typing import TYPE_CHECKING

import typer

from isola.commands.common import TenantOption, act
from isola.errors import OperatorError

if TYPE_CHECKING:
    from isola.server.installation import Installation


def federation(tenant: TenantOption) -> None:
    """Print what a partner on another installation has to know of a tenant here, for its addRemotePartner.

    It is this installation's address and public key, and the tenant's id. Nothing of it is secret.
    """
    from isola.identity.federation import from_settings
    from isola.platform import provisioning

    async def run(installed: "Installation") -> None:
        known = from_settings(installed.settings)
        if known is None or known.public is None:
            raise OperatorError("expected ISOLA_INSTALLATION and ISOLA_FEDERATION_KEY_FILE")
        async with await installed.control() as control:
            found = await provisioning.named(control, tenant)
        values = {"installation": known.name, "tenantId": f"ten_{found.id}", "key": known.jwk}
        typer.echo(json.dumps(values, indent=2))

    act(run, looking=True)
