"""The small pure parts: selectors, pages, merge patches, quotas, caches."""

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sightline_api import editing, escalation, paging, selectors
from sightline_api.agent_proxy import base_url
from sightline_api.problems import ProblemError, without_userinfo
from sightline_api.quota import MAX_USERS, SessionQuota
from sightline_api.settings import Quota
from sightline_api.ttl import TtlCache
from sightline_model.camera import AgentStatus
from sightline_model.problems import ProblemCode
from tests.api.world import Time


@pytest.mark.parametrize(
    ("selector", "labels", "expected"),
    [
        ("", {}, True),
        ("a=b", {"a": "b"}, True),
        ("a==b", {"a": "c"}, False),
        ("a!=b", {}, True),
        ("a", {"a": ""}, True),
        ("!a", {"a": ""}, False),
        ("! a", {}, True),
        ("a in (b, c)", {"a": "c"}, True),
        ("a in (b,c),d", {"a": "c"}, False),
        ("a notin (b)", {}, True),
        ("x/y=z , a notin (b)", {"x/y": "z", "a": "b"}, False),
        ("a=", {"a": ""}, True),
    ],
)
def test_selectors(selector: str, labels: dict[str, str], expected: bool) -> None:
    assert all(part.matches(labels) for part in selectors.parse(selector)) is expected


@pytest.mark.parametrize(
    "selector", [",", "a=b,", ",a", "a,,b", "a in b", "a in (b", "a)b(", "=", "a=b=c", "a b", "x" * 2000]
)
def test_bad_selectors(selector: str) -> None:
    with pytest.raises(ValueError, match="label selector"):
        selectors.parse(selector)


@given(st.text(max_size=60))
def test_any_text_is_a_selector_or_a_value_error(text: str) -> None:
    with contextlib.suppress(ValueError):
        selectors.parse(text)


KEYS = st.tuples(st.text(max_size=4), st.text(max_size=4))


@given(st.lists(KEYS, unique=True).map(sorted), st.integers(1, 5))
def test_pages_give_everything_once_in_order(items: list[tuple[str, str]], limit: int) -> None:
    seen: list[tuple[str, str]] = []
    more: str | None = None
    for _ in range(len(items) + 1):
        taken, more = paging.page(items, lambda item: item, limit, more)
        assert len(taken) <= limit
        seen += taken
        if more is None:
            break
    assert seen == items
    assert more is None


@given(st.text(max_size=40))
def test_any_text_is_a_page_or_a_bad_request(text: str) -> None:
    with contextlib.suppress(ProblemError):
        paging.page([("a", "b")], lambda item: item, 1, text)


def test_a_continue_that_is_none_is_a_bad_request() -> None:
    with pytest.raises(ProblemError) as refused:
        paging.page([("a", "b")], lambda item: item, 1, "bm8")
    assert refused.value.problem.code is ProblemCode.INVALID_REQUEST


SCALARS = st.none() | st.integers() | st.text(max_size=3)
JSON = st.recursive(SCALARS, lambda inner: st.dictionaries(st.text(max_size=2), inner, max_size=3))


@given(JSON, JSON)
def test_a_merge_patch_applied_twice_is_applied_once(target: Any, patch: Any) -> None:
    once = editing.merge(target, patch)
    assert editing.merge(once, patch) == once


@pytest.mark.parametrize(
    ("target", "patch", "expected"),
    [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        (["a", "b"], ["c", "d"], ["c", "d"]),
        ({"a": "foo"}, None, None),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_merge_patches_of_rfc_7396(target: Any, patch: Any, expected: Any) -> None:
    assert editing.merge(target, patch) == expected


def test_secrets_are_found_wherever_they_are_named() -> None:
    spec = {
        "source": {"rtsp": {"credentialsRef": {"name": "a"}}},
        "profiles": [{"source": {"whep": {"tokenRef": {"name": "b"}}}}],
        "outputs": [{"rtmp": {"credentialsRef": {"name": "c"}}}],
    }
    assert escalation.secrets_of(spec) == {"a", "b", "c"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("rtsp://u:p@h/s", "rtsp://h/s"),
        ("rtsp://u:p@h/s and http://x@y", "rtsp://h/s and http://y"),
        ("rtsp://h/s?mail=a@b", "rtsp://h/s?mail=a@b"),
        ("mail a@b", "mail a@b"),
        ("rtsp://u:p@w@h/s", "rtsp://h/s"),
    ],
)
def test_credentials_are_taken_out_of_addresses(text: str, expected: str) -> None:
    assert without_userinfo(text) == expected


def test_a_quota_bounds_what_waits_and_gives_it_back() -> None:
    quota = SessionQuota(Quota(rate_per_second=1, burst=10, concurrent=1), Time().monotonic)
    with quota.reserve("a"):
        with pytest.raises(ProblemError) as refused, quota.reserve("a"):
            pass
        assert refused.value.problem.retry_after_seconds == 1
        with quota.reserve("b"):
            pass
    with quota.reserve("a"):
        pass


def test_a_quota_remembers_a_bounded_number_of_users() -> None:
    quota = SessionQuota(Quota(), Time().monotonic)
    for number in range(MAX_USERS + 10):
        with quota.reserve(str(number)):
            pass
    assert len(quota._accounts) == MAX_USERS


def test_a_cache_is_bounded_in_size_and_time() -> None:
    time = Time()
    cache: TtlCache[int, int | None] = TtlCache(2, time.monotonic)
    for number in range(3):
        cache.put(number, None, 5 + number)
    assert (cache.get(0), cache.get(1), cache.get(2)) == (None, (None,), (None,))
    time.move(6)
    assert (cache.get(1), cache.get(2)) == (None, (None,))
    cache.put(2, 1, 0)
    assert cache.get(2) is None


@pytest.mark.parametrize(
    ("address", "port", "expected"),
    [
        ("10.0.0.1", 8080, "http://10.0.0.1:8080"),
        ("camera-front.default.svc", 8080, "http://camera-front.default.svc:8080"),
        ("fd00::1", 8080, "http://[fd00::1]:8080"),
        ("::1", 8080, "http://[::1]:8080"),
        ("10.0.0.1", 0, None),
        ("10.0.0.1", 70000, None),
        ("u@10.0.0.1", 80, None),
        ("10.0.0.1/x", 80, None),
        ("-x", 80, None),
        ("", 80, None),
    ],
)
def test_agents_are_found_at_hosts_only(address: str, port: int, expected: str | None) -> None:
    url = base_url(AgentStatus(address=address, port=port))
    assert (str(url) if url else None) == expected
    assert base_url(None) is None
