"""The prefixes of ids, for each input of the schema that takes an id."""

from collections import defaultdict
from collections.abc import Collection, Mapping

from isola.api.schema import model
from isola.installed import SUBJECTS
from isola.subjects.declaration import field_of
from isola.subjects.table import pair_columns

OF_TYPES: Mapping[str, str] = {name: entity.prefix for name, entity in model.entities.items() if entity.prefix}
"""The id prefixes of types, by their names."""


def in_input(input_: str, field: str) -> Collection[str]:
    """The id prefixes of an input's field; nothing if any type is possible."""
    if field not in {"id", "ids"}:
        return _BY_FIELD.get(field, ())
    about = input_.removesuffix("Input").lower()
    return {prefix for name, prefix in _BY_NAME.items() if about.endswith(name)}


def _by_field() -> Mapping[str, Collection[str]]:
    found: dict[str, set[str]] = defaultdict(set)
    for subject in SUBJECTS:
        declaration = subject.declaration
        found[field_of(f"{declaration.name}_id")].add(declaration.prefix)
        for member in declaration.references:
            found[field_of(member.column)].add(member.target.declaration.prefix)
        for member in declaration.pairs:
            near, far = pair_columns(declaration, member)
            found[field_of(near)].add(declaration.prefix)
            found[field_of(far)].add(member.target.declaration.prefix)
    return found


_BY_FIELD = _by_field()
_BY_NAME = {
    name.replace("_", ""): each.declaration.prefix
    for each in SUBJECTS
    for name in (each.declaration.name, each.declaration.plural)
}
