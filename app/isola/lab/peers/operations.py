"""The requests to the peers: the same five operations, each written for the peer's own schema."""

import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from isola.lab.peers.data import MADE, Place
from isola.shipped import shipped

HERE = Path(__file__).parent
CONTRACT = shipped("graphql") / "operations"
VARIANTS = 5
"""Different requests for each tenant."""

KINDS = ("dataset", "report", "image", "model")
CREATED = {"name": MADE, "kind": "dataset", "data": {"unit": "ms", "tags": ["new"], "measured": 1.5}}
SIZE = 4096

Variables = Callable[[Place, int], dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Operation:
    """``variables`` are for schemas like Isola's, ``postgraphile`` for PostGraphile; both take a variant number."""

    name: str
    title: str
    variables: Variables
    postgraphile: Variables
    writes: bool = False


OPERATIONS = (
    Operation(
        "Resource",
        "one object with its owner",
        lambda place, variant: {"id": f"res_{_chosen(place, variant)}"},
        lambda place, variant: {"id": _chosen(place, variant)},
    ),
    Operation("Resources", "a list of 50 with owners", lambda *_: {}, lambda *_: {}),
    Operation("ResourcesWithSpans", "20 resources with five spans each", lambda *_: {}, lambda *_: {}),
    Operation(
        "SearchResources",
        "a filtered, ordered page with totalCount",
        lambda _, variant: {
            "filter": {"kind": {"eq": _kind(variant)}},
            "orderBy": [{"field": "NAME", "direction": "ASC"}],
            "first": 20,
        },
        lambda _, variant: {"condition": {"kind": _kind(variant)}, "orderBy": ["NAME_ASC"], "first": 20},
    ),
    Operation(
        "CreateResource",
        "a mutation that returns what it made",
        lambda *_: {"input": {**CREATED, "sizeBytes": SIZE}},
        # Its mutations take columns, including the owner's; a policy requires the owner to be the caller.
        lambda place, _: {"input": {"resource": {**CREATED, "sizeBytes": str(SIZE), "ownerId": place.user}}},
        writes=True,
    ),
)


@dataclass(frozen=True, slots=True)
class Dialect:
    """A peer's request format: the documents for its schema, and their variables."""

    documents: Path
    variables: Callable[[Operation, Place, int], dict[str, Any]]

    def request(self, operation: Operation, place: Place, variant: int, token: str, port: int) -> str:
        """One HTTP request, head and body."""
        query = (self.documents / f"{operation.name}.graphql").read_text()
        return http(query, operation.name, self.variables(operation, place, variant), token, port)


def http(query: str, name: str, variables: Mapping[str, Any], token: str, port: int) -> str:
    """A request over HTTP, head and body."""
    body = json.dumps({"query": query, "operationName": name, "variables": variables})
    head = (
        f"POST /graphql HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\nauthorization: Bearer {token}\r\n"
        f"content-type: application/json\r\naccept: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head + body


def _plain_ids(operation: Operation, place: Place, variant: int) -> dict[str, Any]:
    variables = operation.variables(place, variant)
    return {**variables, "id": variables["id"].removeprefix("res_")} if "id" in variables else variables


TYPED_IDS = Dialect(CONTRACT, lambda operation, place, variant: operation.variables(place, variant))
PLAIN_IDS = Dialect(CONTRACT, _plain_ids)
POSTGRAPHILE = Dialect(HERE / "postgraphile", lambda operation, place, variant: operation.postgraphile(place, variant))


def requests(
    operation: Operation, dialect: Dialect, places: Sequence[Place], tokens: Mapping[str, str], port: int
) -> list[str]:
    """Requests of all tenants, shuffled so that consecutive requests are for different tenants."""
    made = [
        dialect.request(operation, place, variant, tokens[place.tenant], port)
        for place in places
        for variant in range(VARIANTS)
    ]
    random.Random(operation.name).shuffle(made)  # noqa: S311  the same in every run
    return made


def comparable(value: Any, key: str = "") -> Any:  # noqa: PLR0911  a table, one line a form
    """An answer without details that may differ between peers: id prefixes, cursors, timestamp formats."""
    match value:
        case dict():
            return {name: value[name] if name == "data" and key else comparable(value[name], name) for name in value}
        case list():
            return [comparable(each, key) for each in value]
        case str() if key == "id":
            return value.removeprefix("res_").removeprefix("usr_").removeprefix("spn_")
        case str() if key in {"cursor", "startCursor", "endCursor"}:
            return "a cursor"
        case str() if key in {"createdAt", "updatedAt"}:
            return datetime.fromisoformat(value)
        case str() if key == "sizeBytes":
            return int(value)
        case str() if key == "visibility":
            return value.upper()
    return value


def without_made(value: Any) -> Any:
    """The answer to a mutation without values that differ between calls."""
    resource = value["data"]["createResource"]["resource"]
    return {**resource, "id": "", "createdAt": ""}


def _chosen(place: Place, variant: int) -> str:
    return place.resources[variant % len(place.resources)]


def _kind(variant: int) -> str:
    return KINDS[variant % len(KINDS)]
