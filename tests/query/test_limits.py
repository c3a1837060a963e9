import pytest
from graphql import parse

from isola.errors import BadUserInput
from isola.query import limits
from isola.query.limits import Limits


def check(text: str, **figures: int) -> None:
    limits.check(parse(text), Limits(**figures))


@pytest.mark.parametrize(
    ("text", "name", "figure"),
    [
        ("{ a { b { c } } }", "depth", 3),
        ("{ a { ...F } } fragment F on T { b { ...G } } fragment G on T { c }", "depth", 3),
        ("{ a b c { d } }", "fields", 4),
        ("{ ...F ...F } fragment F on Query { a b }", "fields", 6),
        ("{ ... { a } ... { a } }", "fields", 4),
        ("query A { a } query B { a }", "fields", 2),
        ("{ x: a { y: b } ...F } fragment F on Query { z: c }", "aliases", 3),
        ("query @a { a @b ... @c { d @e @f } }", "directives", 5),
        ("{ a ... { a } ...F } fragment F on Query { a }", "repeats", 3),
        ("{ x { a } x { a b ... { a } } }", "repeats", 3),
    ],
)
def test_figures_are_counted_and_named(text: str, name: str, figure: int) -> None:
    check(text, **{name: figure})
    with pytest.raises(BadUserInput, match=rf"the limit of {name} is {figure - 1}; this has {figure}"):
        check(text, **{name: figure - 1})


def test_circles() -> None:
    with pytest.raises(BadUserInput, match="is spread within itself"):
        check("fragment A on T { ...B } fragment B on T { a { ...A } }")


def test_what_would_grow_without_bounds_is_counted_at_once() -> None:
    text = "{ ...F0 }" + "".join(f"fragment F{i} on T {{ ...F{i + 1} ...F{i + 1} }}" for i in range(100))
    with pytest.raises(BadUserInput, match="the limit of fields is 450; this has far more"):
        check(text + "fragment F100 on T { a }")


def test_fragments_that_are_not_there_are_left_to_validation() -> None:
    check("{ ...Nowhere }")
