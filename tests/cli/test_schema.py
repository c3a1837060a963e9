from pathlib import Path

from tests.cli.processes import Place

CONTRACT = Path(__file__).parents[2] / "graphql" / "schema.graphql"


def test_the_schema_is_the_one_that_is_checked_in(empty: Place) -> None:
    assert empty.run("schema") == CONTRACT.read_text(encoding="utf-8")
    assert not empty.data_dir.exists()
