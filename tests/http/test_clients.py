"""The recipes of docs/clients.md, with the clients themselves. They need npm.

Without it they are skipped, but not in CI.
"""

import asyncio
import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from isola.settings import Settings
from isola.shipped import shipped
from isola.subjects.permissions import Role
from isola.testing.fixtures import Copy
from isola.testing.served import Client, serving
from tests.http import npm

FOLDER = Path(__file__).with_name("clients")
PAGE = (shipped("docs") / "clients.md").read_text(encoding="utf-8")
FILE = re.compile(r"^`([^`\n]+)`:\n\n```\w+\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SHELL = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
INSTALL = "npm install"
TENANT = "rls-a"
NAMES = ["first", "second", "third", "fourth"]


def write(folder: Path) -> None:
    """The files of the page, and what they need."""
    for name, text in FILE.findall(PAGE):
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    (folder / "node_modules").symlink_to(FOLDER / "node_modules")
    for file in (shipped("graphql") / "schema.graphql", FOLDER / "driver.mjs", FOLDER / "package.json"):
        shutil.copy(file, folder)


async def run(folder: Path, *command: str) -> str:
    process = await asyncio.create_subprocess_exec(
        *command, cwd=folder, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    printed, said = await process.communicate()
    assert process.returncode == 0, f"{command}\n{printed.decode()}\n{said.decode()}"
    return printed.decode()


async def drive(node: str, folder: Path, name: str, client: Client) -> Mapping[str, Any]:
    token = client.headers["authorization"].removeprefix("Bearer ")
    seen: Mapping[str, Any] = json.loads(
        await run(folder, node, "driver.mjs", name, f"{client.http.base_url}/graphql", token)
    )
    return seen


async def test_the_recipes_work_as_they_stand(copy: Copy, settings: Settings, tmp_path: Path) -> None:
    node, folder = npm.node(FOLDER), tmp_path / "app"
    folder.mkdir()
    write(folder)
    commands = [text for text in SHELL.findall(PAGE) if not text.startswith(INSTALL)]
    assert len(commands) == 3
    # Relay's makes the folder for all manifests; the others do not depend on each other.
    made, *others = commands

    async def tools() -> None:
        await run(folder, "bash", "-euc", made)
        await asyncio.gather(*(run(folder, "bash", "-euc", each) for each in others))

    async with serving(copy, settings) as api:
        ada, bob = (api.client(tenant, role=Role.EDITOR) for tenant in (TENANT, "rls-b"))
        for name in NAMES:
            await ada.create(name)
            await bob.create(name)
        _, apollo, urql = await asyncio.gather(
            tools(), drive(node, folder, "apollo", ada), drive(node, folder, "urql", bob)
        )
    # Both repeat a query that was not answered, and send texts only for hashes that the server does not know.
    assert apollo.pop("sent") == ["hash", "hash", "text,hash"]
    assert urql.pop("sent") == ["hash", "hash", "text,hash"]
    assert apollo == urql
    assert apollo == {
        "first": NAMES[:2],
        "pages": NAMES,
        "optimistic": ["renamed", *NAMES[1:]],
        "renamed": ["renamed", *NAMES[1:]],
        "hoped": ["lost", *NAMES[1:]],
        "refused": "CONFLICT",
        "restored": ["renamed", *NAMES[1:]],
        "live": NAMES[1:],
    }

    manifests = {"trusted_documents": folder / "trusted", "trusted_documents_only": True}
    async with serving(copy, settings.model_copy(update=manifests)) as api:
        ada = api.client(TENANT, role=Role.EDITOR)
        relay, manifest = await asyncio.gather(
            drive(node, folder, "relay", ada), drive(node, folder, "manifest", api.client("rls-b", role=Role.EDITOR))
        )
        assert relay == {"names": NAMES[1:3], "stored": "by relay", "event": ["UPDATED", "by relay"]}
        assert manifest == {"sent": ["hash"], "names": NAMES[1:3]}
        assert await drive(node, folder, "codegen", ada) == {"names": ["by relay"]}
        assert (await ada.ask("{ __typename }")).code == "FORBIDDEN"


def test_the_packages_of_the_recipes_are_those_of_the_test() -> None:
    installs = "\n".join(text for text in SHELL.findall(PAGE) if text.startswith(INSTALL))
    named = set(re.findall(r"(?:@[\w-]+/)?[\w-]+", re.sub(r"npm install|--save-dev|&&", "", installs)))
    pinned = json.loads((FOLDER / "package.json").read_text(encoding="utf-8"))["dependencies"]
    assert named == pinned.keys() - {"ws"}  # for Node.js before 22
