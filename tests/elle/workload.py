"""Records the operations of concurrent clients of several tenants over HTTP, with faults.

Each resource has two lists. Its shares are an ordered list: granting one locks the resource, and shares are returned in
creation order. Its spans are an unordered list: transactions that write them do not wait for each other. A mutation
appends to one list and reads both through its payload; a query reads the lists of several resources.
"""

import asyncio
import json
import random
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from typing import Any
from urllib.parse import urlsplit

import asyncpg

from tests.elle.history import Append, Key, Operation, Outcome, Read

LISTS = "id shares(first: 100) { nodes { grantee { slug } } } spans(first: 100) { nodes { title } }"
CREATE = "mutation ($input: CreateResourceInput!) { createResource(input: $input) { resource { id } } }"
SHARE = f"""mutation ($input: ShareResourceInput!) {{
    shareResource(input: $input) {{ share {{ resource {{ {LISTS} }} }} }} }}"""
SPAN = f"mutation ($input: CreateSpanInput!) {{ createSpan(input: $input) {{ span {{ resource {{ {LISTS} }} }} }} }}"
READ = f"query ($ids: [ID!]!) {{ nodes(ids: $ids) {{ ... on Resource {{ {LISTS} }} }} }}"

RESOURCES = 4
"""How many resources of a tenant its clients work on at a time."""
SPANS = 10
"""The number of spans after which a resource is no longer used, which limits the time to check."""
READ_AT_ONCE = 3
BETWEEN_KILLS = 40
"""The minimum number of transactions between two terminations of connections."""
# The error code if the server does not know the outcome either.
PERHAPS = "may have been"


class LostError(Exception):
    """The connection ended before the answer."""


@dataclass(slots=True)
class Wire:
    """One client's connection: HTTP/1.1, one request at a time."""

    url: str
    token: str
    reader: asyncio.StreamReader | None = None
    writer: asyncio.StreamWriter | None = None

    async def ask(self, document: str, variables: Mapping[str, Any], *, patience: float | None = None) -> Any:
        """The body of the answer. With ``patience`` the client disconnects after so many seconds. Raises LostError."""
        try:
            async with asyncio.timeout(patience):
                return await self._ask(json.dumps({"query": document, "variables": variables}).encode())
        except (OSError, asyncio.IncompleteReadError, TimeoutError) as error:
            self.hang_up()
            raise LostError from error

    async def _ask(self, body: bytes) -> Any:
        where = urlsplit(self.url)
        if self.writer is None:
            self.reader, self.writer = await asyncio.open_connection(where.hostname, where.port)
        assert self.reader is not None
        self.writer.write(
            b"POST /graphql HTTP/1.1\r\nhost: %b\r\ncontent-type: application/json\r\nauthorization: Bearer %b\r\n"
            b"content-length: %d\r\n\r\n%b" % (where.netloc.encode(), self.token.encode(), len(body), body)
        )
        head = (await self.reader.readuntil(b"\r\n\r\n")).lower()
        length = int(head.partition(b"content-length:")[2].split(b"\r\n", 1)[0])
        answer = json.loads(await self.reader.readexactly(length))
        if b"connection: close" in head:
            self.hang_up()
        return answer

    def hang_up(self) -> None:
        if self.writer is not None:
            self.writer.transport.abort()
        self.reader = self.writer = None


@dataclass(slots=True)
class Resource:
    """A resource that a tenant's clients append to, and the values still to append."""

    id: str
    grantees: list[str]
    spans: int = 0

    @property
    def shares_key(self) -> Key:
        return Key(f"shares of {self.id}")

    @property
    def spans_key(self) -> Key:
        return Key(f"spans of {self.id}", ordered=False)

    @property
    def is_full(self) -> bool:
        return self.spans >= SPANS


@dataclass(slots=True)
class Recorder:
    """All clients of one tenant. ``partners`` are the tenants that it can share with."""

    tenant: str
    url: str
    token: str
    partners: Sequence[str]
    chance: random.Random
    impatience: float = 0.0
    history: list[Operation] = field(default_factory=list)
    resources: list[Resource] = field(default_factory=list)
    retired: list[str] = field(default_factory=list)
    numbers: "count[int]" = field(default_factory=count)

    async def work(self, until: int) -> None:
        """Run one client until this many transactions are recorded."""
        wire = Wire(self.url, self.token)
        try:
            while len(self.history) < until:
                await self._one(wire)
        finally:
            wire.hang_up()

    async def _one(self, wire: Wire) -> None:
        if len(self.resources) < RESOURCES:
            await self._create(wire)
            return
        resource = self.chance.choice(self.resources)
        kind = self.chance.random()
        if kind < 0.5:
            await self._read(wire)
        elif kind < 0.7 and resource.grantees:
            await self._share(wire, resource)
        else:
            await self._span(wire, resource)

    async def read_all(self) -> None:
        """Read every list once more, after all other transactions."""
        wire = Wire(self.url, self.token)
        ids = [*self.retired, *(resource.id for resource in self.resources)]
        for start in range(0, len(ids), READ_AT_ONCE):
            await self._read(wire, ids[start : start + READ_AT_ONCE])
        wire.hang_up()

    async def _create(self, wire: Wire) -> None:
        with suppress(LostError):
            answer = await wire.ask(CREATE, {"input": {"name": f"{self.tenant} {next(self.numbers)}"}})
            if "errors" not in answer:
                made = answer["data"]["createResource"]["resource"]["id"]
                grantees = list(self.partners)
                self.chance.shuffle(grantees)
                self.resources.append(Resource(made, grantees))

    async def _read(self, wire: Wire, ids: Sequence[str] | None = None) -> None:
        if ids is None:
            chosen = self.chance.sample(self.resources, min(READ_AT_ONCE, len(self.resources)))
            ids = [resource.id for resource in chosen]
        await self._transaction(wire, READ, {"ids": ids}, ())

    async def _share(self, wire: Wire, resource: Resource) -> None:
        grantee = resource.grantees.pop()
        given = {"input": {"resourceId": resource.id, "grantee": grantee}}
        await self._transaction(wire, SHARE, given, (Append(resource.shares_key, grantee),))

    async def _span(self, wire: Wire, resource: Resource) -> None:
        resource.spans += 1
        if resource.is_full and resource in self.resources:
            self.resources.remove(resource)
            self.retired.append(resource.id)
        title = f"{self.tenant} {next(self.numbers)}"
        given = {"input": {"resourceId": resource.id, "title": title, "visibility": "PUBLIC"}}
        await self._transaction(wire, SPAN, given, (Append(resource.spans_key, title),))

    async def _transaction(
        self, wire: Wire, document: str, variables: Mapping[str, Any], appends: tuple[Append, ...]
    ) -> None:
        patience = self.chance.uniform(0, 0.02) if self.chance.random() < self.impatience else None
        began = time.monotonic()
        try:
            answer = await wire.ask(document, variables, patience=patience)
        except LostError:
            self.history.append(Operation(self.tenant, began, Outcome.UNKNOWN, appends))
            return
        ended = time.monotonic()
        if "errors" in answer:
            self.history.append(Operation(self.tenant, began, _refused(answer["errors"]), appends, (), ended))
            return
        reads = tuple(read for node in _resources(answer["data"]) for read in _reads(node))
        self.history.append(Operation(self.tenant, began, Outcome.OK, appends, reads, ended))


def _refused(errors: Sequence[Mapping[str, Any]]) -> Outcome:
    for error in errors:
        if error["extensions"]["code"] != "UNAVAILABLE":
            raise AssertionError(f"nothing but the database went wrong, and the server said: {error}")
    return Outcome.UNKNOWN if any(PERHAPS in error["message"] for error in errors) else Outcome.FAILED


def _resources(data: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    match data:
        case {"nodes": nodes}:
            return [node for node in nodes if node]
        case {"shareResource": {"share": {"resource": resource}}} | {"createSpan": {"span": {"resource": resource}}}:
            return [resource]
    raise AssertionError(f"not what was asked for: {data}")


def _reads(node: Mapping[str, Any]) -> Sequence[Read]:
    return (
        Read(Key(f"shares of {node['id']}"), tuple(each["grantee"]["slug"] for each in node["shares"]["nodes"])),
        Read(Key(f"spans of {node['id']}", ordered=False), tuple(each["title"] for each in node["spans"]["nodes"])),
    )


async def kill_backends(owner: str, login: str, ended: asyncio.Event, recorders: Sequence[Recorder]) -> int:
    """Terminate connections of the server now and then, until the event; return how many."""
    chance = recorders[0].chance
    connection = await asyncpg.connect(owner)
    killed = 0
    while not ended.is_set():
        killed += await connection.fetchval(
            """SELECT count(pg_terminate_backend(pid)) FROM (
                   SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND usename = $1
                   ORDER BY random() LIMIT 2) chosen""",
            login,
        )
        before = _done(recorders)
        pause = chance.uniform(0.1, 0.4)
        # However slow the machine, most transactions can still succeed.
        while not ended.is_set() and (pause or _done(recorders) < before + BETWEEN_KILLS):
            with suppress(TimeoutError):
                await asyncio.wait_for(ended.wait(), pause or 0.05)
            pause = 0.0
    await connection.close()
    return killed


def _done(recorders: Sequence[Recorder]) -> int:
    return sum(len(recorder.history) for recorder in recorders)


async def recorded(
    recorders: Sequence[Recorder], transactions: int, clients: int, owner: str, login: str, *, faults: bool
) -> tuple[list[Operation], int]:
    """The history of so many transactions by so many clients of each tenant, and how many backends were killed."""
    ended = asyncio.Event()
    killer = asyncio.create_task(kill_backends(owner, login, ended, recorders)) if faults else None
    async with asyncio.TaskGroup() as group:
        for recorder in recorders:
            for _ in range(clients):
                group.create_task(recorder.work(transactions // len(recorders)))
    ended.set()
    killed = await killer if killer else 0
    await asyncio.gather(*(recorder.read_all() for recorder in recorders))
    return [operation for recorder in recorders for operation in recorder.history], killed
