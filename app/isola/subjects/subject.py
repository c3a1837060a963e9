"""The base class of subjects: reads and changes rows inside a transaction that the caller has opened."""

from collections.abc import Callable, Mapping, Sequence, Set as AbstractSet
from keyword import iskeyword
from random import Random
from typing import Any, ClassVar, Self
from uuid import UUID

from sqlalchemy import ColumnElement, Table, func, select

from isola.errors import NotFound, Refusal
from isola.subjects import values
from isola.subjects.actor import ALLOWED, Actor, Decision, Denied
from isola.subjects.declaration import (
    CLASS,
    MAX_NAME,
    PLAIN,
    PREFIX,
    Attribute,
    Declaration,
    DeclarationError,
    Order,
    Registry,
)
from isola.subjects.metadata import quoted
from isola.subjects.settings import NUMBER, add_attributes
from isola.subjects.table import table_of
from isola.subjects.work import Work

MUTATIONS = frozenset({"create", "update", "upsert", "delete"})
PERMISSIONS = frozenset({"read", "write", "manage"})
_IN_THE_LINE = frozenset(
    {
        "name",
        "prefix",
        "plural",
        "counted",
        "consumes",
        "consumed_by",
        "kept",
        "listed_as",
        "mutations",
        "order",
        "permissions",
    }
)
_PLAIN_VALUES = str, bool, tuple, list, set, frozenset, dict
UNSHARED = select(func.isola.revoke_shares_of(func.unnest(values.KEYS)))


class _Declared:
    """``Agent.declaration``, set when the class is created."""

    def __get__(self, instance: object, owner: "type[Subject]") -> Declaration:
        return owner._declaration  # noqa: SLF001  its own


class _Table:
    """``Agent.table``, made on first access: by then all subjects that it refers to are declared."""

    def __get__(self, instance: object, owner: "type[Subject]") -> Table:
        if (table := owner.__dict__.get("_made")) is None:
            table = owner._made = table_of(owner.declaration)  # noqa: SLF001  its own
        return table


class Subject:
    """A row of a subject. Its columns are attributes; a reference is a row with only its ``id``.

    Class attributes besides the columns:

    ``unique_together``, ``indexes``: tuples of attributes. ``checks``: conditions in SQL, by their names.
    ``shared``: the attributes that can be shared with a partner.
    ``visible``: ``(row, user) -> condition``, which rows a user may read; by default, all. With a third parameter, the
    rule can ask for the user's permissions: ``may("agent:read_all")`` is a condition as well. A policy of the database
    enforces the rule, for the user that the transaction has proved.
    ``searched``: the attributes with the texts in which clients search for words, of the language ``searched_as``: a
    configuration of PostgreSQL's text search, such as ``english``; by default ``simple``, which knows no language.
    ``samples``: ``attribute -> (random, row) -> value``, for generated rows, if other values would violate ``checks``;
    ``row`` has the values of the preceding columns, by their names.

    The methods do not check permissions: mutations do that first, and so must all other callers.
    """

    id: UUID

    declaration: ClassVar[_Declared] = _Declared()
    table: ClassVar[_Table] = _Table()

    unique_together: ClassVar[Sequence[Sequence[str]]] = ()
    indexes: ClassVar[Sequence[Sequence[str]]] = ()
    checks: ClassVar[Mapping[str, str]] = {}
    shared: ClassVar[Sequence[str]] = ()
    searched: ClassVar[Sequence[str]] = ()
    searched_as: ClassVar[str] = "simple"
    visible: ClassVar[Any] = None  # a Visible, which mypy would take for a method
    samples: ClassVar[Mapping[str, Callable[[Random, Mapping[str, Any]], Any]]] = {}
    application: ClassVar[str] = "isola"

    _declaration: ClassVar[Declaration]
    _made: ClassVar[Table]

    def __init_subclass__(
        cls,
        *,
        name: str,
        prefix: str,
        plural: str | None = None,
        counted: bool | str = False,
        consumes: str | None = None,
        kept: str | None = None,
        consumed_by: str | None = None,
        listed_as: str | None = None,
        mutations: AbstractSet[str] = MUTATIONS,
        order: Sequence[str] = ("id",),
        permissions: Mapping[str, str] | None = None,
        feature: str | None = None,
        settings: bool = False,
    ) -> None:
        """Declare a subject.

        ``name`` is the name of one row (``agent``), ``plural`` that of the table, and of the list unless ``listed_as``
        is given; ``prefix`` is the prefix of ids. ``counted`` adds a quota, named as the plural: of all rows, or of
        those that fulfil a condition in SQL. ``consumes`` is a meter of which each new row consumes one: see
        docs/metering.md; ``consumed_by`` is the attribute with the customer who uses it. ``kept`` is the column with
        the moment from which on a plan keeps a row for some days, such as ``created_at``: see docs/retention.md.
        ``mutations`` are the generated mutations. ``order`` is the default order of lists: columns, with a ``-`` before
        those in descending order. ``permissions`` has the names for ``read``, ``write`` and ``manage`` if they are not
        ``agent:read`` and so on. ``feature`` is the feature of a tenant's plan that all fields and mutations of the
        subject require. ``settings``: the attributes are settings of the tenant, and each row is a version of all of
        them; see isola.subjects.settings.

        Raises DeclarationError.
        """
        super().__init_subclass__()
        where = f"{cls.__module__}.{cls.__qualname__}"
        if settings:
            _refuse_beside_settings(where, mutations, order)
            add_attributes(cls)
            plural, listed_as = plural or f"{name}_versions", listed_as or f"{name}_history"
            order, mutations = (f"-{NUMBER}",), frozenset()
            permissions = {"write": f"{name}:manage"} | dict(permissions or {})
        plural = plural or f"{name}s"
        if not CLASS.fullmatch(cls.__name__):
            raise DeclarationError(f"{where}: expected a class with a name such as Agent")
        for kind, text in (("name", name), ("plural", plural), ("listed_as", listed_as or plural)):
            if not PLAIN.fullmatch(text) or len(text) > MAX_NAME:
                raise DeclarationError(
                    f"{where}: {kind}: expected lower case with underscores, at most {MAX_NAME} characters"
                )
            if iskeyword(text):
                raise DeclarationError(f"{where}: {kind}: expected a word that Python does not reserve")
        if name == plural:
            raise DeclarationError(f"{where}: plural: expected another word than the name")
        if quoted(plural) != plural:
            raise DeclarationError(f"{where}: plural: expected a word that SQL does not reserve")
        if not PREFIX.fullmatch(prefix):
            raise DeclarationError(f"{where}: prefix: expected 2 to 8 letters in lower case")
        _refuse_mutations(where, mutations)
        if set(permissions or {}) - PERMISSIONS:
            raise DeclarationError(f"{where}: permissions: expected some of {', '.join(sorted(PERMISSIONS))}")
        cls._declaration = Declaration(
            subject=cls,
            name=name,
            prefix=prefix,
            plural=plural,
            counted=counted,
            consumes=consumes,
            kept=kept,
            consumed_by=consumed_by,
            listed_as=listed_as or plural,
            mutations=frozenset(mutations),
            order=_order(order),
            permissions={kind: f"{name}:{kind}" for kind in PERMISSIONS} | dict(permissions or {}),
            feature=feature,
            settings=settings,
            own={each: declared for each, declared in vars(cls).items() if isinstance(declared, Attribute)},
        )
        _refuse_attributes(cls)
        Registry.add(cls._declaration)

    def __init__(self, **values: Any) -> None:
        """A row with ``values``, by the names of its columns; the others are not set."""
        for member in self.declaration.columns:
            if member.column in values:
                setattr(self, member.attribute, member.read(values[member.column]))
        for name in ("id", *self.declaration.times):
            if name in values:
                setattr(self, name, values[name])

    def __getattribute__(self, name: str) -> Any:
        value = super().__getattribute__(name)
        if not isinstance(value, Attribute):
            return value
        raise AttributeError(f"{type(self).__name__}.{name} was not read: get the row by its id")

    # Hooks that a subject may override.

    async def before_create(self, work: Work, actor: Actor) -> None:
        """Called on the row that is to be made. It may change its attributes, or raise a Refusal."""

    async def before_update(self, work: Work, actor: Actor, changes: dict[str, Any]) -> None:
        """Called on the current row, locked. It may modify ``changes``, or raise a Refusal.

        These are the new values, by attribute: a reference is a row with only its ``id``.
        """

    async def before_delete(self, work: Work, actor: Actor) -> None:
        """Called on the current row, locked. It may raise a Refusal."""

    def may_change(self, actor: Actor) -> Decision:
        """Whether an actor with the write permission may change this row: its owner may, and actors with ``manage``."""
        owner = self.declaration.owner
        manage = self.declaration.permissions["manage"]
        if owner is None or manage in actor.permissions:
            return ALLOWED
        of = getattr(self, owner.attribute)
        if of is not None and of.id == actor.user_id:
            return ALLOWED
        name = self.declaration.name
        return Denied(f"only the owner of this {name} or a user with the permission {manage}")

    # Methods for rules.

    @classmethod
    async def create(cls, work: Work, actor: Actor, **given: Any) -> Self:
        """Make a row from values by attribute; references are rows or keys.

        Raises BadUserInput naming the invalid field, NotFound for the target of a reference, and Conflict.
        """
        [row] = await cls.create_all(work, actor, [given])
        return row

    @classmethod
    async def create_all(cls, work: Work, actor: Actor, batch: Sequence[Mapping[str, Any]]) -> list[Self]:
        """Make many rows by one statement: all of them or none. Raises as ``create``."""
        has_rule = cls.before_create is not Subject.before_create
        made: list[Self] = []
        stored = []
        for given in batch:
            try:
                complete = values.complete(cls.declaration, given, actor)
                row = cls(**complete)
                if has_rule:
                    await row.before_create(work, actor)
                    complete = values.stored(cls.declaration, row)
            except Refusal as refusal:
                refusal.index = len(made)
                raise
            made.append(row)
            stored.append(complete)
        await values.refuse_missing(work, cls.declaration, stored)
        keys = await values.insert_all(work, cls.declaration, stored)
        for row, key in zip(made, keys, strict=True):
            row.id = key
        return made

    @classmethod
    async def get(cls, work: Work, key: UUID) -> Self:
        """The row with an id, if the transaction's user may see it. Raises NotFound."""
        rows = await cls.find(work, cls.table.c.id == key)
        if not rows:
            raise cls.missing()
        return rows[0]

    @classmethod
    async def lock(cls, work: Work, key: UUID, *, only: Sequence[str] | None = None) -> Self:
        """The same, locked until the end of the transaction; with ``only``, just these columns are read."""
        [row] = await cls.lock_all(work, [key], only=only)
        return row

    @classmethod
    async def lock_all(cls, work: Work, keys: Sequence[UUID], *, only: Sequence[str] | None = None) -> list[Self]:
        """The rows with these ids by one statement, by id, without duplicates. Raises NotFound if any is missing."""
        names = ("id", *only) if only is not None else tuple(cls.table.c.keys())
        rows = await values.locked(work, cls.declaration, keys, names)
        if len(rows) < len(set(keys)):
            existing = {row["id"] for row in rows}
            missing = cls.missing()
            missing.index = next(index for index, key in enumerate(keys) if key not in existing)
            raise missing
        return [cls(**row) for row in rows]

    @classmethod
    def missing(cls) -> NotFound:
        """The error for a row that does not exist, or that the user may not see."""
        return NotFound(f"there is no such {cls.declaration.name.replace('_', ' ')}")

    @classmethod
    async def find(cls, work: Work, *conditions: ColumnElement[bool], most: int = 1000) -> list[Self]:
        """The rows that fulfil conditions on ``Agent.table.c`` and that the user may see, sorted by id."""
        query = select(cls.table).where(*conditions)
        return [cls(**row) for row in await work.rows(query.order_by(cls.table.c.id).limit(most))]

    async def update(self, work: Work, actor: Actor, **changes: Any) -> None:
        """Change a locked row. Raises BadUserInput, NotFound for the target of a reference, and Conflict."""
        new = values.checked(self.declaration, changes)
        if type(self).before_update is not Subject.before_update:
            changed = values.by_attribute(self.declaration, new)
            await self.before_update(work, actor, changed)
            new = values.checked(self.declaration, changed)
        await values.refuse_missing(work, self.declaration, [new])
        await values.change(work, self.declaration, self.id, new)
        for name, value in values.by_attribute(self.declaration, new).items():
            setattr(self, name, value)

    async def delete(self, work: Work, actor: Actor) -> None:
        """Delete a locked row, and end its shares. Raises Conflict while other rows refer to it."""
        await self.delete_all(work, actor, [self])

    @classmethod
    async def delete_all(cls, work: Work, actor: Actor, rows: Sequence[Self]) -> None:
        """Delete locked rows by one statement. Raises as ``delete``."""
        for index, row in enumerate(rows):
            try:
                await row.before_delete(work, actor)
            except Refusal as refusal:
                refusal.index = index
                raise
        keys = [row.id for row in rows]
        if cls.shared:
            await work.rows(UNSHARED, {"row__ids": keys})
        await values.remove(work, cls.declaration, keys)


def _order(order: Sequence[str]) -> Order:
    columns = [(each.removeprefix("-"), each.startswith("-")) for each in order]
    if all(name != "id" for name, _ in columns):
        columns.append(("id", bool(columns) and columns[-1][1]))
    return tuple(columns)


def _refuse_mutations(where: str, mutations: AbstractSet[str]) -> None:
    if not isinstance(mutations, AbstractSet) or not mutations <= MUTATIONS:
        raise DeclarationError(f"{where}: mutations: expected a set of some of {', '.join(sorted(MUTATIONS))}")
    if "upsert" in mutations and not {"create", "update"} <= mutations:
        raise DeclarationError(f"{where}: mutations: upsert: expected create and update as well")


def _refuse_beside_settings(where: str, mutations: AbstractSet[str], order: Sequence[str]) -> None:
    if mutations != MUTATIONS or tuple(order) != ("id",):
        raise DeclarationError(f"{where}: settings have mutations and an order of their own: expected none")


def _refuse_attributes(subject: type[Subject]) -> None:
    """Raise DeclarationError for an attribute that hides one of the base class, or that has only an annotation.

    So is a value in the class that would be ignored there: it belongs in the class line.
    """
    where = subject.declaration.where
    unannotated = vars(subject).keys() - subject.__annotations__.keys()
    for each in sorted(_IN_THE_LINE & unannotated):
        if isinstance(vars(subject)[each], _PLAIN_VALUES):
            raise DeclarationError(f"{where}.{each}: expected it in the class line: class …(Subject, {each}=…)")
    taken = [each for each in subject.declaration.own if each in vars(Subject)]
    if taken:
        raise DeclarationError(f"{where}.{taken[0]}: every subject has this attribute: expected {taken[0]}_")
    for each, annotation in subject.__annotations__.items():
        if each not in vars(subject) and not each.startswith("_") and "ClassVar" not in str(annotation):
            raise DeclarationError(f"{where}.{each}: expected a value: column(), reference(), many() or computed()")
