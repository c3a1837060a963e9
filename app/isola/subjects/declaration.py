"""Declares subjects: a subject is a class whose annotations are the columns and relations of its rows.

    class Agent(Subject, name="agent", prefix="agt", counted=True):
        name: str = column(max_length=200, unique=True)
        owner: User = reference(default=caller)
        executions: Many["Execution"] = many("agent")

The table, its GraphQL type and inputs, the mutations, permissions, audit log, quotas and sharing are derived from it.
An attribute ``class_`` is called ``class`` everywhere else: one trailing underscore is removed.
"""

import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from enum import Enum
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn, get_type_hints

from sqlalchemy import ColumnElement

from isola.subjects.metadata import Row
from isola.subjects.types import Annotation, read

if TYPE_CHECKING:
    from isola.subjects.subject import Subject

PLAIN = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
CLASS = re.compile("[A-Z][A-Za-z0-9]*")
PREFIX = re.compile(r"[a-z]{2,8}")
MAX_NAME = 40
"""Names of constraints and indexes contain these, and PostgreSQL truncates names to 63 characters."""

Order = Sequence[tuple[str, bool]]
"""Columns, and whether each is sorted in descending order."""


class DeclarationError(Exception):
    """An invalid declaration: the message names the class, the attribute, and what was expected."""


class _Unset:
    def __repr__(self) -> str:
        return "not set"


UNSET = _Unset()


class _Caller:
    """The default of a reference to users: the user who makes the row. Clients cannot set it."""


caller = _Caller()


def now() -> datetime:
    """The default of a moment: the time at which a row is made."""
    return datetime.now(UTC)


def today() -> date:
    """The default of a date: the day on which a row is made, in UTC."""
    return now().date()


@dataclass(frozen=True, kw_only=True)
class Attribute:
    description: str | None = None
    deprecated: str | None = None


@dataclass(frozen=True, kw_only=True)
class Column(Attribute):
    default: Any = UNSET
    max_length: int | None = None
    min_length: int = 0
    minimum: Any = None
    maximum: Any = None
    digits: int | None = None
    scale: int | None = None
    max_bytes: int | None = None
    unique: bool | str = False
    index: bool = False
    insensitive: bool = False
    grouped: bool = False
    languages: Sequence[str] = ()
    read_only: bool = False
    fixed: bool = False
    private: bool = False
    logged: bool | None = None

    @property
    def initial(self) -> Any:
        """The default, as a value."""
        made = callable(self.default) and not isinstance(self.default, Enum)
        return self.default() if made else self.default


@dataclass(frozen=True, kw_only=True)
class Reference(Attribute):
    default: Any = UNSET
    on_delete: str = "restrict"
    unique: bool = False
    grouped: bool = False
    read_only: bool = False
    fixed: bool = False
    owner: bool = False
    logged: bool = True


@dataclass(frozen=True, kw_only=True)
class Relation(Attribute):
    """Rows that reference this one by ``by``; or rows paired with it, if it is None or names the pairs' other side."""

    by: str | None


@dataclass(frozen=True, kw_only=True)
class Computed(Attribute):
    of: Callable[[Row], ColumnElement[Any]]


@dataclass(frozen=True, kw_only=True)
class Count(Attribute):
    """The number of the rows of the relation ``of``."""

    of: str


def column(
    *,
    default: Any = UNSET,
    max_length: int | None = None,
    min_length: int = 0,
    minimum: Any = None,
    maximum: Any = None,
    digits: int | None = None,
    scale: int | None = None,
    max_bytes: int | None = None,
    unique: bool | str = False,
    index: bool = False,
    insensitive: bool = False,
    grouped: bool = False,
    languages: Sequence[str] = (),
    read_only: bool = False,
    fixed: bool = False,
    private: bool = False,
    logged: bool | None = None,
    description: str | None = None,
    deprecated: str | None = None,
) -> Any:
    """A column, of the type of its annotation; ``| None`` lets it be empty.

    ``default`` is a value, or ``dict`` or ``list`` for an empty one, or ``now`` or ``today``. Texts have ``min_length``
    to ``max_length`` characters, numbers and dates are from ``minimum`` to ``maximum``, decimals have ``digits``,
    ``scale`` of them after the point. JSON documents have at most ``max_bytes``, as PostgreSQL writes them. ``unique``:
    unique in a tenant; a text is the name of the value in errors. Lists can be ordered by columns with an ``index`` or
    ``unique``. Filters can also compare an ``insensitive`` text without regard to case and accents: the database keeps
    it in this form in a further column, with an index. Lists can also be ordered by the rules of ``languages``, such as
    ``("de", "pt-BR")``, by a further column and index for each; this needs a PostgreSQL with ICU. Connections count
    their rows by the values of ``grouped`` columns, which need an index. Clients cannot set ``read_only`` columns, set
    ``fixed`` ones only when they make a row, and cannot see ``private`` ones. The audit log has the values of
    ``logged`` columns: by default, all that are not private. ``deprecated``, as on every attribute, is the reason why
    clients should not use it any more, and what they should use instead.
    """
    return Column(
        default=default,
        max_length=max_length,
        min_length=min_length,
        minimum=minimum,
        maximum=maximum,
        digits=digits,
        scale=scale,
        max_bytes=max_bytes,
        unique=unique,
        index=index,
        insensitive=insensitive,
        grouped=grouped,
        languages=languages,
        read_only=read_only,
        fixed=fixed,
        private=private,
        logged=logged,
        description=description,
        deprecated=deprecated,
    )


def reference(
    *,
    default: Any = UNSET,
    on_delete: str = "restrict",
    unique: bool = False,
    grouped: bool = False,
    read_only: bool = False,
    fixed: bool = False,
    owner: bool = False,
    logged: bool = True,
    description: str | None = None,
    deprecated: str | None = None,
) -> Any:
    """A relation to one row of the subject that the annotation names; ``| None`` lets it be empty.

    ``default=caller`` makes the user who makes a row its owner. ``on_delete`` of the referenced row: ``restrict``
    refuses it, ``cascade`` deletes this row too, ``set null`` clears the reference. ``unique``: no two rows reference
    the same row. Connections count their rows by ``grouped`` references. Clients cannot set ``read_only`` references,
    and set ``fixed`` ones only when they make a row. ``owner``: the user is the row's owner, as with
    ``default=caller``, but a rule has to decide who that can be. The audit log has the ids of ``logged`` references,
    also of rows that its reader may not see.
    """
    return Reference(
        default=default,
        on_delete=on_delete,
        unique=unique,
        grouped=grouped,
        read_only=read_only,
        fixed=fixed,
        owner=owner or default is caller,
        logged=logged,
        description=description,
        deprecated=deprecated,
    )


def many(by: str | None = None, *, description: str | None = None, deprecated: str | None = None) -> Any:
    """A relation to many rows of the subject in ``Many[…]``: those whose reference ``by`` points to this row.

    Without ``by`` it is many-to-many, stored in a table of pairs. On the other side, ``by`` names this attribute.
    """
    return Relation(by=by, description=description, deprecated=deprecated)


def computed(
    of: Callable[[Row], ColumnElement[Any]], *, description: str | None = None, deprecated: str | None = None
) -> Any:
    """A field that SQL computes from a row's columns, of the type of its annotation."""
    return Computed(of=of, description=description, deprecated=deprecated)


def count(of: str, *, description: str | None = None, deprecated: str | None = None) -> Any:
    """The number of the rows of a relation to many, of those that the caller may see: a field and a filter."""
    return Count(of=of, description=description, deprecated=deprecated)


def folded(column: str) -> str:
    """The name of the column that holds the texts of an insensitive column in the form to compare."""
    return f"{column}_folded"


def sorted_as(column: str, language: str) -> str:
    """The name of the column that is sorted by the rules of a language."""
    return f"{column}_sorted_{language.lower().replace('-', '_')}"


@cache
def field_of(name: str) -> str:
    """The clients' name of a column or an attribute: in camel case, as Strawberry makes it."""
    return re.sub("_([a-z0-9])", lambda found: found[1].upper(), name)


class Member:
    """An attribute of a subject. ``name`` has no underscore at the end."""

    def __init__(self, declaration: "Declaration", attribute: str, declared: Attribute) -> None:
        self.declaration = declaration
        self.name = attribute.removesuffix("_")
        self.attribute = attribute
        self.declared = declared

    @cached_property
    def annotation(self) -> Annotation:
        """Its parsed annotation, which may name a subject that is declared later. Raises DeclarationError."""
        subject = self.declaration.subject
        alone = type(subject.__name__, (), {"__annotations__": {self.attribute: self._written}})
        try:
            names = vars(sys.modules[subject.__module__])
            hints = get_type_hints(alone, globalns=names, localns=dict(Registry.by_class), include_extras=True)
        except NameError as error:
            expected = "expected a type that this module declares or imports, or a subject of the application"
            _refuse(self.where, f"the annotation: there is no {error.name!r}: {expected}")
        return read(hints[self.attribute])

    @property
    def where(self) -> str:
        """The attribute, as errors name it."""
        return f"{self.declaration.where}.{self.attribute}"

    @property
    def _written(self) -> Any:
        annotations = self.declaration.subject.__annotations__
        if self.attribute not in annotations:
            _refuse(self.where, "expected an annotation")
        return annotations[self.attribute]

    @cached_property
    def column(self) -> str:
        """The name of its column."""
        return f"{self.name}_id" if isinstance(self.declared, Reference) else self.name

    @property
    def folded(self) -> str | None:
        """The name of the column that holds it in the form to compare; None if there is none."""
        return folded(self.column) if isinstance(self.declared, Column) and self.declared.insensitive else None

    @property
    def sorted(self) -> Mapping[str, str]:
        """By the language, the names of the columns that are sorted by its rules."""
        languages = self.declared.languages if isinstance(self.declared, Column) else ()
        return {language: sorted_as(self.column, language) for language in languages}

    @property
    def target(self) -> "type[Subject]":
        return self.annotation.type  # type: ignore[no-any-return]  # checked when it was declared

    def read(self, value: Any) -> Any:
        """The attribute of a row for its column's value: for example a member of an enum, or the referenced row."""
        if value is None:
            return None
        if isinstance(self.declared, Reference):
            return self.target(id=value)
        enum = self.annotation.enum
        if enum is None:
            return value
        return list(map(enum, value)) if self.annotation.listed else enum(value)

    @property
    def is_settable(self) -> bool:
        """Whether clients can set it."""
        declared = self.declared
        if not isinstance(declared, Column | Reference):
            return False
        return not (declared.read_only or declared.default is caller or self.is_private)

    @property
    def is_fixed(self) -> bool:
        """Whether clients can set it only when they make a row."""
        return isinstance(self.declared, Column | Reference) and self.declared.fixed

    @property
    def is_private(self) -> bool:
        return isinstance(self.declared, Column) and self.declared.private

    @property
    def is_logged(self) -> bool:
        """Whether the audit log has its values."""
        logged = self.declared.logged if isinstance(self.declared, Column | Reference) else None
        return not self.is_private if logged is None else logged

    @property
    def has_default(self) -> bool:
        return self.annotation.optional or getattr(self.declared, "default", UNSET) is not UNSET


@dataclass
class Declaration:
    """A subject's declaration. ``mutations`` are the generated ones.

    They are some of ``create``, ``update``, ``upsert`` and ``delete``.
    """

    subject: "type[Subject]"
    name: str
    prefix: str
    plural: str
    counted: bool | str
    listed_as: str
    mutations: frozenset[str]
    order: Order
    permissions: Mapping[str, str]
    feature: str | None = None
    """The feature that everything of the subject requires."""
    consumes: str | None = None
    """The meter of which each new row consumes one."""
    kept: str | None = None
    """The column with the moment from which a plan keeps a row for a time."""
    consumed_by: str | None = None
    """The attribute with the customer who uses it."""
    settings: bool = False
    """Whether the rows are versions of settings of the tenant: see isola.subjects.settings."""
    own: Mapping[str, Attribute] = field(default_factory=dict)

    TIMES: ClassVar[Sequence[str]] = ("created_at", "updated_at")

    @property
    def where(self) -> str:
        """The class, as errors name it."""
        return f"{self.subject.__module__}.{self.subject.__qualname__}"

    @cached_property
    def members(self) -> Mapping[str, Member]:
        """All attributes by their names."""
        members = [Member(self, attribute, declared) for attribute, declared in self.own.items()]
        return {member.name: member for member in members}

    @cached_property
    def columns(self) -> Sequence[Member]:
        return [each for each in self.members.values() if isinstance(each.declared, Column | Reference)]

    @cached_property
    def references(self) -> Sequence[Member]:
        return [each for each in self.members.values() if isinstance(each.declared, Reference)]

    @cached_property
    def owner(self) -> Member | None:
        """The reference to the user who owns a row."""
        return next((each for each in self.references if getattr(each.declared, "owner", False)), None)

    @cached_property
    def grouped(self) -> Sequence[Member]:
        """The columns by whose values connections count their rows."""
        return [each for each in self.columns if getattr(each.declared, "grouped", False)]

    @cached_property
    def pairs(self) -> Sequence[Member]:
        """The relations that are stored in tables of pairs of this subject."""
        return [
            each for each in self.members.values() if isinstance(each.declared, Relation) and each.declared.by is None
        ]

    @cached_property
    def times(self) -> Sequence[str]:
        return self.TIMES if "update" in self.mutations else self.TIMES[:1]

    @property
    def received(self) -> str | None:
        """The view of what others share of it; None if a visibility rule decides for each of its rows."""
        return f"isola.received_{self.name}" if self.shared and self.subject.visible is None else None

    @cached_property
    def ordered_by(self) -> Sequence[str]:
        """The columns that rows can be ordered by: each has an index."""
        own = [
            each.column
            for each in self.columns
            if isinstance(each.declared, Column)
            and (each.declared.index or each.declared.unique)
            and not each.is_private
        ]
        return ["id", *own, "created_at"]

    @cached_property
    def keys(self) -> Sequence[Sequence[str]]:
        """The unique keys of columns that clients can set, or whose value is the caller."""
        unique: list[tuple[str, ...]] = [
            (each.column,) for each in self.columns if getattr(each.declared, "unique", False)
        ]
        unique += [tuple(map(self.column_of, names)) for names in self.subject.unique_together]
        return [key for key in dict.fromkeys(unique) if all(map(self._is_set_by_clients, key))]

    def _is_set_by_clients(self, column: str) -> bool:
        member = self.by_column(column)
        return member is not None and (member.is_settable or getattr(member.declared, "default", None) is caller)

    @property
    def upserted_by(self) -> Sequence[Sequence[str]]:
        """The keys by which clients can upsert rows; none if they cannot."""
        return self.keys if "upsert" in self.mutations else ()

    @property
    def shared(self) -> Sequence[str]:
        """The columns that can be shared with a partner."""
        return [self.column_of(name) for name in self.subject.shared]

    @property
    def searched(self) -> Sequence[str]:
        """The columns whose words are searched."""
        return [self.column_of(name) for name in self.subject.searched]

    @property
    def table_of_words(self) -> str:
        """The name of the table of these words."""
        return f"{self.plural}_words"

    def column_of(self, name: str) -> str:
        """The column of an attribute, or the column of that name."""
        member = self.members.get(name.removesuffix("_"))
        return name if member is None else member.column

    def by_column(self, column: str) -> Member | None:
        return self._by_column.get(column)

    @cached_property
    def _by_column(self) -> Mapping[str, Member]:
        return {each.column: each for each in self.columns}


class Registry:
    """All subjects that were declared in this process, by the names of their classes and by their own."""

    by_class: ClassVar[dict[str, "type[Subject]"]] = {}
    by_name: ClassVar[dict[str, "type[Subject]"]] = {}

    @classmethod
    def add(cls, declaration: Declaration) -> None:
        """Raises DeclarationError where another subject has the same name, plural, prefix or class name."""
        where = declaration.where
        for each in cls.subjects():
            for what in ("name", "plural", "prefix"):
                if getattr(each, what) == getattr(declaration, what):
                    _refuse(where, f"{each.where} has the same {what} {getattr(each, what)!r}: expected another one")
            if each.subject.__name__ == declaration.subject.__name__:
                _refuse(where, f"{each.where} has the same name: expected another one")
        cls.by_class[declaration.subject.__name__] = declaration.subject
        cls.by_name[declaration.name] = declaration.subject

    @classmethod
    def subjects(cls) -> Iterator[Declaration]:
        for subject in cls.by_name.values():
            yield subject.declaration


def _refuse(where: str, what: str) -> NoReturn:
    raise DeclarationError(f"{where}: {what}")
