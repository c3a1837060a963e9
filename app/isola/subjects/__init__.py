"""What an application is made of: see docs/applications.md."""

from isola.subjects.actions import action
from isola.subjects.actor import Actor
from isola.subjects.applications import Application
from isola.subjects.declaration import DeclarationError, caller, column, computed, many, reference
from isola.subjects.routes import Route
from isola.subjects.subject import Subject
from isola.subjects.types import JSON, BigInt, Many
from isola.subjects.work import Work

__all__ = [
    "JSON",
    "Actor",
    "Application",
    "BigInt",
    "DeclarationError",
    "Many",
    "Route",
    "Subject",
    "Work",
    "action",
    "caller",
    "column",
    "computed",
    "many",
    "reference",
]
