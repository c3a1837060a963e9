"""``isola --help``: answers without delay."""

import subprocess
import sys
from typing import get_args

from isola.commands.main import RoleName
from isola.subjects.permissions import Role

HEAVY = ("alembic", "asyncpg", "cryptography", "pydantic", "sqlalchemy", "starlette", "strawberry", "structlog")
IMPORTED = f"import sys, isola.commands.main; print([name for name in {HEAVY} if name in sys.modules])"


def test_nothing_is_imported_that_only_commands_need() -> None:
    said = subprocess.run([sys.executable, "-c", IMPORTED], capture_output=True, text=True, check=True)

    assert said.stdout == "[]\n"


def test_the_roles_that_a_token_can_have_are_the_built_in_ones() -> None:
    assert [Role(name) for name in get_args(RoleName)] == list(Role)
