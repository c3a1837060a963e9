"""What an application is made of: see docs/applications.md."""

from isola.subjects.actions import action
from isola.subjects.declaration import DeclarationError, caller, column, computed, many, reference
from isola.subjects.subject import Subject
from isola.subjects.types import JSON, BigInt, Many

__all__ = [
    "JSON",
    "BigInt",
    "DeclarationError",
    "Many",
    "Subject",
    "action",
    "caller",
    "column",
    "computed",
    "many",
    "reference",
]
