"""The operations derived from a declaration, and those of an application."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from graphql import parse, validate

from isola.api.schema import model
from isola.errors import OperatorError
from isola.lab import documents
from isola.lab.applied import applied
from isola.lab.operations import most_connected, of_resources, usual
from isola.lab.peers.load import NUMBER, numbered
from isola.lab.population import Resident
from isola.platform.tenants import Status, Tenant
from isola.subjects import Subject, column, reference
from isola.subjects.declaration import Registry
from isola.subjects.resources import Resource
from isola.subjects.roles import Role as RoleSubject
from isola.subjects.signing_keys import SigningKey

KEYS = [uuid4(), uuid4()]


@pytest.fixture(autouse=True)
def subjects() -> Iterator[None]:
    """Removes the declarations of a test after it."""
    before = dict(Registry.by_class), dict(Registry.by_name)
    yield
    Registry.by_class, Registry.by_name = before


@pytest.fixture
def resident() -> Resident:
    tenant = Tenant(UUID(int=1), "a", "A", Status.ACTIVE, "rls", {}, datetime(2026, 1, 1, tzinfo=UTC))
    return Resident(0, tenant, 2, KEYS[0], tuple(KEYS), {"resource": KEYS, "user": KEYS, "organization": KEYS})


def test_the_operations_of_a_subject_fit_the_schema() -> None:
    made = usual(Resource)
    assert [each.name for each in made.operations.values()] == [
        "Resource",
        "Resources",
        "ResourcesWithSpans",
        "SearchResources",
        "CreateResource",
        "UpdateResource",
    ]
    assert made.left_out == {}
    for each in made.operations.values():
        assert validate(model.schema, parse(each.document)) == [], each.name


def test_operations_that_a_subject_lacks_are_left_out_with_the_reason() -> None:
    made = usual(SigningKey)
    assert made.left_out == {
        "signing_key: a list of lists": "signing_key has no relation to many rows",
        "signing_key: changing one": "clients change no signing_keys",
    }
    assert set(made.operations) == {"Resource", "Resources", "SearchResources", "CreateResource"}
    assert usual(RoleSubject).left_out["role: making one"] == "clients make no roles"


def test_new_rows_get_required_values_and_distinct_unique_ones(resident: Resident) -> None:
    class Hut(Subject, name="hut", prefix="hut"):
        name: str = column(max_length=20, unique=True)
        beds: int = column(minimum=1, maximum=4)
        near: Resource = reference()
        far: Resource | None = reference()
        level: int = column(default=1, minimum=1)
        street: Resource = reference()

        unique_together = (("street", "level"),)

    made = usual(Hut).operations
    [given] = made["CreateResource"].variables(resident, 1).values()
    assert (given["name"], given["level"]) == (str(NUMBER), NUMBER)
    assert 1 <= given["beds"] <= 4
    assert given["nearId"] == given["streetId"] == f"res_{KEYS[1]}"
    assert given.keys() == {"name", "beds", "nearId", "streetId", "level"}
    request = made["CreateResource"].request(None, resident, 0, "token", 80).encode()  # type: ignore[arg-type]  # it has one dialect
    first, second = numbered(request), numbered(request)
    assert first != second
    assert len(first) == len(second) == len(request)
    assert str(NUMBER).encode() not in first


def test_rows_whose_unique_values_cannot_be_generated_are_not_created() -> None:
    class Day(Subject, name="day", prefix="day"):
        code: str = column(max_length=3, unique=True)

    assert usual(Day).left_out["day: making one"] == "day.code is unique, and cannot be counted up"


def test_the_most_connected_subject_is_chosen() -> None:
    assert most_connected([SigningKey, Resource]) is Resource


def test_an_application_s_own_operations_are_read_with_their_variables(tmp_path: Path, resident: Resident) -> None:
    (tmp_path / "Named.graphql").write_text(
        "query Named($id: ID!, $n: Int = 2) { resource(id: $id) { id spans(first: $n) { totalCount } } }"
    )
    (tmp_path / "Rename.graphql").write_text(
        "mutation Rename($input: UpdateResourceInput!) { updateResource(input: $input) { resource { id } } }"
    )
    (tmp_path / "Rename.json").write_text(json.dumps({"input": {"id": "$resource", "name": "new"}}))
    found = documents.read(tmp_path)
    assert [(each.name, each.writes) for each in found.values()] == [("Named", False), ("Rename", True)]
    assert found["Named"].variables(resident, 0) == {"id": f"res_{KEYS[0]}"}
    assert found["Rename"].variables(resident, 1) == {"input": {"id": f"res_{KEYS[1]}", "name": "new"}}


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"A.graphql": "query A { nothing }"}, r"A\.graphql: Cannot query field 'nothing'"),
        ({"A.graphql": "query A {"}, r"A\.graphql: expected a GraphQL document"),
        ({"A.graphql": "{ viewer { user { id } } }"}, r"A\.graphql: expected one operation, with a name"),
        (
            {"A.graphql": "query A($first: Int!) { resources(first: $first) { totalCount } }"},
            r"A\.graphql: \$first: expected a default, or a value in A\.json",
        ),
        (
            {"A.graphql": "query A($id: ID!) { resource(id: $id) { id } }", "A.json": '{"id": "$bird"}'},
            r"A\.json: \$bird: expected the name of a subject",
        ),
        ({"A.graphql": "query A { resources { totalCount } }", "A.json": "[]"}, r"A\.json: expected a JSON object"),
        (
            dict.fromkeys(("A.graphql", "B.graphql"), "query A { resources { totalCount } }"),
            r"B\.graphql: there is another operation called A",
        ),
    ],
)
def test_operations_that_do_not_fit_are_refused(tmp_path: Path, files: dict[str, str], message: str) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(OperatorError, match=message):
        documents.read(tmp_path)


def test_the_nouns_that_ship_have_writes_too() -> None:
    assert [each.name for each in of_resources().values() if each.writes] == ["CreateResource", "UpdateResource"]


def test_a_subject_without_an_application_is_refused() -> None:
    assert applied("isola", None, None) is None
    with pytest.raises(OperatorError, match="expected --application"):
        applied("isola", "resource", None)
