"""Cases that people work on, and what happened to each."""

from pathlib import Path

from isola.subjects import Application
from isola_cases.cases import Activity, Case
from isola_cases.routes import ROUTES

application = Application(
    name="cases", subjects=(Case, Activity), migrations=Path(__file__).parent / "migrations", routes=ROUTES
)
