"""Invalid documents, variables and arguments: one error that names the invalid part, and nothing changes."""

import json
from typing import Any

import pytest

from isola.subjects.permissions import Role
from isola.testing.served import Api, Client

CREATE = "mutation ($input: CreateResourceInput!) { createResource(input: $input) { resource { id } } }"
LIST = "query ($first: Int!) { resources(first: $first) { totalCount } }"
BOTH = '{ viewer { roles } } mutation M { createResource(input: {name: "x"}) { resource { id } } }'

REFUSED_WHOLE: dict[str, tuple[str, dict[str, Any] | None, str]] = {
    "does not parse": ("{ resources(", None, "Syntax Error"),
    "empty": ("", None, "Syntax Error"),
    "unknown field": ("{ resorces { totalCount } }", None, "'Query'"),
    "unknown argument": ("{ resources(limit: 3) { totalCount } }", None, "Query.resources"),
    "no selection": ("{ resources }", None, "resources"),
    "two operations, none named": (f"query Q {BOTH}", None, "operationName"),
    "subscription": ("subscription { resourceChanges { id } }", None, "subscription"),
    "missing variable": (LIST, None, "first"),
    "missing variable among others": (LIST, {"last": 3}, "first"),
    "null variable": (LIST, {"first": None}, "first"),
    "variable of a wrong type": (LIST, {"first": "three"}, "first"),
    "variable that is not declared": ("{ resources(first: $first) { totalCount } }", {"first": 1}, "is not defined"),
    "input without a required field": (CREATE, {"input": {"kind": "x"}}, "name"),
    "input with an unknown field": (CREATE, {"input": {"name": "x", "colour": "red"}}, "input"),
    "input field of a wrong type": (CREATE, {"input": {"name": 3}}, "name"),
    "input is no object": (CREATE, {"input": "x"}, "input"),
    "BigInt that is none": (CREATE, {"input": {"name": "x", "sizeBytes": "many"}}, "sizeBytes"),
    "BigInt too big": (CREATE, {"input": {"name": "x", "sizeBytes": 2**53}}, "sizeBytes"),
    "DateTime that is none": (
        "query ($at: DateTime!) { resources(filter: {createdAt: {lt: $at}}) { totalCount } }",
        {"at": "yesterday"},
        "at",
    ),
    "DateTime without an offset": (
        'mutation { shareResource(input: {resourceId: "x", grantee: "y", expiresAt: "2030-01-01"}) { share { id } } }',
        None,
        "offset",
    ),
    "enum value that is none": ("{ resources(orderBy: [{field: COLOUR}]) { totalCount } }", None, "orderBy.0.field"),
    "too deep": (
        "{ " + "resources { nodes { spans { nodes { resource { " * 4 + "id" + " } } } } }" * 4 + " }",
        None,
        "depth",
    ),
    "too many aliases": ("{ " + " ".join(f"a{n}: __typename" for n in range(101)) + " }", None, "aliases"),
    "too many fields": ("{ " + "__typename " * 500 + "}", None, "limit"),
    "too long": ("{ __typename } #" + "x" * 60_000, None, "limit"),
    "fragments in a circle": ("{ ...a } fragment a on Query { ...b } fragment b on Query { ...a }", None, "fragment"),
}


@pytest.mark.parametrize(("document", "variables", "named"), REFUSED_WHOLE.values(), ids=REFUSED_WHOLE)
async def test_an_invalid_request_is_refused_entirely(
    guest: Client, document: str, variables: dict[str, Any] | None, named: str
) -> None:
    refused = await guest.ask(document, variables)

    assert refused.status == 400
    assert "data" not in refused.body
    errors = refused.body["errors"]
    assert {error["extensions"]["code"] for error in errors} == {"BAD_USER_INPUT"}
    assert any(named in error["message"] for error in errors)
    # A client that accepts only plain JSON gets status 200 with the same body.
    plain = await guest.send(json.dumps({"query": document, "variables": variables}), accept="application/json")
    assert (plain.status, plain.body) == (200, refused.body)


REFUSED_ARGUMENT: dict[str, tuple[str, dict[str, Any] | None, str]] = {
    "first: -1": ("{ resources(first: -1) { totalCount } }", None, "first"),
    "first: 10^9": (LIST, {"first": 10**9}, "first"),
    "last: -1": ("{ resources(last: -1) { totalCount } }", None, "last"),
    "first and last": ("{ resources(first: 1, last: 1) { totalCount } }", None, "last"),
    "nested first": ("{ resources { nodes { spans(first: 101) { totalCount } } } }", None, "first"),
    "cursor that is none": ('{ resources(after: "x") { totalCount } }', None, "after"),
    "id of another type in a filter": (
        '{ resources(filter: {ownerId: {eq: "res_00000000-0000-7000-8000-000000000000"}}) { totalCount } }',
        None,
        "filter.ownerId.eq",
    ),
    "null in a filter": (
        "{ resources(filter: {or: [{name: {eq: null}}]}) { totalCount } }",
        None,
        "filter.or.0.name.eq",
    ),
    "null in the place of an argument": (
        "query ($name: String) { resources(filter: {name: {eq: $name}}) { totalCount } }",
        {"name": None},
        "filter.name.eq",
    ),
}


@pytest.mark.parametrize(("document", "variables", "field"), REFUSED_ARGUMENT.values(), ids=REFUSED_ARGUMENT)
async def test_an_invalid_argument_is_an_error_of_its_field(
    guest: Client, document: str, variables: dict[str, Any] | None, field: str
) -> None:
    refused = await guest.ask(document.replace("resources", "viewer { roles } resources", 1), variables)

    assert refused.status == 200
    assert refused.body["data"] == {"viewer": {"roles": ["admin"]}, "resources": None}
    assert refused.error["extensions"] == {"code": "BAD_USER_INPUT", "field": field}
    assert refused.error["path"][0] == "resources"
    assert refused.error["locations"]


REFUSED_FIELD: dict[str, tuple[str, dict[str, Any], str]] = {
    "name missing in substance": ("CreateResource", {"name": ""}, "name"),
    "name too long": ("CreateResource", {"name": "x" * 201}, "name"),
    "name with NUL": ("CreateResource", {"name": "a\0b"}, "name"),
    "half a surrogate pair": ("CreateResource", {"name": "\ud800"}, "name"),
    "NUL in data": ("CreateResource", {"name": "x", "data": {"a": "\0"}}, "data"),
    "negative size": ("CreateResource", {"name": "x", "sizeBytes": -1}, "sizeBytes"),
    "update to no name": ("UpdateResource", {"id": "$resource", "name": None}, "name"),
    "update to no size": ("UpdateResource", {"id": "$resource", "sizeBytes": None}, "sizeBytes"),
    "id of another type": ("UpdateResource", {"id": "usr_00000000-0000-7000-8000-000000000000", "name": "x"}, "id"),
    "id that is none": ("DeleteResource", {"id": "42"}, "id"),
    "id in capitals": ("DeleteResource", {"id": "RES_00000000-0000-7000-8000-000000000000"}, "id"),
    "share id of another type": ("RevokeShare", {"shareId": "res_00000000-0000-7000-8000-000000000000"}, "shareId"),
    "span without a title": ("CreateSpan", {"title": ""}, "title"),
    "span for no organization": ("CreateSpan", {"title": "x", "visibility": "ORGANIZATION"}, "organizationId"),
    "share until yesterday": (
        "ShareResource",
        {"resourceId": "$resource", "grantee": "rls-b", "expiresAt": "2020-01-01T00:00:00Z"},
        "expiresAt",
    ),
}


@pytest.mark.parametrize(("mutation", "values", "named"), REFUSED_FIELD.values(), ids=REFUSED_FIELD)
async def test_a_mutation_that_breaks_a_rule_names_the_field(
    guest: Client, mutation: str, values: dict[str, Any], named: str
) -> None:
    [resource] = (await guest.run("Resources", first=1)).data["resources"]["nodes"]
    values = {name: resource["id"] if value == "$resource" else value for name, value in values.items()}

    refused = await guest.run(mutation, input=values)

    assert refused.status == 200
    assert refused.code == "BAD_USER_INPUT"
    assert refused.error["extensions"]["field"] == f"input.{named}"
    key = mutation[0].lower() + mutation[1:]
    assert (refused.error["path"], refused.body["data"]) == ([key], {key: None})


@pytest.mark.parametrize(
    "id_", ["", "42", "res_", "usr_00000000-0000-7000-8000-000000000000", "res_00000000-0000-7000-8000-000000000000"]
)
async def test_unknown_foreign_and_malformed_ids_find_nothing(guest: Client, id_: str) -> None:
    assert (await guest.run("Resource", id=id_)).data == {"resource": None}
    assert (await guest.run("Node", id=id_)).data == {"node": None}
    assert (await guest.run("Nodes", ids=[id_])).data == {"nodes": [None]}


async def test_an_unknown_operation_name_is_refused(guest: Client) -> None:
    refused = await guest.ask(f"query Q {BOTH}", operationName="P")
    taken = await guest.ask(f"query Q {BOTH}", operationName="Q")

    assert (refused.status, refused.code) == (400, "BAD_USER_INPUT")
    assert "operationName" in refused.error["message"]
    assert taken.data == {"viewer": {"roles": ["admin"]}}


async def test_an_undeclared_variable_is_ignored(guest: Client) -> None:
    plain = await guest.ask("{ resources { totalCount } }")

    assert (await guest.ask("{ resources { totalCount } }", {"unknown": 1})).body == plain.body


async def test_several_errors_are_all_reported_up_to_a_limit(guest: Client) -> None:
    mistakes = await guest.ask("{ " + " ".join(f"f{n}" for n in range(100)) + " }")

    assert mistakes.status == 400
    assert 2 <= len(mistakes.body["errors"]) <= 21


async def test_a_missing_permission_is_reported_before_invalid_input(standing: Api, guest: Client) -> None:
    viewer = standing.client(guest.tenant, role=Role.VIEWER)

    refused = await viewer.run("CreateResource", input={"name": ""})

    assert (refused.status, refused.code, refused.error["path"]) == (200, "FORBIDDEN", ["createResource"])
