"""An application that uses all features of declarations: tests/subjects/test_zoo.py runs suite.py with it."""

from pathlib import Path

from isola.subjects import Application
from tests.subjects.zoo.subjects import Animal, Cage, Diary, Food, House, Notice

application = Application(
    name="zoo", subjects=(Animal, Cage, Food, Diary, Notice, House), migrations=Path(__file__).parent / "migrations"
)
