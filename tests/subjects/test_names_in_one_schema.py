"""All applications share one schema: duplicate names are rejected at start-up, in one line."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from graphql import build_schema

APPLICATION = """
from enum import StrEnum
from pathlib import Path
from isola.subjects import Application, Subject, column

class {enum}(StrEnum):
    HIGH = "high"

class {subject}(Subject, name={name!r}, prefix={prefix!r}, plural="birds", listed_as={listed_as!r}):
    level: {enum} = column()

application = Application(name="birds", subjects=({subject},), migrations=Path(__file__).parent)
"""
FITS = {"subject": "Bird", "enum": "Level", "name": "bird", "listed_as": "birds", "prefix": "brd"}
COMMAND = [sys.executable, "-c", "from isola.commands.main import main; main()", "schema"]


def schema(folder: Path, **declared: str) -> subprocess.CompletedProcess[str]:
    (folder / "birds.py").write_text(APPLICATION.format(**{**FITS, **declared}))
    environment = {**os.environ, "ISOLA_APPLICATIONS": "birds:application"}
    return subprocess.run(COMMAND, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_names_of_its_own_are_in_the_schema(tmp_path: Path) -> None:
    done = schema(tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "type Bird implements Node" in done.stdout


SHARING = """
from pathlib import Path
from isola.subjects import Application, Subject, column

class Bird(Subject, name="bird", prefix="brd"):
    share: int = column(index=True)
    shared_by: int = column(index=True)
    shared_at: int = column(index=True)
    shared_until: int = column(index=True)

    shared = ("share", "shared_by", "shared_at", "shared_until")

application = Application(name="birds", subjects=(Bird,), migrations=Path(__file__).parent)
"""


def test_what_is_shared_hides_nothing_of_its_share(tmp_path: Path) -> None:
    (tmp_path / "birds.py").write_text(SHARING)
    environment = {**os.environ, "ISOLA_APPLICATIONS": "birds:application"}
    done = subprocess.run(COMMAND, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    types = build_schema(done.stdout).type_map
    compared: Any = types["SharedBirdFilter"]
    assert {name: str(field.type) for name, field in compared.fields.items() if name.startswith("share")} == {
        "share": "IntFilter",
        **{f"{name}Value": "IntFilter" for name in ("sharedBy", "sharedAt", "sharedUntil")},
        "sharedBy": "StringFilter",
        "sharedAt": "DateTimeFilter",
        "sharedUntil": "DateTimeFilter",
    }
    ordered: Any = types["SharedBirdOrderField"]
    of_share = ["SHARED_AT", "SHARED_BY", "SHARED_UNTIL"]
    assert set(ordered.values) == {*of_share, "SHARE", *(f"{name}_VALUE" for name in of_share)}
    assert ordered.values["SHARED_BY"].description == "By the slug of the owner."


@pytest.mark.parametrize(
    ("declared", "message"),
    [
        ({"listed_as": "users"}, "two subjects or applications have the field 'users' of Query"),
        ({"name": "viewer"}, "two subjects or applications have the field 'viewer' of Query"),
        ({"enum": "Visibility"}, "Type Visibility is defined multiple times in the schema"),
        ({"subject": "Viewer"}, "Type Viewer is defined multiple times in the schema"),
        ({"prefix": "shr"}, "ids of ReceivedShare and of Bird begin with 'shr': expected two prefixes"),
        ({"subject": "SharedResource"}, "Type SharedResource is defined multiple times in the schema"),
        ({"subject": "ReceivedShare"}, "Type ReceivedShare is defined multiple times in the schema"),
        ({"enum": "ResourceSharedField"}, "Type ResourceSharedField is defined multiple times in the schema"),
        ({"subject": "PageInfo"}, "Type PageInfo is defined multiple times in the schema"),
    ],
)
def test_a_name_that_is_there_already_is_refused(tmp_path: Path, declared: dict[str, str], message: str) -> None:
    done = schema(tmp_path, **declared)
    assert done.returncode == 1
    assert done.stderr.startswith(f"isola: {message}")
    assert "Traceback" not in done.stderr
