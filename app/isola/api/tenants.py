import strawberry
from sqlalchemy import Text

from isola.api.access import PUBLIC
from isola.api.fields import mapped
from isola.query.mapping import Parameters


@mapped(Parameters({"slug": Text(), "name": Text()}))
@strawberry.type(description="A tenant, with the fields that other tenants may read.", directives=[PUBLIC])
class Tenant:
    slug: str = strawberry.field(description="The unique name in addresses.")
    name: str = strawberry.field(description="The name to show.")
