"""Which plans have the same result for all users of a tenant, so that one statement answers all their subscriptions."""

import pytest
from sqlalchemy import case, exists

from isola.api.schema import model
from isola.query.mapping import Comparison, Grouping, Value
from isola.query.sharing import is_logged, is_same_for_all
from isola.subjects.users import User
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
        ("{ resources { groups { kind { count } ownerId { value } } } }", True),
        ("{ timeline { totalCount } }", False),
        ("{ viewer { user { name } } }", False),
    ],
)
def test_what_depends_on_the_user_is_not_shared(document: str, *, expected: bool) -> None:
    assert shared(document) is expected


def test_a_filter_by_rows_that_not_everybody_may_see_is_not_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(model.comparisons, ("Resource", "kind"), Comparison("kind", visible=lambda row: row["id"]))
    assert shared(FILTERED) is False


def test_groups_by_rows_that_not_everybody_may_see_are_not_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    assert shared("{ resources { groups { ownerId { value } } } }") is True
    others = User.table.alias()
    of_others = Value(lambda row: case((exists().where(others.c.id == row["owner_id"]), row["owner_id"])), "usr")
    monkeypatch.setitem(model.groupings["ResourceGroups"], "ownerId", Grouping(of_others))
    assert shared("{ resources { groups { ownerId { count } } } }") is False


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
