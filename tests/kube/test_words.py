"""The pools of what objects have in common: what comes out is equal, shares, and stays within bounds."""

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


def test_what_comes_again_is_shared() -> None:
    text = '{"metadata": {"labels": {"role": "agent"}}, "list": ["agent", 300], "long": "' + "x" * 65 + '"}'
    words = Words()
    first, second = words.shared(json.loads(text)), words.shared(json.loads(text))
    assert first["metadata"]["labels"]["role"] is second["list"][0]
    assert next(iter(first)) is next(iter(second))
    assert first["metadata"] is second["metadata"]
    assert first["list"] is second["list"]
    assert first["long"] is not second["long"]
    assert words.shared([{}, []]) == [{}, []]
    assert words.shared([True, 1, 1.0]) == [True, 1, 1.0]
    assert [type(value) for value in words.shared([1, True, 1.0])] == [int, bool, float]


def test_the_pools_are_bounded() -> None:
    words = Words(most=10)
    for number in range(1000):
        for _ in range(2):
            words.shared({f"name-{number}": f"camera-{number}", "port": 300 + number, "list": [number]})
        assert len(words) <= 30
