"""Connections count their rows by the values of columns: the numbers are those of the rows that the caller may read."""

from collections import Counter
from dataclasses import replace
from typing import Any

from tests.api.conftest import Caller, ids

KINDS = "{ resources(first: 100) { totalCount groups { kind { value count } } nodes { kind } } }"
REPLAYS = """{ timeline(first: 100) { totalCount groups { replayFromId { value count } }
  nodes { replayFrom { id } } } }"""


def ranked(values: list[Any]) -> Counter[Any]:
    return Counter(values)


def counted(groups: list[dict[str, Any]]) -> Counter[Any]:
    assert len({each["value"] for each in groups}) == len(groups)
    assert [each["count"] for each in groups] == sorted((each["count"] for each in groups), reverse=True)
    return Counter({each["value"]: each["count"] for each in groups})


async def test_rows_are_counted_by_value_the_largest_groups_first(a: Caller) -> None:
    found = (await a.ask(KINDS)).data["resources"]
    groups = found["groups"]["kind"]
    assert counted(groups) == ranked([node["kind"] for node in found["nodes"]])
    assert None in {each["value"] for each in groups}
    assert sum(each["count"] for each in groups) == found["totalCount"]
    assert (await a.ask("{ resources { groups { kind { count } } } }")).transactions == 1


async def test_only_what_is_selected_is_returned_under_its_key(a: Caller) -> None:
    answer = await a.ask(
        """{ resources(first: 0, filter: {kind: {eq: "text"}}) { g: groups { __typename k: kind { ...G n: count } } } }
        fragment G on StringGroup { __typename value }"""
    )
    [group] = answer.data["resources"]["g"]["k"]
    assert answer.text == (
        '{"data":{"resources":{"g":{"__typename":"ResourceGroups",'
        f'"k":[{{"__typename":"StringGroup","value":"text","n":{group["n"]}}}]}}}}}}}}'
    )


async def test_the_filter_applies_and_the_page_does_not(a: Caller) -> None:
    document = """query ($filter: ResourceFilter, $after: String, $first: Int) {
      resources(first: $first, after: $after, filter: $filter) {
        totalCount groups { kind { value count } ownerId { value count } }
        nodes { kind owner { id } } pageInfo { endCursor } } }"""
    filter_ = {"or": [{"kind": {"isNull": True}}, {"spans": {"some": {"title": {"startsWith": "rls"}}}}]}
    whole = (await a.ask(document, {"filter": filter_, "first": 100})).data["resources"]
    assert counted(whole["groups"]["kind"]) == ranked([node["kind"] for node in whole["nodes"]])
    assert counted(whole["groups"]["ownerId"]) == ranked([node["owner"]["id"] for node in whole["nodes"]])
    first = (await a.ask(document, {"filter": filter_, "first": 2})).data["resources"]
    after = {"filter": filter_, "first": 2, "after": first["pageInfo"]["endCursor"]}
    assert first["groups"] == whole["groups"] == (await a.ask(document, after)).data["resources"]["groups"]
    none = await a.ask(document, {"filter": {"name": {"eq": "of nobody"}}})
    assert none.data["resources"]["groups"] == {"kind": [], "ownerId": []}


async def test_the_rows_of_one_row_are_counted_by_enums_with_their_names(a: Caller) -> None:
    found = await a.ask(
        """{ resources(first: 100) { nodes { spans(first: 100) {
          groups { visibility { value count } type { value count } } nodes { visibility type } } } } }"""
    )
    several = 0
    for node in found.data["resources"]["nodes"]:
        for name in ("visibility", "type"):
            groups = node["spans"]["groups"][name]
            assert counted(groups) == ranked([span[name] for span in node["spans"]["nodes"]])
            several += len(groups) > 1
    assert several


async def test_rows_of_hidden_references_are_counted_as_those_without(a: Caller) -> None:
    found = (await a.ask(REPLAYS)).data["timeline"]
    groups = counted(found["groups"]["replayFromId"])
    assert groups == ranked([node["replayFrom"] and node["replayFrom"]["id"] for node in found["nodes"]])
    # Some refer to spans that only others see.
    hidden = 0
    for node in (await a.ask("{ timeline(first: 100) { nodes { id } } }")).data["timeline"]["nodes"]:
        number = int(node["id"][-6:], 16)
        hidden += number > 9 and number % 3 == 0
    assert hidden > groups.total() - groups[None]


async def test_ids_need_the_permission_to_read_what_has_them(a: Caller) -> None:
    principal = replace(a.principal, permissions=frozenset({"resource:read"}))
    reader = replace(a, principal=principal)
    assert (await reader.ask(KINDS)).data["resources"]["groups"]["kind"]
    refused = await reader.ask("{ resources { groups { ownerId { count } } } }")
    assert refused.error["message"] == "this needs the permission user:read"
    assert refused.error["path"] == ["resources", "groups", "ownerId"]
    assert refused.transactions == 0
    writer = replace(a, principal=replace(principal, permissions=frozenset({"user:read"})))
    assert (await writer.ask(KINDS)).code == "FORBIDDEN"


async def test_what_python_has_left_of_an_operation_changes_nothing(a: Caller) -> None:
    both = "timeline(first: 0) { groups { visibility { value count } type { value } } }"
    alone = await a.ask(f"{{ {both} }}")
    mixed = await a.ask(f'{{ {both} __schema {{ __typename }} span(id: "{ids("spn", 1)}") {{ canonicalJson }} }}')
    assert mixed.data["timeline"] == alone.data["timeline"]
