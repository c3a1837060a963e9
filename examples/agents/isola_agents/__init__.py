"""Agents, the patterns that they follow, and their executions."""

from pathlib import Path

from isola.subjects import Application
from isola_agents.subjects import Agent, Execution, Pattern

application = Application(
    name="agents",
    subjects=(Agent, Pattern, Execution),
    migrations=Path(__file__).parent / "migrations",
    features={"custom-patterns": "Patterns of one's own."},
)
