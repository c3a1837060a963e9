"""A naive second implementation of the contract: whole rows are read, and graphql-core resolves fields in Python.

It does not use the compiler or its mapping; it defines the meaning of each field independently.
"""

import re
import sys
import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping, Sequence, Set as AbstractSet
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from hashlib import sha256
from typing import Any
from uuid import UUID

from graphql import (
    GraphQLObjectType,
    GraphQLResolveInfo,
    GraphQLSchema,
    build_schema,
    execute_sync,
    get_named_type,
    parse,
    print_schema,
)
from sqlalchemy import (
    ARRAY,
    Column,
    ColumnElement,
    DateTime,
    Table,
    Text,
    TextClause,
    Uuid,
    func,
    literal_column,
    select,
    text,
)
from sqlalchemy.types import TypeEngine

from isola.api.declared.granting import ShareableType
from isola.api.schema import model
from isola.database.transactions import Transaction
from isola.installed import SUBJECTS
from isola.subjects import features, meters, retention
from isola.subjects.audit import audit_entries
from isola.subjects.declaration import Declaration, Member, Reference, Relation, field_of
from isola.subjects.organizations import memberships
from isola.subjects.permissions import Role, of_role
from isola.subjects.roles import user_roles
from isola.subjects.shares import ShareAccess, own_shares
from isola.subjects.table import pair_columns, pairs_table
from tests.api.conftest import Principal

SCHEMA: GraphQLSchema = build_schema(print_schema(model.schema))
CURSOR = "<cursor>"
# Durations that filters compare with.
DURATIONS = {
    "PT0S": timedelta(0),
    "P52W": timedelta(weeks=52),
    "P36500D": timedelta(days=36_500),
    "-P1DT2H": -timedelta(days=1, hours=2),
    "PT90M": timedelta(minutes=90),
}
# A cache, because the same documents are answered for a caller under each strategy.
parsed = lru_cache(100)(parse)
DECLARED: Mapping[str, Declaration] = {each.__name__: each.declaration for each in SUBJECTS}
TABLES = {"AuditEntry": audit_entries, **{type_: each.subject.table for type_, each in DECLARED.items()}}
SHARED = {
    **dict.fromkeys(("ReceivedShare", "Share"), "shr"),
    "ShareComment": "cmt",
    "Partnership": "prt",
    "PartnershipOffer": "prt",
}
PREFIXES = {**{type_: each.prefix for type_, each in DECLARED.items()}, "AuditEntry": "aud", **SHARED}
ENUMS = {
    (type_, field_of(each.column)): each.annotation.enum
    for type_, declaration in DECLARED.items()
    for each in declaration.columns
    if each.annotation.enum
}
SHAREABLE = [type_ for type_, each in DECLARED.items() if each.subject.shared]
# Of shared rows, and what shares are filtered by.
ENUMS |= {(f"Shared{type_}", name): enum for (type_, name), enum in ENUMS.items() if type_ in SHAREABLE}
ENUMS |= {("Share", "type"): ShareableType}
COMMENTED = ("Share", "ReceivedShare", "GrantingShare")
ENUMS |= {(type_, "access"): ShareAccess for type_ in COMMENTED}
# The type whose ids a field compares with.
REFERENCES = {
    (type_, field_of(each.column)): each.target.__name__
    for type_, declaration in DECLARED.items()
    for each in declaration.references
}
REFERENCES |= {("Share", "grantedById"): "User"}
REFERENCES |= {("Share", field_of(f"{DECLARED[type_].name}_id")): type_ for type_ in SHAREABLE}
RELATIONS = {
    (type_, field_of(each.name)): each
    for type_, declaration in DECLARED.items()
    for each in declaration.members.values()
    if isinstance(each.declared, Reference | Relation)
}
# Relations that hand-written fields add.
PAIRED = {("Organization", "members"), ("User", "organizations"), ("User", "roles"), ("Role", "members")}
IN_FORCE = {field_of(f"current_{each.name}"): type_ for type_, each in DECLARED.items() if each.settings}
ONE = {field_of(each.name): type_ for type_, each in DECLARED.items()}
LISTS = {"auditLog": "AuditEntry", **{field_of(each.listed_as): type_ for type_, each in DECLARED.items()}}
ORDERS = {
    "AuditEntry": [("id", True)],
    **{type_: list(each.order) for type_, each in DECLARED.items()},
}
SHARED_LISTS = {field_of(f"shared_{DECLARED[type_].plural}"): f"Shared{type_}" for type_ in SHAREABLE}
ORDERS |= {type_: [("shared_at", True)] for type_ in SHARED_LISTS.values()}
PREFIXES |= dict.fromkeys(SHARED_LISTS.values(), "shr")
PAIRS = [
    (pairs_table(declaration, each), *pair_columns(declaration, each))
    for declaration in DECLARED.values()
    for each in declaration.pairs
]
# Texts of searches, and whether the last word can be the beginning of one.
SEARCHES = [
    ("granite", False),
    ("Gr\u00e0nites", False),
    ("the amber and 5", False),
    ("ember  krypton", False),
    ("juniper gran", True),
    ("k", True),
    ("the", False),
    ("", True),
    ("harborx", False),
]
ID = re.compile(r"(\w{3})_([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})")
Row = Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class Object:
    type: str
    row: Row


@dataclass(frozen=True, eq=False)
class Connection:
    rows: list[Object]
    all: list[Object]
    before: bool
    after: bool


@dataclass(frozen=True)
class Data:
    """All data that one caller can see."""

    principal: Principal
    tables: Mapping[str, Sequence[Row]]
    members: set[tuple[UUID, UUID]]
    given: set[tuple[UUID, UUID]]
    shares: Mapping[UUID, Sequence[Row]]
    received: Sequence[Row]
    comments: Mapping[UUID, Sequence[Row]]
    partnerships: Mapping[str, Sequence[Row]]
    shared: Mapping[UUID, Object]
    collation: Mapping[str, int]
    pairs: Mapping[str, Sequence[Row]]
    counted: Mapping[str, int]
    found: Mapping[str, Mapping[tuple[str, bool], AbstractSet[UUID]]]
    """The ids of the rows of a type that each search finds."""

    def answer(self, document: str, variables: Mapping[str, Any]) -> Any:
        result = execute_sync(
            SCHEMA,
            parsed(document),
            root_value=Object("Query", {}),
            variable_values=dict(variables),
            field_resolver=self.resolve,
            type_resolver=lambda value, _info, _type: value.type,
        )
        assert not result.errors, result.errors
        return result.data

    def resolve(  # noqa: C901, PLR0911, PLR0912, PLR0915  a table, one case a field
        self, source: Any, info: GraphQLResolveInfo[Any], **given: Any
    ) -> Any:
        field = info.field_name
        if isinstance(source, Connection):
            if field == "groups":
                return self._grouped(source.all, info)
            return _of_connection(source, field, self.principal)
        if isinstance(source, dict):
            return source[field]
        row = source.row
        match source.type, field:
            case "Query", _:
                return self._root(field, given)
            case "Viewer", "plan":
                unlimited = {"name": "unlimited", "title": "Unlimited", "features": sorted(features.known())}
                return Object("Plan", {**unlimited, "price": None, "currency": None, "period": None})
            case "Plan", "quotas":
                always: dict[str, object] = {"limit": None, "until": None, "measured_at": None}
                rows = [{**always, "name": name.upper(), "used": used} for name, used in self._used().items()]
                return self._page([Object("Quota", each) for each in rows], given, ordered=True)
            case "Plan", "limits":
                unused = {"limit": None, "until": None}
                limits = [
                    {**unused, "meter": name, "kind": meter.kind.upper(), "period": meter.period.upper()}
                    for name, meter in sorted(meters.known().items())
                ]
                return self._page([Object("Limit", each) for each in limits], given, ordered=True)
            case "Plan", "retention":
                kept = [{"subject": name, "days": None, "until": None} for name in retention.names()]
                return self._page([Object("Retention", each) for each in kept], given, ordered=True)
            case ("Viewer", "sessions") | ("Plan", "rates"):
                return self._page([], given, ordered=True)
            case "Viewer", "user":
                return self._by_key("User", self.principal.user_id)
            case type_, "shares":
                declaration = DECLARED[type_]
                owned = declaration.owner is None or row[declaration.owner.column] == self.principal.user_id
                allowed = owned or declaration.permissions["manage"] in self.principal.permissions
                return self._page([Object("Share", r) for r in self.shares[row["id"]]] if allowed else [], given)
            case "Share", name if name.removesuffix("Id") in ONE:
                type_ = ONE[name.removesuffix("Id")]
                if row["subject"] != DECLARED[type_].name:
                    return None
                shared = self._by_key(type_, row["row_id"])
                return shared if name in ONE or shared is None else f"{PREFIXES[type_]}_{row['row_id']}"
            case "Share", "grantedBy":
                return self._by_key("User", row["granted_by"])
            case "Share", "grantee":
                return {"slug": row["grantee_slug"]} if row["grantee_slug"] is not None else None
            case "Share", "rule":
                return None
            case "Share", "fields":
                return [each.upper() for each in row["fields"]]
            case _, "grantedFields":
                return [each.upper() for each in row["granted_fields"]]
            case _, "share":
                times = {"granted_at": row["shared_at"], "expires_at": row["shared_until"]}
                named = {"owner_slug": row["shared_by"], "owner_name": row["owner_name"]}
                granted = {"id": row["id"], "note": row["share_note"], "access": row["share_access"]}
                return Object("GrantingShare", {**granted, **named, **times})
            case (("ReceivedShare" | "GrantingShare"), "owner"):
                return {"slug": row["owner_slug"], "name": row["owner_name"]}
            case type_, "comments" if type_ in COMMENTED:
                return self._page(
                    [Object("ShareComment", each) for each in self.comments[row["id"]]], given, ordered=True
                )
            case "ShareComment", "tenant":
                return {"slug": row["tenant_slug"], "name": row["tenant_name"]}
            case "ShareComment", "author":
                return self._by_key("User", row["author_id"])
            case "ShareComment", "shareId":
                return f"shr_{row['share_id']}"
            case ("PartnershipOffer", "tenant"):
                return {"slug": row["offerer_slug"], "name": row["offerer_name"]}
            case "ReceivedShare", name if name in ONE:
                shared = self.shared[row["id"]]
                return shared if shared.type == f"Shared{ONE[name]}" else None
            case type_, name if (type_, name) in PAIRED:
                return self._page(self._paired(type_, name, row), given)
            case "Role", "permissions":
                return sorted(of_role(row["name"])) if row["name"] in set(Role) else row["permissions"]
            case "Role", "builtIn":
                return row["name"] in set(Role)
            case "Flag", "on":
                digest = sha256(f"flg_{row['id']}:usr_{self.principal.user_id}".encode()).digest()
                shares = {"off": 0, "on": 100, "percentage": row["percentage"]}
                return int.from_bytes(digest[:4], "big") * 100 >> 32 < shares[row["state"]]
            case "Span", "replayCount":
                return sum(each.row["replay_from_id"] == row["id"] for each in self._all("Span"))
            case "AuditEntry", ("old" | "new"):
                return row[field] if self._shown(row, field) else None
            case "AuditEntry", "withheld":
                return any(row[name] is not None and not self._shown(row, name) for name in ("old", "new"))
            case type_, name if (type_, name) in RELATIONS:
                return self._related(RELATIONS[type_, name], row, given)
            case type_, name if (type_, name) in ENUMS:
                value = row[_snake(name)]
                return None if value is None else ENUMS[type_, name](value).name
            case type_, "id":
                return f"{PREFIXES[type_]}_{row['id']}"
        return _shown(row[_snake(field)])

    def _paired(self, type_: str, name: str, row: Row) -> list[Object]:
        match type_, name:
            case "Organization", "members":
                return [o for o in self._all("User") if (row["id"], o.row["id"]) in self.members]
            case "User", "organizations":
                return [o for o in self._all("Organization") if (o.row["id"], row["id"]) in self.members]
            case "User", "roles":
                return [o for o in self._all("Role") if (o.row["id"], row["id"]) in self.given]
        return [o for o in self._all("User") if (row["id"], o.row["id"]) in self.given]

    def _related(self, member: Member, row: Row, given: Mapping[str, Any]) -> Any:
        if isinstance(member.declared, Reference):
            return self._by_key(member.target.__name__, row[member.column])
        return self._page(self._several(member, row), given)

    def _several(self, member: Member, row: Row) -> list[Object]:
        target = member.target.__name__
        by = member.declared.by if isinstance(member.declared, Relation) else None
        back = member.target.declaration.members.get(by or "")
        if back is not None and isinstance(back.declared, Reference):
            return [each for each in self._all(target) if each.row[back.column] == row["id"]]
        if back is None:
            near, far = pair_columns(member.declaration, member)
            table = pairs_table(member.declaration, member).name
        else:
            far, near = pair_columns(member.target.declaration, back)
            table = pairs_table(member.target.declaration, back).name
        keys = {pair[far] for pair in self.pairs[table] if pair[near] == row["id"]}
        return [each for each in self._all(target) if each.row["id"] in keys]

    def _root(self, field: str, given: Mapping[str, Any]) -> Any:  # noqa: C901, PLR0911  as above
        match field:
            case "viewer":
                tenant = {"slug": self.principal.tenant.slug, "name": self.principal.tenant.name}
                viewed = list(self.principal.roles)
                return Object(
                    "Viewer",
                    {
                        "tenant": tenant,
                        "roles": viewed,
                        "permissions": sorted(self.principal.permissions),
                        "memberships": [{"tenant": tenant, "roles": viewed}],
                    },
                )
            case (
                "apiKeys"
                | "domains"
                | "incidents"
                | "blockedTenants"
                | "partnerDomains"
                | "remoteOwners"
                | "remotePartners"
                | "shareRules"
                | "webhooks"
            ):
                return self._page([], given)
            case "node":
                return self._by_id(given["id"])
            case "nodes":
                return [self._by_id(each) for each in given["ids"]]
            case name if name in IN_FORCE:
                return self._in_force(IN_FORCE[name])
            case name if name in ONE:
                found = self._by_id(given["id"])
                return found if found and found.type == ONE[name] else None
            case "sharedWithMe":
                rows = sorted(self.received, key=lambda r: (r["granted_at"], r["id"]), reverse=True)
                return self._page([Object("ReceivedShare", row) for row in rows], given, ordered=True)
            case "myShares":
                manages = "share:manage" in self.principal.permissions
                own = [row for each in self.shares.values() for row in each]
                shown = [row for row in own if manages or row["granted_by"] == self.principal.user_id]
                return self._page([Object("Share", row) for row in shown], given)
            case "partnerships" | "partnershipOffers":
                type_ = "Partnership" if field == "partnerships" else "PartnershipOffer"
                rows = sorted(self.partnerships[field], key=lambda r: (r["offered_at"], r["id"]))
                return self._page([Object(type_, row) for row in rows], given, ordered=True)
            case name if name in SHARED_LISTS:
                return self._page([row for row in self.shared.values() if row.type == SHARED_LISTS[name]], given)
        return self._page(self._all(LISTS[field]), given)

    def _in_force(self, type_: str) -> Object:
        """The settings of the newest version, or the defaults."""
        versions = sorted((each.row for each in self._all(type_)), key=lambda row: int(row["number"]))
        defaults = {each.column: getattr(each.declared, "default", None) for each in DECLARED[type_].columns}
        return Object(f"Current{type_}", versions[-1] if versions else defaults)

    def _used(self) -> Mapping[str, int]:
        shares = sum(len(each) for each in self.shares.values())
        return dict(sorted({"api_keys": 0, "domains": 0, "shares": shares, "storage": 0, **self.counted}.items()))

    def _by_id(self, text: str) -> Object | None:
        found = ID.fullmatch(text)
        if not found:
            return None
        if found[1] == "shr":
            rows = [row for row in self.received if row["id"] == UUID(found[2])]
            return Object("ReceivedShare", rows[0]) if rows else None
        types = [type_ for type_, prefix in PREFIXES.items() if prefix == found[1]]
        return self._by_key(types[0], UUID(found[2])) if types else None

    def _by_key(self, type_: str, key: UUID | None) -> Object | None:
        return next((each for each in self._all(type_) if each.row["id"] == key), None)

    def _all(self, type_: str) -> list[Object]:
        return [Object(type_, row) for row in self.tables[type_] if type_ != "Span" or self._visible(row)]

    def _shown(self, entry: Row, name: str) -> bool:
        """Whether the caller may see the values of a log entry."""
        subject, _, action = entry["action"].partition(":")
        if subject != "span" or entry[name] is None:
            return True
        then = entry[name]
        keys = {key: then[key] and UUID(then[key]) for key in ("author_id", "organization_id")}
        now = [row for row in self.tables["Span"] if f"spn_{row['id']}" == entry["object"]]
        return self._visible({**then, **keys}) and (action == "delete" or any(map(self._visible, now)))

    def _visible(self, span: Row) -> bool:
        viewer = self.principal.user_id
        if span["author_id"] is None and "ghost:read" in self.principal.permissions:
            return True
        return span["type"] != "ghost" and (
            span["visibility"] == "public"
            or span["author_id"] == viewer
            or (span["visibility"] == "organization" and (span["organization_id"], viewer) in self.members)
        )

    def _page(self, rows: list[Object], given: Mapping[str, Any], *, ordered: bool = False) -> Connection:
        rows = [each for each in rows if given.get("filter") is None or self._holds(given["filter"], each)]
        if not ordered:
            rows = self._ordered(rows, given.get("orderBy"))
        total = len(rows)
        if given.get("last") is not None:
            kept = rows[total - min(given["last"], total) :]
            return Connection(kept, rows, before=len(kept) < total, after=False)
        size = 20 if given.get("first") is None else given["first"]
        return Connection(rows[:size], rows, before=False, after=size < total)

    def _grouped(self, rows: list[Object], info: GraphQLResolveInfo[Any]) -> Mapping[str, Any]:
        """The numbers of rows by the value of each field, from all fields that can be selected."""
        groups = get_named_type(info.return_type)
        assert isinstance(groups, GraphQLObjectType)
        return {name: self._counted(groups.name.removesuffix("Groups"), rows, name) for name in groups.fields}

    def _counted(self, type_: str, rows: list[Object], name: str) -> Sequence[Mapping[str, Any]]:
        numbers = Counter(self._group_of(type_, each, name) for each in rows)
        found = sorted(numbers.items(), key=lambda each: (-each[1], self._rank(each[0])))
        return [{"value": self._group_shown(type_, name, value), "count": number} for value, number in found[:100]]

    def _group_of(self, type_: str, each: Object, name: str) -> Any:
        value = each.row[_snake(name)]
        hidden = REFERENCES.get((type_, name)) == "Span" and self._by_key("Span", value) is None
        return None if hidden else value

    def _group_shown(self, type_: str, name: str, value: Any) -> Any:
        if value is not None and (type_, name) in REFERENCES:
            return f"{PREFIXES[REFERENCES[type_, name]]}_{value}"
        return ENUMS[type_, name](value).name if value is not None and (type_, name) in ENUMS else _shown(value)

    def _ordered(self, rows: list[Object], order: Sequence[Mapping[str, str]] | None) -> list[Object]:
        keys: list[tuple[str, bool, str | None]] = [
            (each["field"].lower(), each["direction"] == "DESC", each.get("nulls")) for each in order or ()
        ]
        if not keys and rows:
            keys = [(*each, None) for each in ORDERS.get(rows[0].type, ())]
        if "id" not in {column for column, _, _ in keys}:
            keys.append(("id", bool(keys) and keys[-1][1], None))
        for column, descending, nulls in reversed(keys):
            rows = sorted(rows, key=lambda each: self._rank(each.row[column]), reverse=descending)
            if nulls is not None:
                rows = sorted(rows, key=lambda each: (each.row[column] is None) == (nulls == "LAST"))
        return rows

    def _rank(self, value: Any) -> tuple[bool, Any]:
        if value is None:
            return True, 0
        return False, self.collation[value] if isinstance(value, str) else value

    def _holds(self, filter_: Mapping[str, Any], each: Object) -> bool:
        for name, given in filter_.items():
            match name:
                case "and":
                    holds = all(self._holds(part, each) for part in given)
                case "or":
                    holds = any(self._holds(part, each) for part in given)
                case "not":
                    holds = not self._holds(given, each)
                case "search":
                    holds = each.row["id"] in self.found[each.type][given["text"], given["prefix"]]
                case _ if (each.type, name) in PAIRED:
                    holds = self._some_or_none(self._paired(each.type, name, each.row), given)
                case _ if (each.type, name) in RELATIONS:
                    holds = self._relation_holds(RELATIONS[each.type, name], each, given)
                case _:
                    holds = all(self._compare(name, each, *test) for test in given.items())
            if not holds:
                return False
        return True

    def _relation_holds(self, member: Member, each: Object, given: Mapping[str, Any]) -> bool:
        if isinstance(member.declared, Relation):
            return self._some_or_none(self._several(member, each.row), given)
        related = self._by_key(member.target.__name__, each.row[member.column])
        return related is not None and self._holds(given, related)

    def _some_or_none(self, rows: list[Object], given: Mapping[str, Any]) -> bool:
        wanted = {"some": True, "none": False}
        return all(
            any(self._holds(inner, row) for row in rows) is wanted[quantifier] for quantifier, inner in given.items()
        )

    def _compare(self, name: str, each: Object, comparison: str, given: Any) -> bool:  # noqa: PLR0911, C901  as above
        value = each.row[_snake(name)]
        if REFERENCES.get((each.type, name)) == "Span" and self._by_key("Span", value) is None:
            value = None  # a span that the caller may not see is like none
        if comparison == "isNull":
            return (value is None) is given
        if value is None:
            return False
        if comparison in {"newerThan", "olderThan"}:
            then = datetime.now(UTC) - DURATIONS[given]
            return bool(value > then if comparison == "newerThan" else value < then)
        if comparison == "in":
            return any(self._compare(name, each, "eq", one) for one in given)
        if name == "id" or (each.type, name) in REFERENCES:
            return bool(given == f"{PREFIXES[REFERENCES.get((each.type, name), each.type)]}_{value}")
        if (each.type, name) in ENUMS:
            return bool(ENUMS[each.type, name](value).name == given)
        if not isinstance(value, str):
            given = _read(type(value), given)
        if comparison == "contains":
            return str(given) in value
        if comparison == "startsWith":
            return bool(value.startswith(given))
        if comparison.endswith("Insensitive"):
            plain = PLAIN[comparison.removesuffix("Insensitive")]
            return plain(folded(value), folded(given))
        one, other = self._rank(value), self._rank(given)
        found: dict[str, bool] = {
            "eq": value == given,
            "gt": one > other,
            "gte": one >= other,
            "lt": one < other,
            "lte": one <= other,
        }
        return found[comparison]


PLAIN: Mapping[str, Callable[[str, str], bool]] = {
    "eq": str.__eq__,
    "startsWith": str.startswith,
    "contains": str.__contains__,
}


def folded(text: str) -> str:
    """In lower case and without accents, as the database has it; whatever is around a character."""
    split = unicodedata.normalize("NFKD", text)
    return "".join(each.lower() for each in split if not "\u0300" <= each <= "\u036f" and each != chr(sys.maxunicode))


def _of_connection(source: Connection, field: str, principal: Principal) -> Any:
    match field:
        case "edges":
            tenant = {"slug": principal.tenant.slug, "name": principal.tenant.name}
            return [{"cursor": CURSOR, "node": each, "tenant": tenant} for each in source.rows]
        case "nodes":
            return source.rows
        case "totalCount":
            return len(source.all)
    return {
        "hasNextPage": source.after,
        "hasPreviousPage": source.before,
        "startCursor": CURSOR if source.rows else None,
        "endCursor": CURSOR if source.rows else None,
    }


def _shown(value: Any) -> Any:
    """A value in its JSON form."""
    match value:
        case datetime():
            # PostgreSQL omits trailing zeros of a fraction.
            return value.isoformat(timespec="microseconds")
        case date():
            return value.isoformat()
        case Decimal():
            return f"{value.normalize():f}"
        case UUID():
            return str(value)
        case _:
            return value


def _read(type_: type, value: Any) -> Any:
    """A filter value of a client, as a value of a Python type."""
    if type_ in {date, datetime}:
        return type_.fromisoformat(value)
    return Decimal(str(value)) if type_ in {int, Decimal} else type_(value)


def _snake(name: str) -> str:
    return re.sub(r"[A-Z]", lambda found: f"_{found[0].lower()}", name)


async def read(whole: Transaction, work: Transaction, principal: Principal, texts: Sequence[str]) -> Data:
    """Read everything in the caller's tenant; ``texts`` are the values that filters compare with.

    ``whole`` is a transaction of the owner, which no policy applies to; ``work`` is one of the caller.
    """
    tables = {type_: await _all_of(whole, table) for type_, table in TABLES.items()}
    rows = [row for each in tables.values() for row in each]
    shares = {
        row["id"]: await _shares(work, DECLARED[type_], row["id"]) for type_ in SHAREABLE for row in tables[type_]
    }
    rows += [row for each in shares.values() for row in each]
    known = sorted({value for row in rows for value in row.values() if isinstance(value, str)} | set(texts))
    in_order = await work.texts("SELECT t FROM unnest($1::text[]) t ORDER BY t", known)
    received = [dict(row) for row in await work.rows(select(func.isola.shares_received().table_valued(*_RECEIVED)))]
    partnerships = await work.rows(select(func.isola.partnerships().table_valued(*_PARTNERSHIPS)))
    offers = await work.rows(select(func.isola.partnership_offers().table_valued(*_OFFERS)))
    return Data(
        principal,
        tables,
        {(row["organization_id"], row["user_id"]) for row in await _all_of(whole, memberships)},
        {(row["role_id"], row["user_id"]) for row in await _all_of(whole, user_roles)},
        shares,
        received,
        {key: await _comments(work, key) for key in [*(row["id"] for row in received), *_ids(shares)]},
        {"partnerships": [dict(row) for row in partnerships], "partnershipOffers": [dict(row) for row in offers]},
        {row["id"]: await _shared(work, row["id"]) for row in received},
        {text: place for place, text in enumerate(in_order)},
        {table.name: await _all_of(whole, table) for table, _, _ in PAIRS},
        {each.plural: await _counted(whole, each) for each in DECLARED.values() if each.counted},
        {
            type_: {each: await _found(whole, declaration, *each) for each in SEARCHES}
            for type_, declaration in DECLARED.items()
            if declaration.searched
        },
    )


async def _all_of(whole: Transaction, table: Table) -> Sequence[Row]:
    return [dict(row) for row in await whole.rows(select(table).where(_of_tenant(whole, table)))]


async def _counted(whole: Transaction, declaration: Declaration) -> int:
    """How many rows of a subject count towards its quota."""
    table = declaration.subject.table
    condition = [text(declaration.counted)] if isinstance(declaration.counted, str) else []
    rows = select(func.count()).select_from(table).where(_of_tenant(whole, table), *condition)
    count: int = await whole.scalar(rows)
    return count


async def _found(whole: Transaction, declaration: Declaration, searched: str, prefix: bool) -> AbstractSet[UUID]:  # noqa: FBT001  an argument of the API
    """The rows that PostgreSQL's own full-text search finds, without accents."""
    table, words = declaration.subject.table, unicodedata.normalize("NFKD", searched).encode("ascii", "ignore").decode()
    *whole_words, last = words.split(" ") if prefix else [words, ""]
    language: ColumnElement[Any] = literal_column(f"'{declaration.subject.searched_as}'::regconfig")
    query: ColumnElement[Any] = func.plainto_tsquery(language, " ".join(whole_words))
    if last:
        query = query.op("&&")(func.to_tsquery(language, f"'{last}':*"))
    texts = func.concat_ws(" ", *(table.c[each] for each in declaration.searched))
    found = select(table.c.id).where(func.to_tsvector(language, texts).op("@@")(query), _of_tenant(whole, table))
    return {row["id"] for row in await whole.rows(found)}


def _of_tenant(whole: Transaction, table: Table) -> TextClause:
    """The rows of the tenant that the owner's transaction is bound to."""
    return text(whole.strategy.predicate(table.name) or "true")


_RECEIVED = ("id", "owner_slug", "owner_name", "granted_at", "expires_at", "note", "access")
# What a shared row has of its share: by the names by which it is filtered and ordered, as far as it is.
_OF_SHARE: Mapping[str, TypeEngine[Any]] = {
    "id": Uuid(),
    "shared_by": Text(),
    "owner_name": Text(),
    "shared_at": DateTime(timezone=True),
    "shared_until": DateTime(timezone=True),
    "share_note": Text(),
    "share_access": Text(),
}
_PARTNERSHIPS = ("id", "slug", "name", "offered_at", "accepted_at")
_OF_COMMENT = ("id", "share_id", "tenant_slug", "tenant_name", "author_id", "text", "created_at")
_OFFERS = ("id", "offerer_slug", "offerer_name", "offered_at")


async def _shares(work: Transaction, declaration: Declaration, key: UUID) -> Sequence[Row]:
    """The shares of a row, with what a filter compares."""
    of_row = own_shares.c.subject == declaration.name, own_shares.c.row_id == key
    found = [dict(row) for row in await work.rows(select(own_shares).where(*of_row))]
    for row in found:
        row |= {"type": row["subject"], "grantee": row["grantee_slug"], "granted_by_id": row["granted_by"]}
        row |= {f"{DECLARED[type_].name}_id": row["row_id"] for type_ in SHAREABLE}
    return found


def _ids(shares: Mapping[UUID, Sequence[Row]]) -> Sequence[UUID]:
    return [row["id"] for each in shares.values() for row in each]


async def _comments(work: Transaction, share: UUID) -> Sequence[Row]:
    """The comments on a share, oldest first."""
    found = func.isola.share_comments(share).table_valued(*_OF_COMMENT)
    return [dict(row) for row in await work.rows(select(found).order_by(found.c.id))]


async def _shared(work: Transaction, share: UUID) -> Object:
    """The row that a received share grants."""
    for type_ in SHAREABLE:
        declaration = DECLARED[type_]
        columns = [Column(name, declaration.subject.table.c[name].type) for name in declaration.shared]
        columns.append(Column("granted_fields", ARRAY(Text)))
        columns += [Column(name, type_of) for name, type_of in _OF_SHARE.items()]
        row = func.isola.shared_rows(declaration.name, share).table_valued(*columns, name="s")
        for found in await work.rows(select(row.render_derived(with_types=True))):
            return Object(f"Shared{type_}", dict(found))
    raise LookupError("a share leads to nothing")
