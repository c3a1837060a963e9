"""An application whose texts are ordered by languages: tests/subjects/test_languages.py runs suite.py with it."""

from pathlib import Path

from isola.subjects import Application
from tests.subjects.languages.subjects import Sparrow

application = Application(name="languages", subjects=(Sparrow,), migrations=Path(__file__).parent / "migrations")
