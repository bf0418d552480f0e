"""The pool of strings: what comes out is equal, shares, and stays within bounds."""

import json

from hypothesis import given
from hypothesis import strategies as st

from sightline_kube.words import Words

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=80),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=80), inner),
    max_leaves=20,
)


@given(st.lists(values, max_size=4))
def test_what_comes_out_is_equal(given_: list[object]) -> None:
    words = Words(most=3)
    for value in given_:
        before = json.dumps(value)
        assert words.shared(value) == value
        assert json.dumps(value) == before


def test_strings_are_shared_and_containers_are_not() -> None:
    text = '{"metadata": {"labels": {"role": "agent"}}, "list": ["agent"], "long": "' + "x" * 65 + '"}'
    words = Words()
    first, second = words.shared(json.loads(text)), words.shared(json.loads(text))
    assert first["metadata"]["labels"]["role"] is second["list"][0]
    assert next(iter(first)) is next(iter(second))
    assert first["metadata"] is not second["metadata"]
    assert first["long"] is not second["long"]


def test_the_pool_is_bounded() -> None:
    words = Words(most=10)
    for number in range(1000):
        words.shared({"name": f"camera-{number}"})
        assert len(words) <= 12
