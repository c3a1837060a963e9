"""An invalid mapping fails when the model is created, and the error names the field."""

from collections.abc import Mapping
from typing import Any

import pytest
from graphql import build_schema
from sqlalchemy import BigInteger, Column, Integer, MetaData, Table, Text, Uuid

from isola.query.mapping import (
    Comparison,
    Entity,
    Field,
    Function,
    Join,
    Lookup,
    Many,
    MappingError,
    Model,
    Needs,
    One,
    Parameters,
    Part,
    Related,
    Value,
)

SCHEMA = build_schema("""
  scalar BigInt
  type Query { thing(id: ID): Thing things(filter: ThingFilter, orderBy: [ThingOrder!]): ThingConnection! }
  type Thing { id: ID! name: String! size: Int }
  type ThingConnection { nodes: [Thing!]! }
  input ThingFilter { name: String }
  input ThingOrder { field: ThingOrderField }
  enum ThingOrderField { name }
""")
THINGS = Table(
    "things",
    MetaData(),
    Column("id", Uuid, primary_key=True),
    Column("name", Text, nullable=False),
    Column("note", Text),
    Column("size", Integer),
    Column("large", BigInteger),
)
GOOD: dict[str, Field] = {"id": Value("id", "thg"), "name": Value("name"), "size": Value("size")}
ROOT: dict[str, Field] = {"thing": Lookup(), "things": Many()}
NAMED = Comparison("name")


def function(*arguments: str, without: str = "", nullable: bool = False) -> Function:
    columns = [
        Column("id", Uuid, nullable=False),
        Column("name", Text, nullable=nullable),
        Column("size", Integer),
    ]
    return Function("f", tuple(column for column in columns if column.name != without), arguments)


def model(
    fields: Mapping[str, Field | None],
    root: Mapping[str, Field] = ROOT,
    left: Mapping[str, Needs] | None = None,
    compared: Comparison | Related = NAMED,
    **options: Any,
) -> Model:
    kept = {name: field for name, field in {**GOOD, **fields}.items() if field is not None}
    entities = {
        "Query": Entity(Parameters({"user_id": Uuid()}), {**ROOT, **root}),
        "Thing": Entity(THINGS, kept, "thg", **options),
    }
    return Model(SCHEMA, entities, {"ThingFilter": {"name": compared}}, left or {})


def test_one_that_fits() -> None:
    assert model({}).by_prefix == {"thg": "Thing"}


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"name": None}, "Thing.name: has neither a mapping nor a resolver"),
        ({"more": Value("name")}, "Thing.more: is mapped but is not a field"),
        ({"name": Value("nothing")}, "Thing.name: there is no column nothing"),
        ({"name": Value("note")}, "Thing.name: is never null, but column note can be"),
        ({"name": Value("size")}, "Thing.name: is String, but column size is"),
        ({"size": Value("large")}, "Thing.size: is Int, but column large holds larger"),
        ({"id": Value("id")}, "Thing.id: is an ID without a prefix"),
        ({"name": Value("name", "thg")}, "Thing.name: has a prefix but is not an ID"),
        ({"name": Part({})}, "Thing.name: leads to String, which is not mapped"),
        ({"name": One(Join("id"))}, "Thing.name: leads to String"),
        ({"name": Many()}, "Thing.name: is mapped as a connection, but String is none"),
        ({"name": Lookup()}, "Thing.name: looks up by id but takes neither"),
    ],
)
def test_fields_that_do_not_fit(fields: dict[str, Field | None], said: str) -> None:
    with pytest.raises(MappingError) as caught:
        model(fields)
    assert str(caught.value).startswith(said)


@pytest.mark.parametrize(
    ("root", "said"),
    [
        ({"thing": Value("user_id")}, "Query.thing: is mapped as a value, but Thing has fields"),
        ({"thing": One()}, "Query.thing: declares neither a join"),
        ({"thing": One(Join("nothing"))}, "Query.thing: there is no column nothing"),
        ({"thing": One(Join("user_id", "nothing"))}, "Query.thing: there is no column nothing"),
        ({"thing": Part({"nothing": "user_id"})}, "Query.thing: there is no column nothing"),
        ({"things": Many(Join("user_id", "id", THINGS, "x", "id"))}, "Query.things: there is no column x"),
        ({"things": Many(source=function(without="id"))}, "Query.things (Thing.id): there is no column id"),
        ({"thing": One(source=function(without="size"))}, "Query.thing (Thing.size): there is no column size"),
        ({"thing": One(source=function(nullable=True))}, "Query.thing: column name can be null in f, not in Thing"),
        ({"things": Many(source=function("x"))}, "Query.things: there is no column x"),
    ],
)
def test_relations_that_do_not_fit(root: dict[str, Field], said: str) -> None:
    with pytest.raises(MappingError) as caught:
        model({}, root)
    assert str(caught.value).startswith(said)


@pytest.mark.parametrize(
    ("root", "column", "said"),
    [
        ({}, "nothing", "Thing.name: there is no column nothing"),
        ({"thing": One(source=function())}, "note", "Query.thing (Thing.name): there is no column note"),
        ({"thing": Part({"id": "user_id"})}, "note", "Query.thing (Thing.name): there is no column note"),
    ],
)
def test_a_resolver_that_needs_a_column_that_is_not_there(root: dict[str, Field], column: str, said: str) -> None:
    with pytest.raises(MappingError) as caught:
        model({"name": None}, root, {"Thing.name": Needs((column,))})
    assert str(caught.value).startswith(said)


@pytest.mark.parametrize(
    ("compared", "said"),
    [
        (Comparison("nothing"), "ThingFilter.name: there is no column nothing"),
        (Comparison("name", folded="nothing"), "ThingFilter.name: there is no column nothing"),
        (Related(Join("nothing"), "Thing", "ThingFilter"), "ThingFilter.name: there is no column nothing"),
        (Related(Join("id", "nothing"), "Thing", "ThingFilter"), "ThingFilter.name: there is no column nothing"),
        (
            Related(Join("id", "id", THINGS, "x", "id"), "Thing", "ThingFilter"),
            "ThingFilter.name: there is no column x",
        ),
        (Related(Join("id"), "Thing", "Nothing"), "ThingFilter.name: is filtered by Nothing, which is not mapped"),
        (Related(Join("id"), "Query", "ThingFilter"), "ThingFilter.name: compares rows of Query, which is not read"),
    ],
)
def test_filters_that_do_not_fit(compared: Comparison | Related, said: str) -> None:
    with pytest.raises(MappingError) as caught:
        model({}, compared=compared)
    assert str(caught.value).startswith(said)


def test_an_order_that_does_not_fit() -> None:
    with pytest.raises(MappingError, match="default order"):
        model({}, order=(("nothing", False), ("id", False)))
