from pathlib import Path

import pytest

from tests.cli.processes import Place

CONTRACTS = Path(__file__).parents[2] / "graphql"


@pytest.mark.parametrize(("options", "file"), [((), "schema.graphql"), (("--admin",), "admin.graphql")])
def test_the_schema_is_the_one_that_is_checked_in(empty: Place, options: tuple[str, ...], file: str) -> None:
    assert empty.run("schema", *options) == (CONTRACTS / file).read_text(encoding="utf-8")
    assert not empty.data_dir.exists()
