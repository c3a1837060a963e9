from enum import StrEnum
from typing import TYPE_CHECKING

import strawberry

from isola.subjects import quotas
from isola.subjects.sentences import words

if TYPE_CHECKING:

    class QuotaName(StrEnum):
        """Its members are not known before the tables are."""

else:
    QuotaName = strawberry.enum(
        StrEnum("QuotaName", [(name.upper(), name) for name in quotas.names()]),
        description="The names of quotas.",
    )
    for _name in QuotaName.__strawberry_definition__.values:
        _name.description = f"The number of {words(_name.name)}."
        if _name.value == quotas.STORAGE:
            _name.description = "The bytes of the values in all rows, measured about every hour."
