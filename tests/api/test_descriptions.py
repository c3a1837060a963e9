"""What clients read of the schema: a description of all that it has, and the permissions that are enforced."""

import re

import pytest
from graphql import GraphQLSchema

from isola.admin.schema import schema as admin
from isola.api.schema import model
from isola.api.undescribed import parts, undescribed
from isola.query.mapping import Related
from isola.subjects import features
from isola.subjects.permissions import all_permissions

NEEDED = re.compile(r"Requires ([\w:]+(?: and [\w:]+)*(?: and the feature [\w-]+)*)\.$")


@pytest.mark.parametrize("schema", [model.schema, admin._schema], ids=["tenants", "administration"])
def test_all_of_a_schema_is_described(schema: GraphQLSchema) -> None:
    assert undescribed(schema) == []


def test_the_permissions_and_features_that_are_described_are_those_that_are_enforced() -> None:
    described = {}
    for name, description in parts(model.schema):
        if needed := NEEDED.search(description or ""):
            described[name] = [each.removeprefix("the feature ") for each in needed[1].split(" and ")]
    enforced = {name: list(needed) for name, needed in model.requires.items() if needed}
    for name, compared in model.filters.items():
        enforced |= {
            f"{name}.{field}": list(model.requires[each.type])
            for field, each in compared.items()
            if isinstance(each, Related)
        }
    assert described == enforced
    assert described["ResourceFilter.owner"] == ["user:read"]
    assert described["Query.resources"] == described["Resource"] == ["resource:read"]
    assert {each for needed in described.values() for each in needed} <= all_permissions() | features.known().keys()


def test_what_a_column_takes_is_described() -> None:
    described = {name: text or "" for name, text in parts(model.schema)}
    assert described["Resource.name"] == "The name: text of 1 to 200 characters."
    assert described["CreateResourceInput.sizeBytes"] == "The size bytes: an integer, at least 0, by default 0."
    assert described["Resource.owner"] == "The owner: the user who created it."
    assert described["CreateAgentInput.name"].endswith("characters, unique in the tenant.")
    # The docstring of the enum says what each of its values is.
    assert described["Visibility"] == "Who sees a span."
    assert described["Visibility.PUBLIC"] == "All users of the tenant."
