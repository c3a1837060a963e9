"""Strawberry as its documentation shows it: SQLAlchemy models and sessions, resolvers, and DataLoaders against N + 1.

One session per request, in one transaction whose first statement binds it to the tenant. Tables and policies are the
same as for all peers. Documents are parsed and validated once, by Strawberry's own extensions.
"""

import base64
import json
import os
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from enum import Enum
from typing import Any, NewType
from uuid import UUID

import strawberry
import uvicorn
import uvloop
from sqlalchemy import BigInteger, DateTime, ForeignKey, Text, and_, exists, func, make_url, or_, select, text, tuple_
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, aliased, mapped_column
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.websockets import WebSocket
from strawberry.asgi import GraphQL
from strawberry.dataloader import DataLoader
from strawberry.extensions import ParserCache, SchemaExtension, ValidationCache
from strawberry.scalars import JSON
from strawberry.schema.config import StrawberryConfig

from isola.lab.peers.tokens import Verifier


class Base(DeclarativeBase):
    type_annotation_map = {datetime: DateTime(timezone=True), dict[str, Any]: JSONB, str: Text, int: BigInteger}  # noqa: RUF012  SQLAlchemy's own way


class UserRow(Base):
    __tablename__ = "users"
    id: Mapped[UUID] = mapped_column(primary_key=True)
    name: Mapped[str]
    email: Mapped[str | None]


class ResourceRow(Base):
    __tablename__ = "resources"
    id: Mapped[UUID] = mapped_column(primary_key=True, server_default=text("isola.uuid_v7()"))
    owner_id: Mapped[UUID] = mapped_column(ForeignKey("users.id"))
    name: Mapped[str]
    kind: Mapped[str | None]
    data: Mapped[dict[str, Any]]
    size_bytes: Mapped[int]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())


class SpanRow(Base):
    __tablename__ = "spans"
    id: Mapped[UUID] = mapped_column(primary_key=True)
    author_id: Mapped[UUID] = mapped_column(ForeignKey("users.id"))
    resource_id: Mapped[UUID | None] = mapped_column(ForeignKey("resources.id"))
    organization_id: Mapped[UUID | None]
    title: Mapped[str]
    visibility: Mapped[str]
    created_at: Mapped[datetime]


class MembershipRow(Base):
    __tablename__ = "memberships"
    organization_id: Mapped[UUID] = mapped_column(primary_key=True)
    user_id: Mapped[UUID] = mapped_column(primary_key=True)


class Loaders:
    """The DataLoaders of one request."""

    def __init__(self, session: AsyncSession, user: UUID) -> None:
        self._session = session
        self._user = user
        self.users: DataLoader[UUID, UserRow] = DataLoader(self._users)
        self.spans: DataLoader[tuple[UUID, int], list[SpanRow]] = DataLoader(self._spans)

    async def _users(self, keys: list[UUID]) -> Sequence[UserRow]:
        rows = await self._session.scalars(select(UserRow).where(UserRow.id.in_(keys)))
        found = {row.id: row for row in rows}
        return [found[key] for key in keys]

    async def _spans(self, keys: list[tuple[UUID, int]]) -> Sequence[list[SpanRow]]:
        """The newest spans of each resource that the user may read. All keys of a request have the same limit."""
        number = func.row_number().over(
            partition_by=SpanRow.resource_id, order_by=(SpanRow.created_at.desc(), SpanRow.id.desc())
        )
        member = exists().where(
            MembershipRow.organization_id == SpanRow.organization_id, MembershipRow.user_id == self._user
        )
        visible = or_(
            SpanRow.visibility == "public",
            SpanRow.author_id == self._user,
            and_(SpanRow.visibility == "organization", member),
        )
        numbered = (
            select(SpanRow, number.label("number"))
            .where(SpanRow.resource_id.in_([key for key, _ in keys]), visible)
            .subquery()
        )
        newest = aliased(SpanRow, numbered)
        most = max(first for _, first in keys)
        found: dict[UUID | None, list[SpanRow]] = defaultdict(list)
        for row in await self._session.scalars(
            select(newest).where(numbered.c.number <= most).order_by(numbered.c.number)
        ):
            found[row.resource_id].append(row)
        return [found[key][:first] for key, first in keys]


class Context:
    """One request. Its session exists while an operation is executed."""

    session: AsyncSession
    loaders: Loaders

    def __init__(self, claims: dict[str, Any]) -> None:
        self.tenant = claims["tenant"]
        self.user = UUID(claims["sub"])


Info = strawberry.Info[Context, None]
BigInt = NewType("BigInt", int)


@strawberry.type
class User:
    id: strawberry.ID
    name: str
    email: str | None

    @classmethod
    def of(cls, row: UserRow) -> "User":
        return cls(id=strawberry.ID(str(row.id)), name=row.name, email=row.email)


@strawberry.enum
class Visibility(Enum):
    PRIVATE = "private"
    ORGANIZATION = "organization"
    PUBLIC = "public"


@strawberry.type
class Span:
    id: strawberry.ID
    title: str
    visibility: Visibility
    created_at: datetime
    author_id: strawberry.Private[UUID]

    @classmethod
    def of(cls, row: SpanRow) -> "Span":
        return cls(
            id=strawberry.ID(str(row.id)),
            title=row.title,
            visibility=Visibility(row.visibility),
            created_at=row.created_at,
            author_id=row.author_id,
        )

    @strawberry.field
    async def author(self, info: Info) -> User:
        return User.of(await info.context.loaders.users.load(self.author_id))


@strawberry.type
class SpanConnection:
    nodes: list[Span]


@strawberry.type
class Resource:
    id: strawberry.ID
    name: str
    kind: str | None
    data: JSON
    size_bytes: BigInt
    created_at: datetime
    updated_at: datetime
    row: strawberry.Private[ResourceRow]

    @classmethod
    def of(cls, row: ResourceRow) -> "Resource":
        return cls(
            id=strawberry.ID(str(row.id)),
            name=row.name,
            kind=row.kind,
            data=JSON(row.data),
            size_bytes=BigInt(row.size_bytes),
            created_at=row.created_at,
            updated_at=row.updated_at,
            row=row,
        )

    @strawberry.field
    async def owner(self, info: Info) -> User:
        return User.of(await info.context.loaders.users.load(self.row.owner_id))

    @strawberry.field
    async def spans(self, info: Info, first: int = 20) -> SpanConnection:
        rows = await info.context.loaders.spans.load((self.row.id, first))
        return SpanConnection(nodes=[Span.of(row) for row in rows])


@strawberry.type
class PageInfo:
    has_next_page: bool
    has_previous_page: bool
    start_cursor: str | None
    end_cursor: str | None


@strawberry.type
class ResourceEdge:
    cursor: str
    node: Resource


@strawberry.input
class StringFilter:
    eq: str


@strawberry.input
class ResourceFilter:
    kind: StringFilter | None = None


@strawberry.enum
class ResourceOrderField(Enum):
    ID = "id"
    NAME = "name"


@strawberry.enum
class OrderDirection(Enum):
    ASC = "asc"
    DESC = "desc"


@strawberry.input
class ResourceOrder:
    field: ResourceOrderField
    direction: OrderDirection = OrderDirection.ASC


@strawberry.type
class ResourceConnection:
    """A page of resources, fetched with one extra row to detect a next page."""

    rows: strawberry.Private[Sequence[ResourceRow]]
    first: strawberry.Private[int]
    after: strawberry.Private[str | None]
    order: strawberry.Private[str]
    filter: strawberry.Private[ResourceFilter | None]

    @strawberry.field
    def nodes(self) -> list[Resource]:
        return [Resource.of(row) for row in self.rows[: self.first]]

    @strawberry.field
    def edges(self) -> list[ResourceEdge]:
        return [ResourceEdge(cursor=self._cursor(row), node=Resource.of(row)) for row in self.rows[: self.first]]

    @strawberry.field
    def page_info(self) -> PageInfo:
        page = self.rows[: self.first]
        return PageInfo(
            has_next_page=len(self.rows) > self.first,
            has_previous_page=self.after is not None,
            start_cursor=self._cursor(page[0]) if page else None,
            end_cursor=self._cursor(page[-1]) if page else None,
        )

    @strawberry.field
    async def total_count(self, info: Info) -> int:
        counted = select(func.count()).select_from(ResourceRow)
        if self.filter and self.filter.kind:
            counted = counted.where(ResourceRow.kind == self.filter.kind.eq)
        return await info.context.session.scalar(counted) or 0

    def _cursor(self, row: ResourceRow) -> str:
        return base64.urlsafe_b64encode(json.dumps([str(getattr(row, self.order)), str(row.id)]).encode()).decode()


@strawberry.type
class Query:
    @strawberry.field
    async def resource(self, info: Info, id: strawberry.ID) -> Resource | None:
        row = await info.context.session.get(ResourceRow, UUID(id))
        return Resource.of(row) if row else None

    @strawberry.field
    async def resources(
        self,
        info: Info,
        filter: ResourceFilter | None = None,
        order_by: list[ResourceOrder] | None = None,
        first: int | None = None,
        after: str | None = None,
        last: int | None = None,  # noqa: ARG002  part of the schema; no operation here uses it
        before: str | None = None,  # noqa: ARG002  the caller gives it
    ) -> ResourceConnection:
        size = 20 if first is None else first
        order = order_by[0] if order_by else ResourceOrder(field=ResourceOrderField.ID)
        column = getattr(ResourceRow, order.field.value)
        descends = order.direction is OrderDirection.DESC
        statement = select(ResourceRow).limit(size + 1)
        statement = statement.order_by(*(key.desc() if descends else key.asc() for key in (column, ResourceRow.id)))
        if filter and filter.kind:
            statement = statement.where(ResourceRow.kind == filter.kind.eq)
        if after is not None:
            keys = tuple_(column, ResourceRow.id)
            start = tuple(json.loads(base64.urlsafe_b64decode(after)))
            statement = statement.where(keys < start if descends else keys > start)
        rows = (await info.context.session.scalars(statement)).all()
        return ResourceConnection(rows=rows, first=size, after=after, order=order.field.value, filter=filter)


@strawberry.input
class CreateResourceInput:
    name: str
    kind: str | None = None
    data: JSON | None = None
    size_bytes: BigInt = BigInt(0)


@strawberry.type
class CreateResourcePayload:
    resource: Resource


@strawberry.type
class Mutation:
    @strawberry.mutation
    async def create_resource(self, info: Info, input: CreateResourceInput) -> CreateResourcePayload:
        row = ResourceRow(
            owner_id=info.context.user,
            name=input.name,
            kind=input.kind,
            data=input.data or {},
            size_bytes=input.size_bytes,
        )
        info.context.session.add(row)
        await info.context.session.flush()
        return CreateResourcePayload(resource=Resource.of(row))


engine = create_async_engine(
    make_url(os.environ["PEER_TENANT_URL"]).set(drivername="postgresql+asyncpg"),
    pool_size=int(os.environ["PEER_POOL"]),
    max_overflow=0,
)
sessions = async_sessionmaker(engine, expire_on_commit=False)
BIND = text(
    "SELECT set_config('search_path', 'rls', true), set_config('isola.tenant', :tenant, true),"
    # The database creates the proof: see visitor.sql.
    " set_config('isola.proof', isola.proof(CAST(:tenant AS uuid)), true)"
)


class OneSession(SchemaExtension):
    """A session for each operation, committed at its end."""

    async def on_execute(self) -> AsyncIterator[None]:
        context: Context = self.execution_context.context
        async with sessions.begin() as session:
            await session.execute(BIND, {"tenant": context.tenant})
            context.session, context.loaders = session, Loaders(session, context.user)
            yield


class Endpoint(GraphQL[Context, None]):
    verifier = Verifier(os.environ["PEER_SECRET"])

    async def get_context(self, request: Request | WebSocket, response: Response | WebSocket) -> Context:  # noqa: ARG002  the caller gives it
        return Context(self.verifier.claims(request.headers["authorization"]))


schema = strawberry.Schema(
    Query,
    Mutation,
    extensions=[ParserCache, ValidationCache, OneSession],
    config=StrawberryConfig(scalar_map={BigInt: strawberry.scalar(name="BigInt", serialize=int, parse_value=int)}),
)


async def serve() -> None:
    app = Starlette(routes=[Route("/graphql", Endpoint(schema))])
    config = uvicorn.Config(app, port=int(os.environ["PEER_PORT"]), log_level="warning", access_log=False)
    await uvicorn.Server(config).serve()


if __name__ == "__main__":
    uvloop.run(serve())
