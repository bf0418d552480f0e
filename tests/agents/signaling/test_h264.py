"""Which offered H.264 variant fits a source."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sightline_agent.signaling.h264 import Profile, best_fit, profile_of

CHROMIUM = ["42001f", "42e01f", "4d001f", "f4001f", "64001f"]
FIREFOX = ["42e01f"]
SAFARI = ["640c1f", "42e01f"]


@pytest.mark.parametrize(
    ("text", "profile"),
    [
        ("42e01f", Profile.CONSTRAINED_BASELINE),
        ("42C01E", Profile.CONSTRAINED_BASELINE),
        ("42001f", Profile.BASELINE),
        ("428014", Profile.BASELINE),
        ("4d0028", Profile.MAIN),
        ("4D401F", Profile.MAIN),
        ("4d8028", Profile.CONSTRAINED_BASELINE),
        ("640028", Profile.HIGH),
        ("640c1f", Profile.CONSTRAINED_HIGH),
        ("f4001f", Profile.HIGH_444),
        ("58c01f", Profile.CONSTRAINED_BASELINE),
        ("58001f", Profile.EXTENDED),
        ("6e0033", None),
        ("", None),
        ("42e01", None),
        ("42e01f0", None),
        ("xyz01f", None),
    ],
)
def test_profiles(text: str, profile: Profile | None) -> None:
    assert profile_of(text) is profile


@pytest.mark.parametrize(
    ("source", "offered", "expected"),
    [
        ("42e01f", CHROMIUM, "42e01f"),
        ("42c028", CHROMIUM, "42e01f"),
        ("42001f", CHROMIUM, "42001f"),
        ("4d0028", CHROMIUM, "4d001f"),
        ("640028", CHROMIUM, "64001f"),
        ("640c28", CHROMIUM, "64001f"),
        ("f40028", CHROMIUM, "f4001f"),
        ("", CHROMIUM, "42e01f"),
        ("6e0028", CHROMIUM, "42e01f"),
        # Nothing offered is enough: the most able is the best guess.
        ("640028", FIREFOX, "42e01f"),
        ("640028", ["42001f", "42e01f", "4d001f"], "4d001f"),
        ("640028", SAFARI, "640c1f"),
        ("42001f", SAFARI, "42e01f"),
        ("4d0028", SAFARI, "640c1f"),
        # Of equal ones the first.
        ("42e01f", ["42e034", "42e01f"], "42e034"),
        ("640028", ["nonsense", "42e01f"], "42e01f"),
    ],
)
def test_best_fit(source: str, offered: list[str], expected: str) -> None:
    assert offered[best_fit(source, offered)] == expected


@given(st.text(max_size=8), st.lists(st.text(max_size=8), min_size=1, max_size=5))
def test_any_text(source: str, offered: list[str]) -> None:
    assert 0 <= best_fit(source, offered) < len(offered)
