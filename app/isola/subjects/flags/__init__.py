"""Feature flags of a tenant's own product: on, off, or on for a percentage. See docs/settings.md."""

import re
from collections.abc import Mapping, Sequence
from enum import StrEnum
from random import Random
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Text,
    bindparam,
    case,
    cast,
    false,
    func,
    literal_column,
    select,
    true,
)
from sqlalchemy.dialects.postgresql import BIT

from isola.errors import BadUserInput, Conflict
from isola.subjects import Subject, column, document
from isola.subjects.actor import Actor
from isola.subjects.metadata import Row
from isola.subjects.users import User
from isola.subjects.work import Work

MAX_NAME = 63
MAX_KEY = 200
MOST = 1000
"""The most flags of a tenant: all are evaluated at once."""
_NAME = re.compile(r"[a-z][a-z0-9]*([._-][a-z0-9]+)*", re.ASCII)


class FlagState(StrEnum):
    """For whom a flag is on.

    OFF: For nobody.
    ON: For all.
    PERCENTAGE: For a percentage of the keys, always the same ones.
    """

    OFF = "off"
    ON = "on"
    PERCENTAGE = "percentage"


class Flag(Subject, name="flag", prefix="flg", order=("name",), permissions={"write": "flag:manage"}):
    """A feature flag of the tenant's product."""

    name: str = column(
        max_length=MAX_NAME,
        min_length=1,
        unique=True,
        description="Words of a-z and 0-9, with `.`, `_` or `-` between them; unique in the tenant.",
    )
    description: str = column(max_length=1000, default="", description="What it is for.")
    state: FlagState = column(default=FlagState.OFF)
    percentage: int = column(
        default=0,
        minimum=0,
        maximum=100,
        description="For how many of 100 keys it is on in the state PERCENTAGE. A higher one takes it from nobody.",
    )

    checks = {"name_form": f"name ~ '^{_NAME.pattern}$'"}  # noqa: RUF012
    samples = {"name": lambda random, _: _sampled(random)}  # noqa: RUF012

    @classmethod
    async def create_all(cls, work: Work, actor: Actor, batch: Sequence[Mapping[str, Any]]) -> list["Flag"]:
        """Raise Conflict for more than MOST flags."""
        if await work.scalar(_COUNT) + len(batch) > MOST:
            raise Conflict(f"a tenant has at most {MOST} flags")
        return await super().create_all(work, actor, batch)

    async def before_create(self, work: Work, actor: Actor) -> None:  # noqa: ARG002  required by the interface
        """A name is a slug."""
        _check_name(self.name)

    async def before_update(self, work: Work, actor: Actor, changes: dict[str, Any]) -> None:  # noqa: ARG002  as above
        """A name is a slug."""
        _check_name(changes.get("name", self.name))


def is_on(flag: Row, key: ColumnElement[str]) -> ColumnElement[bool]:
    """Whether a flag is on for a key, in SQL.

    A key has a number from 0 to 99 for each flag: of the SHA-256 of ``<id of the flag>:<key>`` in UTF-8, the first four
    bytes as an unsigned big-endian integer, times 100, divided by 2^32, rounded down. In the state PERCENTAGE, the flag
    is on if the number is less than the percentage.
    """
    named = literal_column(f"'{Flag.declaration.prefix}_'", Text()) + cast(flag["id"], Text)
    hashed = func.sha256(func.convert_to(named + literal_column("':'", Text()) + key, literal_column("'UTF8'", Text())))
    head = func.left(func.encode(hashed, literal_column("'hex'", Text()), type_=Text()), 8, type_=Text())
    number = cast(cast(literal_column("'x'", Text()) + head, BIT(32)), BigInteger)
    share, all_numbers = literal_column("100", BigInteger()), literal_column("4294967296", BigInteger())
    among = number * share < flag["percentage"] * all_numbers
    return case((flag["state"] == FlagState.ON, true()), (flag["state"] == FlagState.OFF, false()), else_=among)


async def evaluate(work: Work, key: str) -> Sequence[Mapping[str, Any]]:
    """The ``name`` of each flag of the tenant, by name, and whether it is ``on`` for a key. Raises BadUserInput."""
    check_key(key)
    return await work.rows(_EVALUATE, {"key": key})


async def is_enabled(work: Work, name: str, key: str) -> bool:
    """Whether a flag is on for a key; not if there is no such flag. Raises BadUserInput."""
    check_key(key)
    return await work.scalar(_IS_ON, {"name": name, "key": key}) is True


def key_of(user: UUID) -> str:
    """The key of a user: their id, as clients see it."""
    return f"{User.declaration.prefix}_{user}"


def check_key(key: str) -> None:
    """Raise BadUserInput for a text that cannot be a key."""
    if not 1 <= len(key) <= MAX_KEY:
        raise BadUserInput(f"key: expected 1 to {MAX_KEY} characters", "key")
    document.check("key", key)


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise BadUserInput("name: expected words of a-z and 0-9, with '.', '_' or '-' between them", "name")


def _sampled(random: Random) -> str:
    return f"flag-{random.getrandbits(32):08x}"


_flags = Flag.table
_COUNT = select(func.count()).select_from(_flags)
_ON = is_on(_flags.c, bindparam("key", type_=Text()))
_EVALUATE = select(_flags.c.name, _ON.label("on")).order_by(_flags.c.name)
_IS_ON = select(_ON).where(_flags.c.name == bindparam("name", type_=Text()))
