"""Validation skips rules that a document cannot violate. Violations are rejected with the same errors as without."""

import pytest
from graphql import parse, specified_rules, validate

from isola.api.schema import model
from isola.query.documents import Documents, InvalidError
from isola.query.limits import Limits

BROKEN = [
    "{ nowhere }",
    "query ($a: Int) { __typename }",
    "{ resources(first: $a) { totalCount } }",
    "query ($a: Int, $a: Int) { resources(first: $a) { totalCount } }",
    "query ($a: String) { resources(first: $a) { totalCount } }",
    "query ($a: Resource) { resources(first: $a) { totalCount } }",
    "{ __typename @nowhere }",
    "{ __typename @skip(if: true) @skip(if: false) }",
    "{ ...Nowhere }",
    "{ ... on Nowhere { id } }",
    "{ ... on Int { id } }",
    "{ viewer { ... on Resource { id } } }",
    "{ __typename } fragment F on Query { __typename }",
    "{ ...F } fragment F on Query { __typename } fragment F on Query { __typename }",
    "{ ...F } fragment F on Int { __typename }",
    "{ a: __typename a: viewer { roles } }",
    "{ viewer { a: roles } viewer { a: permissions } }",
    "{ resources(first: 1) { totalCount } resources(first: 2) { totalCount } }",
    "{ resources(first: 1, first: 2) { totalCount } }",
    '{ node(id: "$ @ ... fragment") { nowhere } }',
]


@pytest.mark.parametrize("text", BROKEN)
def test_what_breaks_a_rule_is_refused(text: str) -> None:
    expected = validate(model.schema, parse(text), specified_rules)
    assert expected
    with pytest.raises(InvalidError) as refused:
        Documents(model.schema, Limits()).find(text)
    assert len(refused.value.errors) == len(expected)
    assert [error.locations for error in refused.value.errors] == [error.locations for error in expected]
