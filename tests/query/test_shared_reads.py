"""Which plans have the same result for all users of a tenant, so that one statement answers all their subscriptions."""

import pytest

from isola.api.schema import model
from isola.query.mapping import Comparison
from isola.query.sharing import is_logged, is_same_for_all
from tests.query.test_statement import reading

FILTERED = '{ resources(filter: {or: [{kind: {eq: "map"}}, {not: {name: {startsWith: "a"}}}]}) { nodes { name } } }'


def shared(document: str) -> bool:
    _, read = reading(document)
    return is_same_for_all(model, read.plan, read.shapes)


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ("{ resources { totalCount nodes { name owner { name } } } }", True),
        (FILTERED, True),
        ('{ resources(filter: {owner: {name: {startsWith: "a"}}}) { totalCount } }', True),
        ("{ resources(filter: {not: {spans: {some: {}}}}) { totalCount } }", False),
        ("{ resources(filter: {owner: {organizations: {none: {}}}}) { totalCount } }", True),
        ("{ resources { nodes { name spans { totalCount } } } }", False),
        ("{ timeline { totalCount } }", False),
        ("{ viewer { user { name } } }", False),
    ],
)
def test_what_depends_on_the_user_is_not_shared(document: str, *, expected: bool) -> None:
    assert shared(document) is expected


def test_a_filter_by_rows_that_not_everybody_may_see_is_not_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(model.comparisons, ("Resource", "kind"), Comparison("kind", visible=lambda row: row["id"]))
    assert shared(FILTERED) is False


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ("{ timeline { nodes { title resource { name } } } }", True),
        ("{ sharedWithMe { totalCount } }", False),
        ('{ resources(filter: {not: {createdAt: {olderThan: "P1D"}}}) { totalCount } }', False),
        ('{ resources(filter: {owner: {createdAt: {newerThan: "P1D"}}}) { totalCount } }', False),
        ('{ resources(filter: {createdAt: {gt: "2026-01-01T00:00:00Z"}}) { totalCount } }', True),
        ('{ tenantStats(from: "2026-01-01T00:00:00Z", to: "2026-01-02T00:00:00Z") { spans } }', False),
    ],
)
def test_what_the_log_of_the_tenant_does_not_have_is_polled(document: str, *, expected: bool) -> None:
    _, read = reading(document)
    assert is_logged(model, read.plan, read.shapes) is expected
