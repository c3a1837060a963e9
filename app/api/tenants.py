import strawberry
from sqlalchemy import Text

from app.api.fields import mapped
from app.query.mapping import Parameters


@mapped(Parameters({"slug": Text(), "name": Text()}))
@strawberry.type(description="A customer of the platform, as others may know it.")
class Tenant:
    slug: str
    name: str
