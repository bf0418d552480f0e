"""Who owns which field: the in-memory cluster's server-side apply, by its laws and by the lists that it merges."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from sightline_kube.fields import UPDATES, applied, leaves, paths_of, updated
from sightline_kube.objects import copied, merge_patched, without_nulls

KEYS = st.sampled_from("abcd")
SCALARS = st.integers(0, 2) | st.sampled_from(["x", "y"])
TREES: st.SearchStrategy[Any] = st.recursive(
    SCALARS | st.lists(SCALARS, max_size=2), lambda inner: st.dictionaries(KEYS, inner, min_size=1, max_size=3)
)
ITEMS = st.dictionaries(KEYS, SCALARS, max_size=2)
ENVS = st.dictionaries(st.sampled_from(["A", "B", "C"]), ITEMS, max_size=3).map(
    lambda items: [{"name": name, **item} for name, item in items.items()]
)


@st.composite
def configs(draw: st.DrawFn) -> dict[str, Any]:
    """What a manager applies: maps of one fixed depth, so that no field is a map here and a scalar there."""
    spec: dict[str, Any] = {"map": draw(st.dictionaries(KEYS, SCALARS, max_size=3)), "env": draw(ENVS)}
    spec = {key: value for key, value in spec.items() if value}
    return {"metadata": {"name": "x"}, "spec": spec} if spec else {"metadata": {"name": "x"}}


@given(configs(), configs(), configs())
def test_after_an_apply_the_object_says_what_was_applied(
    first: dict[str, Any], other: dict[str, Any], second: dict[str, Any]
) -> None:
    obj, owners = applied({"metadata": {"name": "x"}}, first, {}, "one")
    obj, owners = applied(obj, other, owners, "two")
    obj, owners = applied(obj, second, owners, "one")
    held = leaves({key: value for key, value in obj.items() if key != "metadata"})
    for path, value in leaves({key: value for key, value in second.items() if key != "metadata"}).items():
        assert held[path] == value
    # And nothing else is there but what the other one holds.
    assert held.keys() <= owners["one"] | owners.get("two", frozenset())


@given(configs(), configs())
def test_an_apply_twice_is_an_apply_once(before: dict[str, Any], config: dict[str, Any]) -> None:
    obj, owners = applied(before, config, {UPDATES: paths_of(before)}, "one")
    assert applied(obj, config, owners, "one") == (obj, owners)


@given(configs(), configs())
def test_what_both_apply_and_both_drop_is_gone(first: dict[str, Any], second: dict[str, Any]) -> None:
    empty: dict[str, Any] = {"metadata": {"name": "x"}}
    obj, owners = applied(empty, first, {}, "one")
    obj, owners = applied(obj, second, owners, "two")
    obj, owners = applied(obj, empty, owners, "one")
    obj, owners = applied(obj, empty, owners, "two")
    assert obj == empty


@given(configs(), configs())
def test_an_apply_does_not_change_its_arguments(live: dict[str, Any], config: dict[str, Any]) -> None:
    owners = {"one": paths_of(live)}
    before = copied([live, config])
    applied(live, config, owners, "one")
    assert [live, config] == before


def test_an_item_that_somebody_else_completed_keeps_its_key() -> None:
    mine = {"metadata": {}, "spec": {"containers": [{"name": "a", "image": "i"}]}}
    obj, owners = applied({"metadata": {}}, mine, {}, "one")
    theirs = copied(obj)
    theirs["spec"]["containers"][0]["tty"] = True
    owners = updated(obj, theirs, owners)
    obj, _ = applied(theirs, {"metadata": {}}, owners, "one")
    assert obj["spec"]["containers"] == [{"name": "a", "tty": True}]


def test_ports_are_told_apart_by_number_and_protocol() -> None:
    def ports(*numbers: int) -> dict[str, Any]:
        return {"metadata": {}, "spec": {"ports": [{"port": number} for number in numbers]}}

    obj, owners = applied({"metadata": {}}, ports(80, 443), {}, "one")
    obj, _ = applied(obj, ports(443), owners, "one")
    assert obj["spec"]["ports"] == [{"port": 443}]


def test_finalizers_are_a_set() -> None:
    mine = {"metadata": {"finalizers": ["a", "b"]}}
    obj, owners = applied({"metadata": {"finalizers": ["c"]}}, mine, {}, "one")
    assert obj["metadata"]["finalizers"] == ["c", "a", "b"]
    obj, _ = applied(obj, {"metadata": {"finalizers": ["b"]}}, owners, "one")
    assert obj["metadata"]["finalizers"] == ["c", "b"]


@given(TREES, TREES)
def test_a_merge_patch_twice_is_a_merge_patch_once(target: Any, patch: Any) -> None:
    once = merge_patched(target, patch)
    assert merge_patched(once, patch) == once


def test_merge_patch_examples_of_the_rfc() -> None:
    # RFC 7396, appendix A
    cases: list[tuple[Any, Any, Any]] = [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ]
    for target, patch, result in cases:
        assert merge_patched(target, patch) == result


def test_nulls_are_dropped() -> None:
    assert without_nulls({"a": None, "b": [{"c": None, "d": 1}]}) == {"b": [{"d": 1}]}
