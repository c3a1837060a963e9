"""Readable, unique names for subjects, attributes and relations."""

import keyword
import re
import unicodedata
from collections.abc import Iterable
from itertools import count

from isola.subjects.checks import KEY, RESERVED, VERSION
from isola.subjects.declaration import MAX_NAME, PREFIX
from isola.subjects.subject import Subject

# Names that the bodies of the generated classes use.
_USED = {"column", "computed", "date", "datetime", "dict", "list", "many", "now", "reference", "today"}
# Names with another meaning in filters.
_IN_FILTERS = {"and", "not", "or"}
_IN_INPUTS = {KEY, VERSION}
_EVERY_ROW = {"id", "created_at", "updated_at"} | RESERVED
_UNCOUNTABLE = {"data", "equipment", "information", "media", "metadata", "news", "series", "species", "staff"}
_IRREGULAR = {
    "analyses": "analysis",
    "buses": "bus",
    "children": "child",
    "cookies": "cookie",
    "indices": "index",
    "leaves": "leaf",
    "matrices": "matrix",
    "men": "man",
    "movies": "movie",
    "people": "person",
    "shelves": "shelf",
    "women": "woman",
}
_PLURALS = {single: plural for plural, single in _IRREGULAR.items()}
# After these endings the plural adds "es", not "s": addresses, boxes, churches, wishes.
_HISSING = ("ss", "x", "ch", "sh", "zz")


def plain(name: str, otherwise: str) -> str:
    """The name in lower case with single underscores, beginning with a letter; ``otherwise`` if nothing is left."""
    ascii_ = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    split = re.sub(r"([a-z0-9])([A-Z])|([A-Z])(?=[A-Z][a-z])", lambda found: f"{found[0][0]}_{found[0][1:]}", ascii_)
    found = re.sub(r"[^a-z0-9]+", "_", split.lower()).strip("_")
    if not found:
        return otherwise
    return (found if found[0].isalpha() else f"{otherwise}_{found}")[:MAX_NAME].rstrip("_")


def class_name(name: str) -> str:
    return "".join(part.capitalize() for part in name.split("_"))


def singular(word: str) -> str:
    """The singular of a plural word."""
    before, _, last = word.rpartition("_")
    return f"{before}_{_singular(last)}" if before else _singular(last)


def plural(word: str) -> str:
    before, _, last = word.rpartition("_")
    return f"{before}_{_plural(last)}" if before else _plural(last)


def _singular(word: str) -> str:
    if word in _IRREGULAR:
        return _IRREGULAR[word]
    if word in _UNCOUNTABLE or len(word) < 4 or not word.endswith("s") or word.endswith(("ss", "us", "is")):  # noqa: PLR2004  "bus"
        return word
    if word.endswith("ies"):
        return f"{word[:-3]}y"
    # "es" is the plural ending in statuses and viruses, but not in houses, causes and uses.
    if word.endswith("es") and (word[:-2].endswith(_HISSING) or re.search("..[^aeiou]uses$", word)):
        return word[:-2]
    return word[:-1]


def _plural(word: str) -> str:
    if word in _PLURALS:
        return _PLURALS[word]
    if re.search("[^aeiou]y$", word):
        return f"{word[:-1]}ies"
    return f"{word}es" if word.endswith((*_HISSING, "s")) else f"{word}s"


def free(candidates: Iterable[str], taken: Iterable[str]) -> str:
    """The first name that is not taken, or the last with a number. Names that differ only in underscores collide."""
    used = {each.replace("_", "") for each in taken}
    last = ""
    for each in candidates:
        last = each[:MAX_NAME].rstrip("_")
        if last.replace("_", "") not in used:
            return last
    for number in count(2):
        numbered = f"{last[: MAX_NAME - len(str(number))]}{number}"
        if numbered.replace("_", "") not in used:
            return numbered
    raise TypeError("there is always another number")


def attribute(name: str) -> str:
    """The attribute's name in Python, changed if it would clash with another meaning there."""
    return f"{name}_" if keyword.iskeyword(name) or name in _USED or name in vars(Subject) else name


def is_special(name: str) -> bool:
    """Whether the name is reserved, so that no attribute can have it."""
    return name in _EVERY_ROW | _IN_FILTERS | _IN_INPUTS


def prefix(name: str, taken: Iterable[str]) -> str:
    """The id prefix: three letters if they are free, otherwise more or other letters."""
    words = [letters for letters in (re.sub("[^a-z]", "", word) for word in name.split("_")) if letters]
    joined = "".join(words) or "row"
    initials = "".join(word[0] for word in words)
    consonants = joined[0] + re.sub("[aeiou]", "", joined[1:])
    wanted = [initials] if len(initials) > 2 else []  # noqa: PLR2004  two letters say little
    wanted += [f"{initials}{words[-1][1:]}"[:3]] if len(words) > 1 else [joined[:3]]
    wanted += [consonants[:3], *(joined[:size] for size in range(4, 9)), *(consonants[:size] for size in range(4, 9))]
    wanted += [f"{joined[:5]}{a}{b}" for a in "abcdefghijklmnopqrstuvwxyz" for b in "abcdefghijklmnopqrstuvwxyz"]
    known = set(taken)
    return next(each for each in wanted if PREFIX.fullmatch(each) and each not in known)


def reference(columns: list[str], target: str) -> str:
    """The name of a reference with these columns: ``album`` for album_id."""
    if len(columns) != 1:
        return target
    return re.sub("_(id|fk|key|code|no)$", "", columns[0]) or target


def member(label: str, number: int) -> str:
    """The name of an enum member, in Python and in GraphQL."""
    return plain(label, f"value_{number}").upper()
