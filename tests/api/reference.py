"""The same contract once more, naively: rows read as a whole, and each field resolved in Python by graphql-core.

Nothing here knows the compiler or its mapping; what a field means is written down a second time.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any
from uuid import UUID

from graphql import GraphQLResolveInfo, GraphQLSchema, build_schema, execute_sync, parse, print_schema
from sqlalchemy import Column, FromClause, func, select

from isola.api.schema import model
from isola.database.transactions import Transaction
from isola.domain.audit import audit_entries
from isola.domain.organizations import memberships, organizations
from isola.domain.permissions import Role, of_role
from isola.domain.resources import resources
from isola.domain.roles import roles, user_roles
from isola.domain.spans import spans
from isola.domain.users import users
from tests.api.conftest import Principal

SCHEMA: GraphQLSchema = build_schema(print_schema(model.schema))
CURSOR = "<cursor>"
# The same documents are answered for a caller under each strategy, one after another.
parsed = lru_cache(100)(parse)
TABLES = {
    "AuditEntry": audit_entries,
    "User": users,
    "Organization": organizations,
    "Resource": resources,
    "Role": roles,
    "Span": spans,
}
PREFIXES = {
    "User": "usr",
    "Organization": "org",
    "Resource": "res",
    "Span": "spn",
    "Role": "rol",
    "AuditEntry": "aud",
    "SharedResource": "shr",
    "Share": "shr",
    "ShareOffer": "shr",
}
ENUMS = {("Span", "visibility"), ("User", "kind")}
REFERENCES = {"resourceId": "Resource", "ownerId": "User", "authorId": "User", "organizationId": "Organization"}
ID = re.compile(r"(\w{3})_([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})")
Row = Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class Object:
    type: str
    row: Row


@dataclass(frozen=True, eq=False)
class Connection:
    rows: list[Object]
    total: int
    before: bool
    after: bool


@dataclass(frozen=True)
class Data:
    """All that one caller can see."""

    principal: Principal
    tables: Mapping[str, Sequence[Row]]
    members: set[tuple[UUID, UUID]]
    given: set[tuple[UUID, UUID]]
    shares: Mapping[UUID, Sequence[Row]]
    received: Sequence[Row]
    offers: Sequence[Row]
    shared: Mapping[UUID, Row]
    collation: Mapping[str, int]

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

    def resolve(  # noqa: C901, PLR0911, PLR0912  a table, one case a field
        self, source: Any, info: GraphQLResolveInfo[Any], **given: Any
    ) -> Any:
        field = info.field_name
        if isinstance(source, Connection):
            return _of_connection(source, field)
        if isinstance(source, dict):
            return source[field]
        row = source.row
        match source.type, field:
            case "Query", _:
                return self._root(field, given)
            case "Viewer", "plan":
                return Object("Plan", {"name": "unlimited", "title": "Unlimited"})
            case "Plan", "quotas":
                rows = [{"name": name.upper(), "limit": None, "used": used} for name, used in self._used().items()]
                return self._page([Object("Quota", each) for each in rows], given, ordered=True)
            case "Viewer", "user":
                return self._by_key("User", self.principal.user_id)
            case "Resource", "owner":
                return self._by_key("User", row["owner_id"])
            case "Resource", "spans":
                return self._page([o for o in self._all("Span") if o.row["resource_id"] == row["id"]], given)
            case "Resource", "shares":
                allowed = row["owner_id"] == self.principal.user_id or "resource:manage" in self.principal.permissions
                return self._page([Object("Share", r) for r in self.shares[row["id"]]] if allowed else [], given)
            case "Share", "grantedBy":
                return self._by_key("User", row["granted_by"])
            case "Share", "grantee":
                return {"slug": row["grantee_slug"]}
            case (("SharedResource" | "ShareOffer"), "owner"):
                return {"slug": row["owner_slug"], "name": row["owner_name"]}
            case "SharedResource", "resource":
                return Object("Resource", self.shared[row["id"]])
            case "Span", "author":
                return self._by_key("User", row["author_id"])
            case "Share", "resource":
                return self._by_key("Resource", row["row_id"])
            case "Span", "resource":
                return self._by_key("Resource", row["resource_id"])
            case "Span", "organization":
                return self._by_key("Organization", row["organization_id"])
            case "Organization", "members":
                return self._page([o for o in self._all("User") if (row["id"], o.row["id"]) in self.members], given)
            case "User", "organizations":
                return self._page(
                    [o for o in self._all("Organization") if (o.row["id"], row["id"]) in self.members], given
                )
            case "User", "roles":
                return self._page([o for o in self._all("Role") if (o.row["id"], row["id"]) in self.given], given)
            case "Role", "members":
                return self._page([o for o in self._all("User") if (row["id"], o.row["id"]) in self.given], given)
            case "Role", "permissions":
                return sorted(of_role(row["name"])) if row["name"] in set(Role) else row["permissions"]
            case "Role", "builtIn":
                return row["name"] in set(Role)
            case "AuditEntry", ("old" | "new"):
                return row[field] if self._shown(row, field) else None
            case "AuditEntry", "withheld":
                return any(row[name] is not None and not self._shown(row, name) for name in ("old", "new"))
            case type_, name if (type_, name) in ENUMS:
                return row[name].upper()
            case type_, "id":
                return f"{PREFIXES[type_]}_{row['id']}"
            case _, "resourceId":
                return f"res_{row['row_id']}"
        value = row[_snake(field)]
        # PostgreSQL leaves out the zeros at the end of a fraction.
        return value.isoformat(timespec="microseconds") if isinstance(value, datetime) else value

    def _root(self, field: str, given: Mapping[str, Any]) -> Any:  # noqa: PLR0911  as above
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
            case "apiKeys" | "domains":
                return self._page([], given)
            case "node":
                return self._by_id(given["id"])
            case "nodes":
                return [self._by_id(each) for each in given["ids"]]
            case "organization" | "resource" | "role" | "span" | "user":
                found = self._by_id(given["id"])
                return found if found and found.type == field.title() else None
            case "sharedWithMe":
                rows = sorted(self.received, key=lambda r: (r["granted_at"], r["id"]), reverse=True)
                return self._page([Object("SharedResource", row) for row in rows], given, ordered=True)
            case "shareOffers":
                rows = sorted(self.offers, key=lambda r: (r["offered_at"], r["id"]))
                return self._page([Object("ShareOffer", row) for row in rows], given, ordered=True)
        names = {
            "auditLog": "AuditEntry",
            "organizations": "Organization",
            "resources": "Resource",
            "roles": "Role",
            "timeline": "Span",
            "users": "User",
        }
        return self._page(self._all(names[field]), given)

    def _used(self) -> Mapping[str, int]:
        return {
            "api_keys": 0,
            "domains": 0,
            "resources": len(self.tables["Resource"]),
            "shares": sum(len(each) for each in self.shares.values()),
            "users": sum(bool(row["seen_at"] and not row["disabled_at"]) for row in self.tables["User"]),
        }

    def _by_id(self, text: str) -> Object | None:
        found = ID.fullmatch(text)
        if not found:
            return None
        if found[1] == "shr":
            rows = [row for row in self.received if row["id"] == UUID(found[2])]
            return Object("SharedResource", rows[0]) if rows else None
        types = [type_ for type_, prefix in PREFIXES.items() if prefix == found[1]]
        return self._by_key(types[0], UUID(found[2])) if types else None

    def _by_key(self, type_: str, key: UUID | None) -> Object | None:
        return next((each for each in self._all(type_) if each.row["id"] == key), None)

    def _all(self, type_: str) -> list[Object]:
        return [Object(type_, row) for row in self.tables[type_] if type_ != "Span" or self._visible(row)]

    def _shown(self, entry: Row, name: str) -> bool:
        """Whether the values of an entry of the log are for the caller."""
        subject, _, action = entry["action"].partition(":")
        if subject != "span" or entry[name] is None:
            return True
        then = entry[name]
        keys = {key: then[key] and UUID(then[key]) for key in ("author_id", "organization_id")}
        now = [row for row in self.tables["Span"] if f"spn_{row['id']}" == entry["object"]]
        return self._visible({**then, **keys}) and (action == "delete" or any(map(self._visible, now)))

    def _visible(self, span: Row) -> bool:
        viewer = self.principal.user_id
        return (
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
            return Connection(kept, total, before=len(kept) < total, after=False)
        size = 20 if given.get("first") is None else given["first"]
        return Connection(rows[:size], total, before=False, after=size < total)

    def _ordered(self, rows: list[Object], order: Sequence[Mapping[str, str]] | None) -> list[Object]:
        keys = [(each["field"].lower(), each["direction"] == "DESC") for each in order or ()]
        if not keys and rows and rows[0].type == "Span":
            keys = [("created_at", True)]
        if not keys and rows and rows[0].type == "AuditEntry":
            keys = [("id", True)]
        if "id" not in dict(keys):
            keys.append(("id", bool(keys) and keys[-1][1]))
        for column, descending in reversed(keys):
            rows = sorted(rows, key=lambda each: self._rank(each.row[column]), reverse=descending)
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
                case _:
                    holds = all(self._compare(name, each, *test) for test in given.items())
            if not holds:
                return False
        return True

    def _compare(self, name: str, each: Object, comparison: str, given: Any) -> bool:  # noqa: PLR0911  as above
        value = each.row[_snake(name)]
        if comparison == "isNull":
            return (value is None) is given
        if value is None:
            return False
        if comparison == "in":
            return any(self._compare(name, each, "eq", one) for one in given)
        if isinstance(value, UUID):
            return bool(given == f"{PREFIXES[REFERENCES.get(name, each.type)]}_{value}")
        if isinstance(value, datetime):
            given = datetime.fromisoformat(given)
        elif isinstance(value, int):
            given = int(given)
        elif (each.type, name) in ENUMS:
            return bool(value == given.lower())
        if comparison == "contains":
            return str(given) in value
        if comparison == "startsWith":
            return bool(value.startswith(given))
        one, other = self._rank(value), self._rank(given)
        found: dict[str, bool] = {
            "eq": value == given,
            "gt": one > other,
            "gte": one >= other,
            "lt": one < other,
            "lte": one <= other,
        }
        return found[comparison]


def _of_connection(source: Connection, field: str) -> Any:
    match field:
        case "edges":
            return [{"cursor": CURSOR, "node": each} for each in source.rows]
        case "nodes":
            return source.rows
        case "totalCount":
            return source.total
    return {
        "hasNextPage": source.after,
        "hasPreviousPage": source.before,
        "startCursor": CURSOR if source.rows else None,
        "endCursor": CURSOR if source.rows else None,
    }


def _snake(name: str) -> str:
    return re.sub(r"[A-Z]", lambda found: f"_{found[0].lower()}", name)


async def read(work: Transaction, principal: Principal, texts: Sequence[str]) -> Data:
    """Everything in the caller's tenant; ``texts`` are what rows will be compared with."""
    tables = {type_: [dict(row) for row in await work.rows(select(table))] for type_, table in TABLES.items()}
    rows = [row for each in tables.values() for row in each]
    known = sorted({value for row in rows for value in row.values() if isinstance(value, str)} | set(texts))
    in_order = await work.texts("SELECT t FROM unnest($1::text[]) t ORDER BY t", known)
    shares = func.isola.shares_of
    received = [dict(row) for row in await work.rows(select(func.isola.shares_received().table_valued(*_RECEIVED)))]
    offers = await work.rows(select(func.isola.share_offers().table_valued(*_OFFERS)))
    return Data(
        principal,
        tables,
        {(row["organization_id"], row["user_id"]) for row in await work.rows(select(memberships))},
        {(row["role_id"], row["user_id"]) for row in await work.rows(select(user_roles))},
        {
            row["id"]: sorted(
                (
                    dict(found)
                    for found in await work.rows(select(shares("resource", row["id"]).table_valued(*_SHARES)))
                ),
                key=lambda found: found["id"],
            )
            for row in tables["Resource"]
        },
        received,
        [dict(row) for row in offers],
        {row["id"]: dict((await work.rows(select(_shared(row["id"]))))[0]) for row in received},
        {text: place for place, text in enumerate(in_order)},
    )


_RECEIVED = ("id", "owner_slug", "owner_name", "granted_at", "expires_at")
_OFFERS = ("id", "owner_slug", "owner_name", "offered_at", "accepted")
_SHARES = ("id", "row_id", "grantee_slug", "granted_by", "granted_at", "expires_at")


def _shared(share: UUID) -> FromClause:
    columns = [Column(name, resources.c[name].type) for name in resources.info["shared_columns"]]
    return func.isola.shared_row("resource", share).table_valued(*columns, name="s").render_derived(with_types=True)
