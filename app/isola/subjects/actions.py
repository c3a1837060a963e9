"""Custom mutations of a subject: methods that clients can call, each for one row."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import NoneType
from typing import TYPE_CHECKING, Any, TypeVar, get_type_hints

from isola.subjects.declaration import PLAIN, DeclarationError, Registry
from isola.subjects.types import EXPECTED, read

if TYPE_CHECKING:
    from isola.subjects.subject import Subject

Method = TypeVar("Method", bound=Callable[..., Any])
_MARK = "_isola_action"
# ``self``, the transaction and the actor.
_FIRST = 3
_VARIABLE = {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD}


@dataclass(frozen=True, slots=True)
class Action:
    """A method that clients call. ``arguments`` are its own parameters, with their annotations."""

    name: str
    permission: str
    method: Callable[..., Any]
    description: str | None
    arguments: Mapping[str, inspect.Parameter]
    hints: Mapping[str, Any]
    deprecated: str | None = None

    @property
    def returns(self) -> "type[Subject] | None":
        """The subject of the row that it returns, if it returns one."""
        returned = self.hints.get("return")
        return returned if returned in Registry.by_class.values() else None


def action(
    *, permission: str | None = None, changes: bool = False, deprecated: str | None = None
) -> Callable[[Method], Method]:
    """Declare a mutation by a method ``async def execute(self, work, actor, *, …)``: clients call ``executeAgent``.

    It is called on the locked row whose id the client sends. The parameters after ``actor`` are the client's arguments:
    values of column types, or subjects, by their ids. It returns None, or a row that the client can read.
    ``permission`` defaults to ``agent:execute``; with ``changes``, the caller must be allowed to change the row. The
    docstring is the description that clients read. ``deprecated`` is the reason why they should not call it any more,
    and what they call instead.
    """

    def declare(method: Method) -> Method:
        setattr(method, _MARK, (permission, changes, deprecated))
        return method

    return declare


def actions_of(subject: "type[Subject]") -> Sequence[tuple[Action, bool]]:
    """The actions of a subject, and whether each requires that the caller may change the row.

    Raises DeclarationError for an invalid method.
    """
    return [
        (_read(subject, name, method), method.__dict__[_MARK][1])
        for name, method in vars(subject).items()
        if inspect.isfunction(method) and _MARK in method.__dict__
    ]


def _read(subject: "type[Subject]", name: str, method: Callable[..., Any]) -> Action:
    permission, _, deprecated = method.__dict__[_MARK]
    place = f"{subject.declaration.where}.{name}"
    parameters = inspect.signature(method).parameters
    if len(parameters) < _FIRST or not inspect.iscoroutinefunction(method):
        raise DeclarationError(f"{place}: expected async def {name}(self, work, actor, *, …)")
    if not PLAIN.fullmatch(name) or any(name in vars(base) for base in subject.__mro__[1:]):
        raise DeclarationError(f"{place}: expected another name, in lower case with underscores")
    try:
        hints = get_type_hints(method, localns=dict(Registry.by_class), include_extras=True)
    except NameError as error:
        raise DeclarationError(f"{place}: an annotation: there is no {error.name!r}") from error
    arguments = dict(list(parameters.items())[_FIRST:])
    for argument, parameter in arguments.items():
        annotation = read(hints.get(argument))
        is_subject = annotation.type in Registry.by_class.values() and not annotation.listed
        if argument.removesuffix("_") == "id" or parameter.kind in _VARIABLE or not (annotation.kind or is_subject):
            raise DeclarationError(f"{place}: {argument}: expected an argument that is one of {EXPECTED}")
    made = Action(
        name,
        permission or f"{subject.declaration.name}:{name}",
        method,
        inspect.getdoc(method),
        arguments,
        hints,
        deprecated,
    )
    if hints.get("return", NoneType) is not NoneType and made.returns is None:
        raise DeclarationError(f"{place}: expected to return None or a subject")
    return made
