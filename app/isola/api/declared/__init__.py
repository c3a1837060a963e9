"""The GraphQL types of declared subjects, with their filters, orderings, queries, mutations and subscriptions.

The types are equivalent to hand-written ones with isola.api.fields, and are attributes of isola.api.subject_types,
where Strawberry finds them by name. In annotations of hand-written types, a subject's class stands for its type.
"""

from collections.abc import Sequence
from typing import NamedTuple

import strawberry
from strawberry.utils.str_converters import to_camel_case

from isola.api import subject_types
from isola.api.access import Requires
from isola.api.connections import declare_scoped
from isola.api.declared.changes import changes_of
from isola.api.declared.groups import declare_groups
from isola.api.declared.making import connection_of, made_class
from isola.api.declared.mutations import mutations_of
from isola.api.declared.settings import changes_of_settings, in_force_of
from isola.api.declared.types import declare_filter, declare_order, declare_type, extend
from isola.api.fields import by_id, many
from isola.subjects.declaration import Declaration
from isola.subjects.subject import Subject

__all__ = ["Fields", "declare", "extend"]


class Fields(NamedTuple):
    """The root fields of a subject."""

    queries: type
    mutations: type | None
    subscriptions: type


def declare(subjects: Sequence[type[Subject]]) -> Sequence[Fields]:
    """Make the types of subjects. Raises DeclarationError for an invalid subject."""
    # Types refer to each other, so all of them must exist before the schema resolves the references.
    for subject in subjects:
        declare_filter(subject.declaration)
        declare_order(subject.declaration)
        declare_groups(subject.declaration)
        declare_scoped(subject)
    for subject in subjects:
        declare_type(subject)
    return [_fields(subject) for subject in subjects]


def _fields(subject: type[Subject]) -> Fields:
    declaration = subject.declaration
    name = subject.__name__
    access = Requires(permission=declaration.permissions["read"])
    filter_, order = getattr(subject_types, f"{name}Filter"), getattr(subject_types, f"{name}Order")
    listed = many(
        filter=filter_,
        order=order,
        scoped=True,
        description=_listed(declaration),
        access=access,
        feature=declaration.feature,
    )
    by_key = by_id(
        "Null if no object has this id or the caller may not read it.", access=access, feature=declaration.feature
    )
    fields = {
        declaration.name: (subject | None, by_key),
        declaration.listed_as: (connection_of(subject) | None, listed),
    }
    made = mutations_of(declaration)
    if declaration.settings:
        fields[f"current_{declaration.name}"] = in_force_of(declaration)
        made |= changes_of_settings(declaration)
    queries = strawberry.type(made_class(f"{name}Queries", fields))
    mutations = (
        strawberry.type(type(f"{name}Mutations", (), {"__module__": subject_types.__name__, **made})) if made else None
    )
    return Fields(queries, mutations, changes_of(declaration))


def _listed(declaration: Declaration) -> str:
    column, descends = declaration.order[0]
    if column == "created_at":
        return f"By default {'newest' if descends else 'oldest'} first."
    by = "the order of creation" if column == "id" else f"the order of {to_camel_case(column)}"
    return f"By default in {by}{', descending' if descends else ''}."
