"""The building blocks of applications: see docs/applications.md."""

from isola.subjects.actions import action
from isola.subjects.actor import ALLOWED, Actor, Decision, Denied
from isola.subjects.applications import Application
from isola.subjects.declaration import DeclarationError, caller, column, computed, count, many, now, reference, today
from isola.subjects.enums import deprecated_values
from isola.subjects.routes import Route
from isola.subjects.subject import Subject
from isola.subjects.types import JSON, BigInt, Many
from isola.subjects.work import Work

__all__ = [
    "ALLOWED",
    "JSON",
    "Actor",
    "Application",
    "BigInt",
    "Decision",
    "DeclarationError",
    "Denied",
    "Many",
    "Route",
    "Subject",
    "Work",
    "action",
    "caller",
    "column",
    "computed",
    "count",
    "deprecated_values",
    "many",
    "now",
    "reference",
    "today",
]
