"""Normalizes names of objects, rejects invisible characters, and compares names as people do.

A name is stored in NFC. If names are unique, the column ``name_key`` holds the form to compare: case-folded NFKC, which
Unicode guarantees to be stable. Tables of confusable characters do change between versions: so they are used only to
check new names, and nothing derived from them is stored.
"""

import re
import unicodedata
from collections.abc import Iterable
from functools import cache

from confusable_homoglyphs.confusables import confusables_data

from isola.errors import BadUserInput

KEY_GROWTH = 3
"""A key can be this many times longer than its name."""

_INVISIBLE = {"Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp"}
# Invisible characters of other categories: a joiner, fillers, silent vowels, selectors, an empty pattern.
_BLANK = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180d\u180f\u2800\u3164\ufe00-\ufe0d\uffa0\U000e0100-\U000e01ef]"
)
# The selectors of text or colour display of an emoji.
_STYLE = re.compile("[\ufe0e\ufe0f]")
_SPACES = re.compile(r"[ \u00a0\u1680\u2000-\u200a\u202f\u205f\u3000]+")
# The representative of letters and digits that look alike; those drawn as two letters come last.
_ALIKE = (("0", "o"), ("1", "l"), ("i", "l"), ("|", "l"), ("!", "l"), ("m", "rn"), ("w", "vv"))


def checked(field: str, text: str, most: int) -> str:
    """A name in its stored form: NFC, with single spaces between words and none around them.

    Raises BadUserInput, naming the field, if the result is empty or longer than ``most`` characters, or contains
    invisible characters: control and format characters, marks of direction, joiners and fillers.
    """
    # Normalizing a text of a million characters would take too long.
    name = _normalized(text) if len(text) <= KEY_GROWTH * most else ""
    if not 1 <= len(name) <= most:
        raise BadUserInput(f"{field}: expected 1 to {most} characters", field)
    if len(key(name)) > KEY_GROWTH * most:
        expected = f"at most {KEY_GROWTH * most} characters where compound ones are taken apart"
        raise BadUserInput(f"{field}: expected {expected}", field)
    if any(map(_is_invisible, name)):
        raise BadUserInput(f"{field}: expected visible characters", field)
    return name


def cleaned(text: str, most: int) -> str | None:
    """A name from a trusted source, without invisible characters, and truncated; None if nothing is left."""
    printable = "".join(" " if unicodedata.category(each) in {"Cc", "Zl", "Zp"} else each for each in text)
    return _normalized("".join(each for each in printable if not _is_invisible(each)))[:most].strip() or None


def key(name: str) -> str:
    """The form in which names are compared."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())


def looks_like(name: str, others: Iterable[str]) -> bool:
    """Whether people could confuse a name with one of others, which are in ASCII."""
    return _skeleton(name) in map(_skeleton, others)


def _normalized(text: str) -> str:
    return _SPACES.sub(" ", unicodedata.normalize("NFC", _STYLE.sub("", text))).strip(" ")


def _is_invisible(character: str) -> bool:
    return unicodedata.category(character) in _INVISIBLE or _BLANK.match(character) is not None


@cache
def _ascii(character: str) -> str:
    """The ASCII character that a character looks like; the character itself if there is none."""
    alike = (each["c"] for each in confusables_data.get(character, ()))
    return character if character.isascii() else next((each for each in alike if each.isascii()), character)


def _skeleton(name: str) -> str:
    """The skeleton of a name, as in Unicode TR39: without accents, and with one form for letters that look alike."""
    letters = unicodedata.normalize("NFKD", name)
    bare = "".join(_ascii(each) for each in letters if unicodedata.category(each) not in {"Mn", "Me"})
    folded = unicodedata.normalize("NFKD", bare.casefold())
    for each, instead in _ALIKE:
        folded = folded.replace(each, instead)
    return "".join(each for each in folded if each.isalnum())
