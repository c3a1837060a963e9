"""Drafts an application from a database, without conflicts with what is installed."""

import keyword

from graphql import GraphQLObjectType, build_schema

from isola import packages
from isola.adopting import catalogue, model, names, sampling, writing
from isola.adopting.model import Draft, Taken
from isola.database.transactions import Database
from isola.errors import OperatorError
from isola.subjects.declaration import Registry
from isola.subjects.types import KINDS

# Id prefixes of everything that is not a subject.
PREFIXES = {"cmt", "dom", "key", "prt", "ses", "shr", "srl", "ten"}


async def drafted(source: Database, schema: str, name: str | None) -> Draft:
    """The draft of an application for one schema of a database. Raises OperatorError."""
    async with source.unbound() as transaction:
        await catalogue.isolate(transaction)
        found = await catalogue.read(transaction, schema)
        if not found.tables:
            raise OperatorError(f"the schema {schema!r} of the source has no tables: expected some to adopt")
        application = name if name is not None else names.plain(found.database, "adopted")
        reason = packages.refusal(application)
        if reason is not None:
            raise OperatorError(f"{reason}, as --application")
        draft = model.draft(application, found, _taken())
        await sampling.sample(transaction, draft)
    return draft


def _taken() -> Taken:
    from isola.api.schema import schema  # noqa: PLC0415  as above

    built = build_schema(schema.as_str())
    fields = {"id", "node", "nodes"}
    for root in (built.query_type, built.mutation_type):
        if isinstance(root, GraphQLObjectType):
            fields |= {_snake(each) for each in root.fields}
    subjects = list(Registry.subjects())
    fields |= {name for each in subjects for name in (each.name, each.plural)}
    fields |= set(_tables())
    # If no application is installed, the schema uses only some of these scalars.
    scalars = {name for kind in KINDS.values() for name in (kind.graphql, kind.filter) if name is not None}
    return Taken(
        classes=frozenset({*built.type_map, *writing.RESERVED, *scalars}),
        fields=frozenset({*fields, *keyword.kwlist}),
        prefixes=frozenset({*PREFIXES, *(each.prefix for each in subjects)}),
    )


def _tables() -> list[str]:
    from isola.installed import metadata  # noqa: PLC0415  as above

    return list(metadata.tables)


def _snake(field: str) -> str:
    return names.plain(field, "field")
