"""What the documentation says can be found is there."""

import ast
import re
from pathlib import Path

import pytest

from isola.settings import Settings

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / "docs").glob("**/*.md"))
LINK = re.compile(r"\]\((?!https?:|#)([^)#\s]+)")
TEST = re.compile(r"`((?:tests|app/isola/testing)/[\w/]+\.py)::(test_\w+)`")
SETTING = re.compile(r"`ISOLA_([A-Z_]+)")
CASES = 54


def _tests(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_tests_that_a_page_names_are_there(page: Path) -> None:
    named = set(TEST.findall(page.read_text(encoding="utf-8")))
    gone = [f"{file}::{test}" for file, test in named if not (ROOT / file).exists() or test not in _tests(ROOT / file)]
    assert sorted(gone) == []


@pytest.mark.parametrize("page", [ROOT / "README.md", *PAGES], ids=lambda page: str(page.relative_to(ROOT)))
def test_what_a_page_links_to_is_there(page: Path) -> None:
    links = LINK.findall(page.read_text(encoding="utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_every_page_is_in_the_index() -> None:
    index = ROOT / "docs" / "README.md"
    linked = {index.parent / link for link in LINK.findall(index.read_text(encoding="utf-8"))}
    assert [page.name for page in PAGES if page.parent == index.parent and page != index and page not in linked] == []


def test_every_attack_of_the_catalogue_is_mapped_to_tests() -> None:
    text = (ROOT / "docs" / "attacks.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d+) \|(.+)\|$", text, re.MULTILINE)
    assert [int(number) for number, _ in rows] == list(range(1, CASES + 1))
    assert [number for number, row in rows if not (TEST.search(row) or "Does not apply" in row)] == []


def test_the_settings_that_the_attacks_name_are_there() -> None:
    named = SETTING.findall((ROOT / "docs" / "attacks.md").read_text(encoding="utf-8"))
    assert {name.lower() for name in named} - Settings.model_fields.keys() == set()
