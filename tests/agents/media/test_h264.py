"""H.264 payloads: what they are, and that making them smaller loses nothing."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sightline_agent.media import h264
from sightline_agent.media.frames import MAX_PAYLOAD
from tests.helpers.rtsp_server import PPS, SPS

IDR = b"\x65" + bytes(range(1, 200))
SLICE = b"\x41" + bytes(range(1, 100))


def stap(*nals: bytes) -> bytes:
    return b"\x78" + b"".join(len(nal).to_bytes(2, "big") + nal for nal in nals)


BEGINNINGS = [
    ("idr", IDR, h264.IDR),
    ("slice", SLICE, h264.SLICE),
    ("sps", SPS, h264.SPS),
    ("pps alone", PPS, h264.PPS),
    ("sei", b"\x06\x05\x01", h264.SEI),
    ("aud", b"\x09\x10", h264.AUD),
    ("stap with sps", stap(SPS, PPS), h264.SPS),
    ("stap with aud first", stap(b"\x09\x10", SPS, PPS), h264.AUD),
    ("stap of slices", stap(SLICE, SLICE), h264.SLICE),
    ("fu-a start of an idr", b"\x7c\x85abc", h264.IDR),
    ("fu-a middle of an idr", b"\x7c\x05abc", -1),
    ("fu-a end of an idr", b"\x7c\x45abc", -1),
    ("fu-a start of a slice", b"\x7c\x81abc", h264.SLICE),
    ("cut fu-a", b"\x7c\x85", -1),
    ("cut stap", b"\x78\x00", -1),
    ("nothing", b"", -1),
]


@pytest.mark.parametrize(("payload", "expected"), [row[1:] for row in BEGINNINGS], ids=[row[0] for row in BEGINNINGS])
def test_what_begins_in_a_payload(payload: bytes, expected: int) -> None:
    assert h264.starts_nal(payload) == expected


def nal_units(largest: int) -> st.SearchStrategy[bytes]:
    header = st.builds(lambda importance, kind: bytes([importance << 5 | kind]), st.integers(0, 3), st.integers(1, 23))
    return st.builds(lambda first, rest: first + rest, header, st.binary(min_size=1, max_size=largest))


LIMITS = st.integers(10, 200)


@given(nal_units(2000), LIMITS)
def test_a_fragmented_nal_unit_comes_back_whole(nal: bytes, limit: int) -> None:
    parts = h264.fragment(nal, limit)
    assert all(0 < len(part) <= limit for part in parts)
    assert h264.reassemble(parts) == [nal]


@given(nal_units(2000), st.integers(100, 1500), LIMITS)
def test_smaller_fragments_of_fragments_come_back_whole(nal: bytes, first: int, second: int) -> None:
    parts = [part for payload in h264.fragment(nal, first) for part in h264.resplit(payload, second)]
    assert all(len(part) <= max(second, 1) for part in parts)
    assert h264.reassemble(parts) == [nal]


@given(st.lists(nal_units(300), min_size=1, max_size=8), LIMITS)
def test_a_large_stap_comes_back_whole(nals: list[bytes], limit: int) -> None:
    parts = h264.resplit(stap(*nals), limit)
    assert all(len(part) <= limit for part in parts)
    assert h264.reassemble(parts) == nals


@given(st.lists(nal_units(300), max_size=8), LIMITS)
def test_an_aggregate_holds_what_was_put_in(nals: list[bytes], limit: int) -> None:
    parts = h264.aggregate(nals, limit)
    assert all(len(part) <= limit for part in parts)
    assert h264.reassemble(parts) == nals


@pytest.mark.parametrize("limit", [MAX_PAYLOAD, 65_536, 65_540, 100_000])
@pytest.mark.parametrize("size", [65_535, 65_536])
def test_what_is_too_large_for_an_aggregates_sizes_goes_alone(size: int, limit: int) -> None:
    nals = [PPS, b"\x67".ljust(size, b"x"), PPS]
    parts = h264.aggregate(nals, limit)
    assert all(len(part) <= limit for part in parts)
    assert h264.reassemble(parts) == nals


def test_fragments_are_of_one_size_with_a_short_tail() -> None:
    sizes = [len(part) for part in h264.fragment(b"\x65" + b"x" * 5000)]
    assert sizes[:-1] == [MAX_PAYLOAD] * (len(sizes) - 1)
    assert 2 < sizes[-1] <= MAX_PAYLOAD


def test_only_the_ends_of_a_fragment_stay_ends() -> None:
    middle = b"\x7c\x05" + b"x" * 100
    assert {part[1] for part in h264.resplit(middle, 20)} == {0x05}
    bits = [part[1] for part in h264.resplit(b"\x7c\x85" + b"x" * 40, 22)]
    assert bits == [0x85, 0x05]


@given(st.binary(max_size=300), st.integers(3, 50))
def test_no_bytes_break_anything(data: bytes, limit: int) -> None:
    for part in h264.resplit(data, limit):
        assert len(part) <= limit
    h264.starts_nal(data)
    h264.reassemble([data, data])
    h264.split_annex_b(data)


def test_annex_b_with_short_and_long_start_codes() -> None:
    stream = b"\0\0\0\1" + SPS + b"\0\0\1" + PPS + b"\0\0\0\1" + IDR + b"\0\0"
    assert h264.split_annex_b(stream) == [SPS, PPS, IDR]
    assert h264.split_annex_b(b"no start code") == []


def test_parameter_sets_of_an_sdp() -> None:
    text = ",".join(base64.b64encode(nal).decode() for nal in (SPS, PPS))
    assert h264.parse_parameter_sets(text) == [SPS, PPS]
    assert h264.parse_parameter_sets(text.replace("=", "")) == [SPS, PPS]  # cameras forget the padding
    assert h264.parse_parameter_sets("%%%,,AAAA," + base64.b64encode(IDR).decode()) == []
    assert h264.profile_level_id(SPS) == "42c01e"
