"""Routes of applications are checked when a server starts."""

import re

import pytest

from isola.api import rest
from isola.api.schema import model
from isola.errors import OperatorError
from isola.subjects import Route

RESOURCE = (
    "query ($id: ID!) { found: resource(id: $id) { ...Named owner { name } } } fragment Named on Resource { name }"
)


@pytest.mark.parametrize("answer", ["found", "found.name", "found.owner", "found.owner.name"])
def test_an_answer_is_a_place_that_the_operation_selects(answer: str) -> None:
    route = Route("GET", "/resources/{id}", RESOURCE, answer=answer)
    assert rest.read([route], model.schema).keys() == {"/resources/{id}"}


@pytest.mark.parametrize(
    ("route", "message"),
    [
        (Route("GET", "/a/{id}", RESOURCE, answer="resource"), "answer: expected the path of a field"),
        (Route("GET", "/a/{id}", RESOURCE, answer="found.kind"), "answer: expected the path of a field"),
        (Route("GET", "/a/{id}", RESOURCE, answer="found.name.x"), "answer: expected the path of a field"),
        (Route("GET", "/a/{other}", RESOURCE, answer="found"), "expected the operation to have the variable $other"),
        (Route("POST", "/a/{id}", RESOURCE, answer="found"), "expected a document with one mutation"),
        (Route("GET", "a", RESOURCE, answer="found"), "expected a path such as /cases/{caseId}"),
        (Route("LOOK", "/a/{id}", RESOURCE, answer="found"), "expected one of GET, "),
        (Route("GET", "/a", "{ nothing }", answer="nothing"), "Cannot query field 'nothing' on type 'Query'."),
        (Route("GET", "/a", "{", answer="nothing"), "Syntax Error"),
    ],
)
def test_a_route_that_does_not_fit_is_refused(route: Route, message: str) -> None:
    with pytest.raises(OperatorError, match=f"^the route {route.method} {re.escape(f'{route.path}: {message}')}"):
        rest.read([route], model.schema)


def test_two_routes_of_one_path_and_method_are_refused() -> None:
    route = Route("GET", "/a/{id}", RESOURCE, answer="found")
    with pytest.raises(OperatorError, match=r"the route GET /a/\{id\} is declared twice"):
        rest.read([route, route], model.schema)
