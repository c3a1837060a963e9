"""A client that writes, and records the acknowledged writes."""

import asyncio
from collections.abc import Set as AbstractSet
from itertools import count
from typing import Any

import httpx

from isola.testing.patience import PATIENCE

CREATE = """mutation ($input: CreateResourceInput!) {
  createResource(input: $input) { resource { id name } }
}"""
LIST = """query ($prefix: String!, $after: String) {
  resources(first: 100, after: $after, filter: {name: {startsWith: $prefix}}) {
    nodes { name kind data sizeBytes owner { name } }
    pageInfo { hasNextPage endCursor }
  }
}"""


class Writer:
    def __init__(self, url: str, token: str) -> None:
        self._url = f"{url}/graphql"
        self._headers = {"authorization": f"Bearer {token}"}
        self.acknowledged: dict[str, str] = {}
        self.sent: set[str] = set()

    async def post(self, name: str, http: httpx.AsyncClient) -> httpx.Response:
        """Request the creation of a resource with its name in every field."""
        values = {"name": name, "kind": name, "data": {"name": name}, "sizeBytes": len(name)}
        request = {"query": CREATE, "variables": {"input": values}}
        self.sent.add(name)
        answer = await http.post(self._url, json=request, headers=self._headers)
        body: Any = answer.json()
        if "errors" not in body:
            self.acknowledged[name] = body["data"]["createResource"]["resource"]["id"]
        return answer

    async def write(self, name: str) -> httpx.Response:
        async with httpx.AsyncClient(trust_env=False, timeout=PATIENCE) as http:
            return await self.post(name, http)

    async def write_until_refused(self, prefix: str) -> None:
        """Write one resource after the other until the server is gone."""
        async with httpx.AsyncClient(trust_env=False, timeout=PATIENCE) as http:
            for number in count():
                try:
                    assert (await self.post(f"{prefix}{number}", http)).status_code == 200
                except httpx.TransportError:
                    return

    async def wrote(self, wanted: int) -> None:
        """Return when this many writes have been acknowledged."""
        while len(self.acknowledged) < wanted:  # noqa: ASYNC110  as clear as an event
            await asyncio.sleep(0.01)


async def names_of(url: str, token: str, prefix: str) -> AbstractSet[str]:
    """The names of all resources with a prefix. Each has to be complete: as ``Writer`` wrote it."""
    names: set[str] = set()
    after, more = None, True
    async with httpx.AsyncClient(
        trust_env=False, timeout=PATIENCE, headers={"authorization": f"Bearer {token}"}
    ) as http:
        while more:
            request = {"query": LIST, "variables": {"prefix": prefix, "after": after}}
            found = (await http.post(f"{url}/graphql", json=request)).json()["data"]["resources"]
            for node in found["nodes"]:
                name = node["name"]
                written = {"name": name, "kind": name, "data": {"name": name}, "sizeBytes": len(name)}
                assert node.pop("owner")["name"]
                assert node == written
                assert name not in names
                names.add(name)
            after, more = found["pageInfo"]["endCursor"], found["pageInfo"]["hasNextPage"]
    return names
