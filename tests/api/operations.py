"""Random operations from the schema, with arguments, variables, aliases, fragments and directives.

Response keys are unique wherever there are arguments, so that operations are valid. A seed determines the operation.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from random import Random
from typing import Any

from graphql import (
    GraphQLField,
    GraphQLInputField,
    GraphQLInputObjectType,
    GraphQLInterfaceType,
    GraphQLNamedType,
    GraphQLObjectType,
    GraphQLType,
    ast_from_value,
    get_named_type,
    is_leaf_type,
    is_required_argument,
    print_ast,
)

from tests.api.conftest import FURTHER, KINDS, NAMES, ids
from tests.api.reference import DECLARED, DURATIONS, ENUMS, REFERENCES, SCHEMA, SEARCHES, SHARED_LISTS

TEXTS = [
    *NAMES,
    *(kind for kind in KINDS if kind),
    "",
    "a",
    "_",
    "%",
    "\\",
    "org 1",
    "ÖR\u0301G",
    "rls-a 5",
    "u1@",
    "z\u2028 1",
    "'",
]
MOMENTS = [
    "2026-01-01T00:05:00Z",
    "2026-01-01T05:40:00.000006+05:30",
    "2026-01-02T00:01:00+00:00",
    "1999-12-31T23:59:59-11:00",
]
NUMBERS = [0, 1, 77, "77", 2**53 - 1, -1, str(2**53 - 1)]
IDS = {
    "usr": [ids("usr", i) for i in (0, 1, 7, 50)],
    "org": [ids("org", i) for i in (0, 1, 2, 50)],
    "res": [ids("res", i) for i in (0, 1, 2, 5, 39, 500)],
    "spn": [ids("spn", i) for i in (0, 1, 2, 3, 4, 119, 500)],
    "rol": [ids("rol", i) for i in (0, 1, 2, 50)],
    "aud": ["aud_" + ids("res", 0)[4:]],
    "shr": ["shr_" + ids("res", 0)[4:]],
    "srl": ["srl_" + ids("res", 0)[4:]],
    **{each.declaration.prefix: [ids(each.declaration.prefix, i) for i in (0, 1, 2, 5, 50)] for each in FURTHER},
}
NO_IDS = ["", "?", "res_", ids("res", 1).upper()]
# The prefix of the ids that each field of a filter compares with.
TYPES = {type_: each.prefix for type_, each in DECLARED.items()}
COMPARED = {
    ("AuditFilter", "id"): "aud",
    ("ShareFilter", "id"): "shr",
    ("ShareFilter", "ruleId"): "srl",
    **{(f"{type_}Filter", "id"): "shr" for type_ in SHARED_LISTS.values()},
    **{(f"{type_}Filter", "id"): prefix for type_, prefix in TYPES.items()},
    **{(f"{type_}Filter", name): TYPES[target] for (type_, name), target in REFERENCES.items()},
}
POOLS: dict[str, Sequence[Any]] = {
    "StringFilter": TEXTS,
    "InsensitiveStringFilter": TEXTS,
    "IntFilter": [0, 1, 77, -1],
    "BigIntFilter": NUMBERS,
    "FloatFilter": [0, 1, 77.5, -1],
    "DecimalFilter": [0, "1", "77.00", 512],
    "BooleanFilter": [True, False],
    "DateFilter": ["2026-01-01", "2026-03-01", "1999-12-31"],
    "DateTimeFilter": MOMENTS,
    "UUIDFilter": [ids("res", 0)[4:]],
    **{f"{enum.__name__}Filter": [each.name for each in enum] for enum in ENUMS.values()},
}
MAX_FIELDS = 60
DEEPEST = 5


@dataclass
class Operation:
    document: str
    variables: dict[str, Any]


@dataclass
class Maker:
    random: Random
    variables: dict[str, tuple[str, Any]] = field(default_factory=dict)
    fragments: list[str] = field(default_factory=list)
    reusable: list[tuple[str, str]] = field(default_factory=list)
    fields: int = 0
    names: int = 0

    def operation(self) -> Operation:
        query = SCHEMA.query_type
        assert query
        selection = self.selection(query, 0)
        head = ", ".join(f"${name}: {type_}" for name, (type_, _) in self.variables.items())
        document = f"query Q{f'({head})' if head else ''} {selection}\n" + "\n".join(self.fragments)
        return Operation(document, {name: value for name, (_, value) in self.variables.items()})

    def often(self, times: int) -> bool:
        """True with a probability of one in ``times``."""
        return self.random.randrange(times) == 0

    def some(self, pool: Sequence[Any], most: int) -> list[Any]:
        return self.random.sample(pool, self.random.randint(0, min(most, len(pool))))

    def name(self, prefix: str) -> str:
        self.names += 1
        return f"{prefix}{self.names}"

    def selection(self, type_: GraphQLNamedType, depth: int) -> str:
        parts = [self.part(type_, depth) for _ in range(self.random.randint(1, 4))]
        return "{ " + " ".join(parts) + " }"

    def part(self, type_: GraphQLNamedType, depth: int) -> str:
        kind = self.random.randint(0, 9)
        if depth and isinstance(type_, GraphQLInterfaceType) and kind < 7:
            possible = self.random.choice(list(SCHEMA.get_possible_types(type_)))
            return f"... on {possible} {self.directives()} {self.selection(possible, depth)}"
        if kind == 0 and self.fields < MAX_FIELDS:
            condition = f"on {type_}" if self.often(2) else ""
            return f"... {condition} {self.directives()} {self.selection(type_, depth)}"
        if kind == 1 and self.fields < MAX_FIELDS:
            return f"...{self.fragment(type_, depth)} {self.directives()}"
        if kind == 2 and isinstance(type_, GraphQLObjectType) and type_.interfaces:
            return f"... on Node {{ {self.alias()} id __typename }}"
        return self.field(type_, depth)

    def fragment(self, type_: GraphQLNamedType, depth: int) -> str:
        known = [name for on, name in self.reusable if on == type_.name]
        if known and self.often(2):
            return str(self.random.choice(known))
        name = self.name("F")
        self.fragments.append(f"fragment {name} on {type_} {self.selection(type_, depth)}")
        # Added only now, so that no fragment spreads itself.
        self.reusable.append((type_.name, name))
        return name

    def field(self, type_: GraphQLNamedType, depth: int) -> str:
        self.fields += 1
        assert isinstance(type_, GraphQLObjectType | GraphQLInterfaceType)
        usable = {
            name: each
            for name, each in type_.fields.items()
            if is_leaf_type(get_named_type(each.type))
            or (self.fields < MAX_FIELDS and depth < DEEPEST)
            or (type_.name.endswith(("Connection", "Edge")) and depth < DEEPEST + 2)
        }
        # Python computes these: see tests/http/test_timeline.py.
        usable = {name: each for name, each in usable.items() if (type_.name, name) not in COMPUTED}
        name = self.random.choice([*usable, "__typename"])
        if name == "__typename":
            return f"{self.alias()} __typename {self.directives()}"
        definition = usable[name]
        target = get_named_type(definition.type)
        arguments = self.arguments(definition)
        alias = f"{self.name('k')}:" if arguments else self.alias()
        below = ""
        if not is_leaf_type(target):
            below = self.selection(target, depth + 1)
        return f"{alias} {name}{arguments} {self.directives()} {below}"

    def alias(self) -> str:
        return f"{self.name('k')}:" if self.often(5) else ""

    def directives(self) -> str:
        if not self.often(6):
            return ""
        name = self.random.choice(["skip", "include"])
        # Directives rarely remove the field.
        value = self.often(4) == (name == "skip")
        if self.often(2):
            return f"@{name}(if: {'true' if value else 'false'})"
        variable = self.name("b")
        self.variables[variable] = ("Boolean!", value)
        return f"@{name}(if: ${variable})"

    def arguments(self, definition: GraphQLField) -> str:
        given: dict[str, Any] = {}
        if "first" in definition.args and self.often(2):
            which = self.random.choice(["first", "last"] if "last" in definition.args else ["first"])
            given[which] = self.random.choice([0, 1, 2, 3, 7, 30])
        if "filter" in definition.args and self.often(2):
            type_ = get_named_type(definition.args["filter"].type)
            assert isinstance(type_, GraphQLInputObjectType)
            given["filter"] = _narrowed(self.filter(type_, 0))
        if "orderBy" in definition.args and self.often(2):
            given["orderBy"] = self.order(get_named_type(definition.args["orderBy"].type))
        if "id" in definition.args:
            given["id"] = self.id()
        if "ids" in definition.args:
            given["ids"] = [self.id() for _ in range(self.random.randint(0, 4))]
        assert all(name in given for name, each in definition.args.items() if is_required_argument(each))
        texts = [f"{name}: {self.value(value, definition.args[name].type)}" for name, value in given.items()]
        return f"({', '.join(texts)})" if texts else ""

    def value(self, value: Any, type_: GraphQLType) -> str:
        if self.often(2):
            variable = self.name("v")
            self.variables[variable] = (str(type_), value)
            return f"${variable}"
        node = ast_from_value(value, type_)  # type: ignore[arg-type]  # an input type, by construction
        assert node
        return print_ast(node)

    def id(self) -> str:
        return str(self.random.choice([*(each for known in IDS.values() for each in known), *NO_IDS]))

    def order(self, type_: GraphQLNamedType) -> list[dict[str, str]]:
        assert isinstance(type_, GraphQLInputObjectType)
        fields = list(get_named_type(type_.fields["field"].type).values)
        chosen = self.some(fields, 3)
        order = [{"field": each, "direction": self.random.choice(["ASC", "DESC"])} for each in chosen]
        for each in order:
            if "nulls" in type_.fields and self.often(2):
                each["nulls"] = self.random.choice(["FIRST", "LAST"])
        return order

    def filter(self, type_: GraphQLInputObjectType, depth: int) -> dict[str, Any]:
        # What no index serves needs other conditions beside it: see tests/http/test_timeline.py.
        chosen = self.some([name for name, each in type_.fields.items() if not _is_slow(type_, name, each)], 2)
        return {name: self.condition(type_, name, depth) for name in chosen if depth < 3 or not _nests(type_, name)}

    def condition(self, type_: GraphQLInputObjectType, name: str, depth: int) -> Any:
        if name == "not":
            return self.filter(type_, depth + 1)
        if name in _LOGIC:
            return [self.filter(type_, depth + 1) for _ in range(self.random.randint(0, 2))]
        filter_ = get_named_type(type_.fields[name].type)
        assert isinstance(filter_, GraphQLInputObjectType)
        if filter_.name == "SearchFilter":
            searched, begins = self.random.choice(SEARCHES)
            return {"text": searched, "prefix": True} if begins else {"text": searched}
        if filter_.fields.keys() >= _LOGIC:
            return self.filter(filter_, depth + 1)
        if filter_.fields.keys() == _QUANTIFIERS:
            inner = get_named_type(filter_.fields["some"].type)
            assert isinstance(inner, GraphQLInputObjectType)
            return {each: self.filter(inner, depth + 1) for each in self.some(sorted(_QUANTIFIERS), 2)}
        prefix = COMPARED.get((type_.name, name), "")
        comparisons = self.some(list(filter_.fields), 2)
        return {each: self.compared(filter_.name, each, prefix) for each in comparisons}

    def compared(self, filter_: str, comparison: str, prefix: str) -> Any:
        if comparison == "isNull":
            return self.often(2)
        if comparison in {"newerThan", "olderThan"}:
            return self.random.choice(sorted(DURATIONS))
        pool = IDS[prefix] if filter_ == "IDFilter" else POOLS[filter_]
        if comparison == "in":
            return self.some(pool, 3)
        return self.random.choice(pool)


COMPUTED = {
    ("Query", "loggedReads"),
    ("Query", "signInChoices"),
    ("Query", "tenantMetrics"),
    ("Query", "tenantStats"),
    ("Span", "canonicalJson"),
}
# The callers of these tests may not manage users.
COMPUTED |= {("Query", "invitations")}
# They depend on the clock, or on how the rows were made.
COMPUTED |= {
    ("Query", "checkUsage"),
    ("Query", "customerEntitlement"),
    ("Query", "usage"),
    ("Limit", "resetsAt"),
    ("Limit", "used"),
}
# Its key has bounds of its own.
COMPUTED |= {("Query", "flagValues")}
# Nor is there a tenant below theirs.
COMPUTED |= {("Viewer", "descendants")}
_LOGIC = {"and", "or", "not"}
_QUANTIFIERS = {"some", "none"}


@lru_cache(100)
def operation(seed: int) -> Operation:
    """The operation of a seed, shared by all strategies: do not modify it."""
    return Maker(Random(seed)).operation()  # noqa: S311  nothing here is a secret


def _nests(type_: GraphQLInputObjectType, name: str) -> bool:
    """Whether a filter's field has filters within it."""
    inner = get_named_type(type_.fields[name].type)
    return isinstance(inner, GraphQLInputObjectType) and not inner.fields.keys().isdisjoint(_LOGIC | _QUANTIFIERS)


def _narrowed(filter_: dict[str, Any]) -> dict[str, Any]:
    """The filter, with a condition that an index serves and all rows satisfy if it has one that needs such a one."""
    if "containsInsensitive" not in json.dumps(filter_):
        return filter_
    always = {"createdAt": {"gte": "1999-01-01T00:00:00Z", "lt": "2999-01-01T00:00:00Z"}}
    return {**filter_, "and": [*filter_.get("and", []), always]}


def _is_slow(type_: GraphQLInputObjectType, name: str, field: GraphQLInputField) -> bool:
    return get_named_type(field.type).name == "JSONFilter" or (type_.name, name) == ("SpanFilter", "replayCount")
