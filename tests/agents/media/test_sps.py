"""Picture sizes out of parameter sets made by real encoders, and out of noise."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sightline_agent.media import sps

KNOWN = [
    ("6742c01edb0280bfe5c05a808080a0000003002000000651e2c5d4", "42c01e", 640, 360),
    ("6742c028da01e0089f9610000003001000000303c8f1832a", "42c028", 1920, 1080),
    ("6742c01fda014016e840000003004000000f23c60ca8", "42c01f", 1280, 720),
    ("6742c00ada149e2384000003000400000300f23c489a80", "42c00a", 66, 64),
    ("6742c00dda05421e222210000003001000000303c8f142aa", "42c00d", 322, 242),
    ("67640028acd940780227e5c044000003000400000300f03c60c658", "640028", 1920, 1080),
]


@pytest.mark.parametrize(("text", "profile", "width", "height"), KNOWN)
def test_sizes(text: str, profile: str, width: int, height: int) -> None:
    reorder = 2 if profile == "640028" else 0
    assert sps.parse(bytes.fromhex(text)) == sps.SpsInfo(profile, width, height, max_reorder=reorder)


@pytest.mark.parametrize("cut", range(1, 9))
def test_a_cut_set_is_no_set(cut: int) -> None:
    assert sps.parse(bytes.fromhex(KNOWN[0][0])[:cut]) is None


def test_other_units_are_no_sets() -> None:
    assert sps.parse(bytes.fromhex("68ce3c80")) is None
    assert sps.parse(b"") is None
    assert sps.set_id(b"") is None
    assert sps.set_id(bytes.fromhex("68ce3c80")) == 0


@given(st.binary(max_size=200))
def test_noise_breaks_nothing(data: bytes) -> None:
    found = sps.parse(b"\x67" + data)
    assert found is None or (found.width > 0 and found.height > 0)
    sps.set_id(b"\x67" + data)
    sps.set_id(b"\x68" + data)
