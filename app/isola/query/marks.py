"""Marks the rows that other tenants share, in the result of a statement: the owners' logs have what was read of them.

A mark is a character that no JSON text has, and the id of the share that grants the row. The statement writes it in
front of the row's object; ``taken`` removes it before anybody else gets the text.
"""

from collections.abc import Set as AbstractSet
from typing import Any

from sqlalchemy import ColumnElement, Text, func

from isola.query.json_text import Part

_MARK = "\x02"
_ID = 36


def of(share: ColumnElement[Any]) -> list[Part]:
    """SQL: the mark of a row that a share grants."""
    return [func.chr(ord(_MARK), type_=Text), share]


def taken(text: str) -> tuple[str, AbstractSet[str]]:
    """The text without its marks, and the shares whose rows it has."""
    first, *others = text.split(_MARK)
    return "".join([first, *(each[_ID:] for each in others)]), {each[:_ID] for each in others}
