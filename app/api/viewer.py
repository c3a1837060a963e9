import strawberry

from app.api.fields import mapped, one, part
from app.api.tenants import Tenant
from app.api.users import User
from app.query import caller
from app.query.mapping import Parameters


@mapped(Parameters(caller.COLUMNS))
@strawberry.type(description="Who is asking.")
class Viewer:
    user: User = one("user_id")
    tenant: Tenant = part(slug="tenant_slug", name="tenant_name")
    role: str
    permissions: list[str]


@strawberry.type
class ViewerQueries:
    viewer: Viewer = part(**{name: name for name in caller.COLUMNS})
