"""Marks rows in the result of a statement, for a log: those that other tenants share, and those of chosen subjects.

A mark is a character that no JSON text has, and the id of the share that grants the row, or the name of its subject
and the character again. The statement writes it in front of the row's object; ``taken`` and ``counted`` remove it
before anybody else gets the text.
"""

from collections import Counter
from collections.abc import Set as AbstractSet
from typing import Any

from sqlalchemy import ColumnElement, Text, func

from isola.query.json_text import Part

_MARK = "\x02"
_ID = 36
_LOGGED = "\x03"


def of(share: ColumnElement[Any]) -> list[Part]:
    """SQL: the mark of a row that a share grants."""
    return [func.chr(ord(_MARK), type_=Text), share]


def taken(text: str) -> tuple[str, AbstractSet[str]]:
    """The text without its marks, and the shares whose rows it has."""
    first, *others = text.split(_MARK)
    return "".join([first, *(each[_ID:] for each in others)]), {each[:_ID] for each in others}


def of_subject(name: str) -> list[Part]:
    """SQL: the mark of a row of a subject."""
    mark = func.chr(ord(_LOGGED), type_=Text)
    return [mark, name, mark]


def counted(text: str) -> tuple[str, Counter[str]]:
    """The text without the marks of subjects, and the numbers of their rows in it."""
    parts = text.split(_LOGGED)
    return "".join(parts[::2]), Counter(parts[1::2])
