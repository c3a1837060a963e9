"""All sabotages."""

from tests.mutation.in_code import IN_CODE
from tests.mutation.in_database import IN_DATABASE
from tests.mutation.in_moves import IN_MOVES
from tests.mutation.sabotage import Sabotage

SABOTAGES: tuple[Sabotage, ...] = (*IN_DATABASE, *IN_MOVES, *IN_CODE)
BY_NAME = {sabotage.name: sabotage for sabotage in SABOTAGES}
