"""Staff with temporary read access to a tenant: a viewer's permissions, recorded in the tenant's log."""

from collections.abc import Mapping
from typing import Any

from isola.admin.staff import StaffVerifier
from isola.database.transactions import Database
from isola.errors import Forbidden, TenantSuspended
from isola.identity.authentication import Principal
from isola.identity.members import Members
from isola.platform import grants
from isola.platform.directory import Directory
from isola.platform.tenants import Status
from isola.subjects.permissions import Role, of_role


class Looking:
    """Authenticates staff at a tenant's endpoint. Refuses all other callers."""

    def __init__(self, verifier: StaffVerifier, control: Database, directory: Directory, members: Members) -> None:
        self._verifier = verifier
        self._control = control
        self._directory = directory
        self.members = members
        self.families = None

    async def principal(self, scope: Mapping[str, Any]) -> Principal:
        """The staff member, and the tenant that the path names.

        Raises what ``StaffVerifier.staff`` raises; Forbidden without read access, whether the tenant exists or not;
        and TenantSuspended.
        """
        staff = await self._verifier.staff(scope)
        tenant = await self._directory.find(scope["path_params"]["tenant"])
        live = [] if tenant is None else await grants.live(self._control, tenant, staff.subject)
        if tenant is None or not live:
            raise Forbidden("there is no read access to this tenant")
        if tenant.status is not Status.ACTIVE:
            raise TenantSuspended("the tenant is suspended")
        tenant.refuse_moving()
        guest = await self.members.admit_guest(tenant, staff.subject, "platform staff")
        if guest.disabled:
            raise Forbidden("the user is disabled")
        return Principal(
            tenant,
            guest.user_id,
            (),
            of_role(Role.VIEWER),
            on_behalf_of=staff.subject,
            grant=live[0].id,
            features=tenant.entitlements.now(),
        )

    def visitor(self, scope: Mapping[str, Any], request_id: str) -> None:
        """Without a credential nothing is available here, and there is no sign-in."""
