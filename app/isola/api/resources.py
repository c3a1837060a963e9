from sqlalchemy import ColumnElement, or_

from isola.api.connections import Connection
from isola.api.declared import extend
from isola.api.fields import many
from isola.api.shares import Share, shares_of
from isola.domain.resources import Resource
from isola.query.caller import may, user_id
from isola.query.mapping import Row


def _may_see_shares(resource: Row) -> ColumnElement[bool]:
    return or_(resource["owner_id"] == user_id(), may("resource:manage"))


@extend(Resource)
class ResourceFields:
    shares: Connection[Share] = many(
        source=shares_of("resource", "id"),
        when=_may_see_shares,
        description="With whom it is shared; empty to all but its owner and those who may manage resources.",
    )
