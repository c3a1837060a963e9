"""``isola explain``: the plan of an operation, without secrets."""

import re

import pytest

from tests.cli.processes import Place


@pytest.mark.parametrize("tenant", ["acme", "globex"], ids=["rls", "schema"])
def test_no_key_of_cursors_is_printed(awake: Place, tenant: str) -> None:
    document = awake.directory / "operation.graphql"
    document.write_text("{ resources(first: 2) { edges { cursor node { name } } } }")

    printed = awake.run("explain", str(document), "--tenant", tenant, "--analyze")

    assert "'\\x…'::bytea" in printed
    assert "actual time" in printed
    assert not re.search("[0-9a-f]{64}", printed)
