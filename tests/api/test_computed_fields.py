"""A field computed in Python gets the columns that it needs, whatever the client selects."""

from datetime import datetime
from typing import Any
from uuid import UUID

import pytest
import strawberry
from sqlalchemy import Uuid
from strawberry.schema.config import StrawberryConfig

from isola.api.access import PUBLIC
from isola.api.connections import Connection
from isola.api.execute import Executor
from isola.api.fields import by_id, computed, many, mapped, one, typed_id
from isola.api.model import model_of
from isola.api.scalars import SCALARS
from isola.query import caller
from isola.query.mapping import MappingError, Parameters
from isola.query.read_plan import ReadPlan
from isola.subjects.resources import resources
from isola.subjects.users import users
from tests.api.conftest import SECRET, START, Caller, ids

Row = dict[str, Any]


def _initials(row: strawberry.Parent[Row], separator: str = "") -> str:
    return separator.join(word[0] for word in row["name"].split())


def _age(row: strawberry.Parent[Row]) -> str:
    assert isinstance(row["id"], UUID)
    assert isinstance(row["created_at"], datetime)
    return f"{row['name']} since {row['created_at'] - START}, with{'' if row['email'] else 'out'} e-mail"


@mapped(users, prefix="usr")
@strawberry.type(directives=[PUBLIC])
class User:
    id: strawberry.ID = typed_id("usr")
    initials: str = computed("name")(_initials)
    age: str = computed("id", "name", "email", "created_at")(_age)


@mapped(resources, prefix="res")
@strawberry.type(directives=[PUBLIC])
class Resource:
    id: strawberry.ID = typed_id("res")
    name: str
    owner: User = one("owner_id")


@mapped(Parameters(caller.COLUMNS))
@strawberry.type(directives=[PUBLIC])
class Query:
    resource: Resource | None = by_id()
    resources: Connection[Resource] = many()
    me: User = one("user_id")


@pytest.fixture(scope="module")
def executor() -> Executor:
    schema = strawberry.Schema(Query, config=StrawberryConfig(scalar_map=SCALARS))
    return Executor(model_of(schema), secret=SECRET)


async def test_it_is_computed_of_columns_that_were_not_selected(a: Caller, executor: Executor) -> None:
    asked = await a.using(executor).ask("{ me { age } }")
    assert asked.data == {"me": {"age": "Ada since 0:00:00, without e-mail"}}
    assert asked.transactions == 1


async def test_it_is_computed_under_any_alias_with_its_arguments_at_any_depth(a: Caller, executor: Executor) -> None:
    asked = await a.using(executor).ask(
        """query ($id: ID!) {
          resource(id: $id) { owner { short: initials long: initials(separator: ".") } }
          resources(first: 2) { nodes { name owner { ...Owner } } edges { node { owner { initials id } } } }
        }
        fragment Owner on User { initials }""",
        {"id": ids("res", 3)},
    )
    owner = asked.data["resource"]["owner"]
    assert list(owner) == ["short", "long"]
    assert owner["long"] == ".".join(owner["short"])
    pages = asked.data["resources"]
    assert [list(each["owner"]) for each in pages["nodes"]] == [["initials"]] * 2
    assert [list(each["node"]["owner"]) for each in pages["edges"]] == [["initials", "id"]] * 2
    assert asked.transactions == 1


async def test_columns_of_computed_fields_are_read_only_if_selected(a: Caller, executor: Executor) -> None:
    assert (await a.using(executor).ask("{ me { initials } }")).body == {"data": {"me": {"initials": "A"}}}
    plan = executor.compiler.plans(executor.documents.find("{ me { id } }").operation(None), {})
    assert isinstance(plan, ReadPlan)
    assert plan.complete


def test_a_column_that_the_table_does_not_have_is_refused_at_start_up() -> None:
    @mapped(users, prefix="usr")
    @strawberry.type(name="User", directives=[PUBLIC])
    class Wrong:
        id: strawberry.ID = typed_id("usr")
        initials: str = computed("surname")(_initials)

    @mapped(Parameters({"user_id": Uuid()}))
    @strawberry.type(name="Query", directives=[PUBLIC])
    class Root:
        me: Wrong = one("user_id")

    with pytest.raises(MappingError, match=r"^User\.initials: there is no column surname; there are id, "):
        model_of(strawberry.Schema(Root))
