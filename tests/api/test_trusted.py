"""The folder of trusted documents: files, and manifests of the tools of clients."""

import json
from hashlib import sha1, sha256
from pathlib import Path
from typing import Any

import pytest

from isola.errors import OperatorError
from isola.server import trusted

ONE, OTHER = "query One { viewer { user { id } } }", "query Other { viewer { tenant { slug } } }"


def digest(text: str) -> str:
    return sha256(text.encode()).hexdigest()


def operation(identity: Any, body: Any) -> dict[str, Any]:
    return {"format": trusted.APOLLO, "version": 1, "operations": [{"id": identity, "body": body, "type": "query"}]}


def test_files_and_the_manifests_of_tools_are_read_once_each(tmp_path: Path) -> None:
    (tmp_path / "a.graphql").write_text(ONE)
    for name, manifest in {
        "relay": {digest(OTHER): OTHER},
        "codegen": {f"sha256:{digest(ONE)}": ONE},
        "apollo": operation(digest(OTHER), OTHER),
        "empty": {},
    }.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(manifest))
    (tmp_path / "notes.txt").write_text("not a document")

    assert sorted(trusted.read(tmp_path)) == [ONE, OTHER]


@pytest.mark.parametrize(
    ("manifest", "expected"),
    [
        ("{", "expected a manifest of persisted documents, a JSON object"),
        ("[" * 100_000, "expected a manifest of persisted documents, a JSON object"),
        (json.dumps([ONE]), "expected a manifest of persisted documents, a JSON object"),
        (json.dumps({sha1(ONE.encode()).hexdigest(): ONE}), "expected texts by their SHA-256"),  # noqa: S324  as by default
        (json.dumps({digest(ONE): OTHER}), "expected texts by their SHA-256"),
        (json.dumps({digest(ONE): None}), "expected texts by their SHA-256"),
        (json.dumps(operation(digest(ONE), None)), "expected texts by their SHA-256"),
        (json.dumps(operation(None, ONE)), "expected operations with an id and a body"),
        (json.dumps({"format": trusted.APOLLO, "operations": {}}), "expected operations with an id and a body"),
    ],
    ids=["no JSON", "too deep", "a list", "SHA-1", "another text", "no text", "no body", "no id", "no operations"],
)
def test_a_manifest_that_no_client_could_use_is_refused(manifest: str, expected: str, tmp_path: Path) -> None:
    (tmp_path / "trusted.json").write_text(manifest)
    with pytest.raises(OperatorError, match=r"ISOLA_TRUSTED_DOCUMENTS: trusted\.json: ") as refused:
        trusted.read(tmp_path)
    assert expected in str(refused.value)


def test_a_folder_without_documents_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OperatorError, match=r"expected \.graphql or \.json files"):
        trusted.read(tmp_path)
