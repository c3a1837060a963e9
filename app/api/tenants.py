import strawberry
from sqlalchemy import Text

from app.api.access import PUBLIC
from app.api.fields import mapped
from app.query.mapping import Parameters


@mapped(Parameters({"slug": Text(), "name": Text()}))
@strawberry.type(description="A customer of the platform, as others may know it.", directives=[PUBLIC])
class Tenant:
    slug: str
    name: str
