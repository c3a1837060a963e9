from typing import Annotated

import strawberry
from sqlalchemy import ColumnElement, Text, cast, literal_column

from isola.api.access import requires
from isola.api.declared import extend
from isola.api.fields import expression
from isola.api.request import Info
from isola.query import caller
from isola.query.mapping import Row
from isola.subjects import flags
from isola.subjects.flags import Flag
from isola.subjects.users import User

READ = requires(Flag.declaration.permissions["read"])


def _is_on(flag: Row) -> ColumnElement[bool]:
    prefix = literal_column(f"'{User.declaration.prefix}_'", Text())
    return flags.is_on(flag, prefix + cast(caller.user_id(), Text))


@extend(Flag)
class FlagFields:
    on: bool = expression(_is_on, "Whether it is on for the caller.")


@strawberry.type(description="Whether a flag is on for a key.", directives=[READ])
class FlagValue:
    name: str = strawberry.field(description="The name of the flag.")
    on: bool = strawberry.field(description="Whether it is on.")


async def _values(
    info: Info,
    key: Annotated[
        str | None,
        strawberry.argument(
            description="A customer or a device, for example: 1 to 200 characters. By default the id of the caller."
        ),
    ] = None,
) -> list[FlagValue]:
    key = flags.key_of(info.context.actor.user_id) if key is None else key
    async with info.context.context.transaction(read_only=True) as work:
        return [FlagValue(name=each["name"], on=each["on"]) for each in await flags.evaluate(work, key)]


@strawberry.type
class FlagQueries:
    flag_values: list[FlagValue] | None = strawberry.field(
        resolver=_values, directives=[READ], description="All flags of the tenant, and whether they are on, by name."
    )
