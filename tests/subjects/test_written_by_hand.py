"""Handwritten parts of applications are checked when a process starts, and rejected in one line."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

APPLICATION = """
from pathlib import Path

import strawberry
from sqlalchemy import func

from isola.api.access import Requires, mutation
from isola.api.connections import Connection
from isola.api.declared import extend
from isola.api.fields import expression, many
from isola.api.request import Info
from isola.subjects import Application, Subject, column


class Bird(Subject, name="bird", prefix="brd"):
    name: str = column(max_length=9)


@extend(Bird)
class More:
    short: str = expression(lambda row: func.left(row["name"], 3))


@strawberry.type
class Queries:
    flock: Connection[Bird] | None = many(access=Requires(permission="bird:read"))


@strawberry.type
class Mutations:
    @mutation(Requires(permission="bird:write"))
    async def clear(self, info: Info, most: int) -> int:
        return most


application = Application(
    name="birds", subjects=(Bird,), migrations=Path(__file__).parent, queries=(Queries,), mutations=(Mutations,)
)
"""
COMMAND = [sys.executable, "-c", "from isola.commands.main import main; main()", "schema"]


def schema(folder: Path, text: str) -> subprocess.CompletedProcess[str]:
    (folder / "birds.py").write_text(text)
    environment = {**os.environ, "ISOLA_APPLICATIONS": "birds:application"}
    return subprocess.run(COMMAND, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_lists_of_an_application_have_groups(tmp_path: Path) -> None:
    """Also those of a field that is made before the groups of its type are known."""
    done = schema(tmp_path, APPLICATION.replace("max_length=9", "max_length=9, index=True, grouped=True"))
    connection = done.stdout.partition("type BirdConnection ")[2].partition("\n}")[0]
    assert connection.endswith("  groups: BirdGroups!")


def test_valid_fields_are_in_the_schema(tmp_path: Path) -> None:
    done = schema(tmp_path, APPLICATION)
    assert done.returncode == 0
    # What a declaration does not say has to be described by hand.
    named = ("Bird.short", "Query.flock", "Mutation.clear", "Mutation.clear(most)")
    assert sorted(done.stderr.splitlines()) == sorted(f"{name} has no description" for name in named)
    assert '  clear(most: Int!): Int @requires(permission: "bird:write")' in done.stdout


def test_all_that_follows_from_a_class_not_named_like_its_subject_is_described(tmp_path: Path) -> None:
    done = schema(tmp_path, APPLICATION.replace("Bird", "Fowl"))
    named = ("Fowl.short", "Query.flock", "Mutation.clear", "Mutation.clear(most)")
    assert sorted(done.stderr.splitlines()) == sorted(f"{name} has no description" for name in named)


@pytest.mark.parametrize(
    ("right", "wrong", "message"),
    [
        ('access=Requires(permission="bird:read")', "", "Query.flock: neither it nor Query declares an access rule"),
        (
            '"bird:write"',
            '"bird:wirte"',
            "Mutation.clear: there is no permission 'bird:wirte': expected one of bird:read, bird:write",
        ),
        ('row["name"]', 'row["nmae"]', "Bird.short: there is no column 'nmae'; there are id, name"),
        ('func.left(row["name"], 3)', '"abc"', "Bird.short: expected SQL of the row's columns"),
        ("short: str = expression", "nmae: str; short: str = expression", "Bird.nmae: there is no column nmae"),
        ("@strawberry.type\nclass Queries", "class Queries", "birds.Queries: expected a class with @strawberry.type"),
        ("most: int", "most: bytes", "the schema is invalid: Mutation fields cannot be resolved."),
    ],
)
def test_invalid_fields_are_refused(tmp_path: Path, right: str, wrong: str, message: str) -> None:
    assert APPLICATION.count(right) == 1
    done = schema(tmp_path, APPLICATION.replace(right, wrong))
    assert done.returncode == 1
    assert done.stderr.startswith(f"isola: {message}")
    assert "Traceback" not in done.stderr
