"""Input handling common to all root fields.

Texts that PostgreSQL cannot store are refused, and each refusal names the invalid input by its full path.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence, Set as AbstractSet
from inspect import isawaitable
from typing import Any, TypeAlias

from graphql import (
    GraphQLField,
    GraphQLInputObjectType,
    GraphQLInputType,
    GraphQLObjectType,
    GraphQLResolveInfo,
    get_named_type,
)

from isola.errors import BadUserInput, NotFound, Refusal
from isola.query.arguments import storable

INPUT = "input"
"""The single argument of most mutations. Clients know a rule's field ``name`` as ``input.name``."""

ITEMS = "items"
"""Its field that holds the inputs of several rows."""

Path: TypeAlias = tuple[str, ...]
_TEXTS = {"String", "ID"}


def guard(type_: GraphQLObjectType | None, *, unchecked: AbstractSet[str] = frozenset()) -> None:
    """Make the resolvers of a type's fields refuse texts that cannot be stored, and name inputs as clients do.

    The resolvers of ``unchecked`` fields receive all texts unchecked.
    """
    for name, field in type_.fields.items() if type_ else ():
        if field.resolve is not None and field.args:
            field.resolve = _guarded(field, field.resolve, checks=name not in unchecked)


def _guarded(field: GraphQLField, resolve: Callable[..., Any], *, checks: bool) -> Callable[..., Any]:
    texts = [each for name, argument in field.args.items() for each in _texts((name,), argument.type, ())]
    ids = [path for path, type_ in texts if type_ == "ID"]
    checked = [path for path, _ in texts] if checks else []

    async def finished(result: Any, arguments: Mapping[str, Any]) -> Any:
        try:
            return await result
        except Refusal as refusal:
            refusal.field = _wrong(refusal, arguments, [path for path in ids if _at(arguments, path) is not None])
            raise

    def resolve_guarded(source: Any, info: GraphQLResolveInfo[Any], **arguments: Any) -> Any:
        for path in checked:
            _refuse_unstorable(arguments, path, ())
        result = resolve(source, info, **arguments)
        return finished(result, arguments) if isawaitable(result) else result

    return resolve_guarded


def _wrong(refusal: Refusal, arguments: Mapping[str, Any], ids: Sequence[Path]) -> str | None:
    """The path of the refused input, as clients write it. ``ids`` are the paths of the ids that the client gave."""
    if isinstance(refusal, NotFound) and len(ids) == 1 and refusal.item is None:
        return ".".join(ids[0])
    named = refusal.field
    if refusal.item is not None:
        return _of_item(refusal, refusal.item, arguments)
    if named is None and refusal.rule is not None:
        return _ruled(refusal.rule, arguments)
    if named is None or INPUT not in arguments or named.partition(".")[0] in arguments:
        return named
    return f"{INPUT}.{named}"


def _of_item(refusal: Refusal, item: str, arguments: Mapping[str, Any]) -> str:
    """The path of the refused input in a list: ``item`` is the path of the list item, such as ``items.3``."""
    name, _, index = item.partition(".")
    named, place = refusal.field, f"{INPUT}.{item}"
    if named is None and refusal.rule is not None:
        ruled = _ruled(refusal.rule, {INPUT: arguments[INPUT][name][int(index)]})
        return place if ruled is None else f"{place}{ruled.removeprefix(INPUT)}"
    return place if named in {None, name} else f"{place}.{named}"


def _ruled(rule: str, arguments: Mapping[str, Any]) -> str | None:
    """The path of the input that violated a database constraint; the last one if its name contains several."""
    inside = arguments.get(INPUT)
    paths: list[Path] = [(name,) for name in arguments]
    paths += [(INPUT, name) for name in inside] if isinstance(inside, Mapping) else []
    places = {f"_{rule}_".rfind(f"_{_snake(path[-1])}_"): ".".join(path) for path in paths}
    last = max(places, default=-1)
    if last >= 0:
        return places[last]
    items = inside.get(ITEMS) if isinstance(inside, Mapping) else None
    # The violated constraint does not tell which item it was.
    return f"{INPUT}.{ITEMS}" if isinstance(items, list) and any(isinstance(each, Mapping) for each in items) else None


def _snake(name: str) -> str:
    """The name of the column that stores an input, in snake case."""
    return "".join(f"_{each.lower()}" if each.isupper() else each for each in name)


def _texts(
    path: Path, type_: GraphQLInputType, within: tuple[GraphQLInputObjectType, ...]
) -> Iterator[tuple[Path, str]]:
    """The paths of all texts in an argument, with their types. Recursive inputs are not followed."""
    named = get_named_type(type_)
    if isinstance(named, GraphQLInputObjectType) and named not in within:
        for name, field in named.fields.items():
            yield from _texts((*path, name), field.type, (*within, named))
    elif named.name in _TEXTS:
        yield path, named.name


def _at(arguments: Any, path: Path) -> Any:
    for name in path:
        arguments = arguments.get(name) if isinstance(arguments, Mapping) else None
    return arguments


def _refuse_unstorable(arguments: Any, path: Path, at: Path) -> None:
    """Raise BadUserInput for a text below ``path`` that cannot be stored; ``at`` is the path of ``given``."""
    match arguments:
        case str() if not storable(arguments):
            place = ".".join(at)
            raise BadUserInput(f"{place}: expected a text without characters that cannot be stored", place)
        case list():
            for index, each in enumerate(arguments):
                _refuse_unstorable(each, path, (*at, str(index)))
        case Mapping() if path and path[0] in arguments:
            _refuse_unstorable(arguments[path[0]], path[1:], (*at, path[0]))
