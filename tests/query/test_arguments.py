"""The arguments of one field, as parameters of its statement."""

from hypothesis import example, given, strategies as st

from isola.query.arguments import _successor

# Few characters, so that texts share prefixes; those next to the surrogates, and the last code point.
NEAR = st.text(st.sampled_from("\x01a\ud7ff\ue000\uffff\U0010fffe\U0010ffff"), max_size=4)
TEXTS = st.one_of(NEAR, st.text(max_size=4))


@given(TEXTS, TEXTS)
@example("", "a")
@example("\U0010ffff", "\U0010ffff\U0010ffff")
@example("a\U0010ffff", "b")
@example("\ud7ff", "\ud7ff\U0010ffff")
def test_a_text_begins_with_a_prefix_if_it_lies_between_that_and_its_successor(prefix: str, text: str) -> None:
    end = _successor(prefix)
    assert text.startswith(prefix) == (prefix <= text and (end is None or text < end)) or end is None
    if end is None:
        assert prefix.strip("\U0010ffff") == ""
    else:
        end.encode()
