"""The trusted documents of a server: .graphql files, and manifests as the tools of clients write them."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from isola.errors import OperatorError
from isola.query.documents import digest

APOLLO = "apollo-persisted-query-manifest"
_SHA256 = "sha256:"
_SETTING = "ISOLA_TRUSTED_DOCUMENTS"


def read(folder: Path) -> list[str]:
    """The texts of all documents in a folder: one a .graphql file, and those of the manifests, which are .json files.

    A manifest is an object of texts by their hashes (Relay, GraphQL Code Generator), or Apollo's. Clients ask by
    SHA-256, so the documents of a manifest with other hashes would never be found: it is refused. Raises OperatorError.
    """
    files = sorted(file for file in folder.glob("*") if file.suffix in {".graphql", ".json"})
    if not files:
        raise OperatorError(f"{_SETTING}: expected .graphql or .json files in {folder}")
    try:
        texts = {file: file.read_text(encoding="utf-8") for file in files}
    except (OSError, UnicodeError) as error:
        raise OperatorError(f"{_SETTING}: expected files in UTF-8 that can be read ({error})") from error
    found = [
        each for file, text in texts.items() for each in (_manifest(file, text) if file.suffix == ".json" else [text])
    ]
    # A manifest can hold what a file holds as well.
    return list(dict.fromkeys(found))


def _manifest(file: Path, text: str) -> list[str]:
    documents = []
    for name, document in _entries(file, text):
        if not isinstance(document, str) or name.removeprefix(_SHA256) != digest(document):
            raise OperatorError(f"{_SETTING}: {file.name}: expected texts by their SHA-256 in hexadecimal digits")
        documents.append(document)
    return documents


def _entries(file: Path, text: str) -> Iterator[tuple[str, Any]]:
    try:
        manifest = json.loads(text)
    except (ValueError, RecursionError):
        manifest = None
    if not isinstance(manifest, Mapping):
        raise OperatorError(f"{_SETTING}: {file.name}: expected a manifest of persisted documents, a JSON object")
    if manifest.get("format") != APOLLO:
        yield from manifest.items()
        return
    operations = manifest.get("operations")
    for each in operations if isinstance(operations, list) else [None]:
        if not isinstance(each, Mapping) or not isinstance(each.get("id"), str):
            raise OperatorError(f"{_SETTING}: {file.name}: expected operations with an id and a body")
        yield each["id"], each.get("body")
