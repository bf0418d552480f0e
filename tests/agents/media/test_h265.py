"""H.265 payloads and parameter sets: what they are, and that making payloads smaller loses nothing."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sightline_agent.media import h265, h265_sps
from sightline_agent.media.frames import MAX_PAYLOAD
from sightline_agent.media.grammar import GRAMMARS, H265, Pictures
from sightline_agent.media.h265_sps import ProfileTierLevel, SpsInfo

VPS = bytes.fromhex("40010c01ffff01600000030090000003000003003fba0240")
SPS = bytes.fromhex("42010101600000030090000003000003003fa005020171f2e5ba4a4c2e6808000003000800000300c840")
PPS = bytes.fromhex("4401c073c189")
IDR = b"\x28\x01\xaf" + bytes(range(1, 200))
TRAIL = b"\x02\x01\xd0" + bytes(range(1, 100))

SETS = [
    (SPS.hex(), SpsInfo(ProfileTierLevel(1, 0, 63), 640, 360)),
    (
        "420101016000000300900000030000030078a003c0801107cb965654a4c2e68080000003008000000c84",
        SpsInfo(ProfileTierLevel(1, 0, 120), 1920, 1080, max_reorder=2),
    ),
    (
        "42010101600000030040000003000003005da00280802d165ba4a4c2e68680000003008000000c84",
        SpsInfo(ProfileTierLevel(1, 0, 93), 1280, 720, interlaced=True),
    ),
    (
        "42010102200000030090000003000003001ea02881071110d96e92930b9a020000030002000003003210",
        SpsInfo(ProfileTierLevel(2, 0, 30), 66, 50),
    ),
    (
        "4201012408000003009e080000030000999001510080e3e3f2dd25261734040000030004000003006420",
        SpsInfo(ProfileTierLevel(4, 1, 153), 322, 242),
    ),
]


@pytest.mark.parametrize(("text", "expected"), SETS)
def test_what_sets_of_a_real_encoder_say(text: str, expected: SpsInfo) -> None:
    assert h265_sps.parse(bytes.fromhex(text)) == expected


def test_sub_layers_are_passed_over() -> None:
    # One sub-layer more with a profile and a level of its own: 14 bits of reserve, then 88 and 8 bits.
    head, tail = SPS[:3], SPS[3:]
    plain = tail.replace(b"\0\0\3", b"\0\0")
    of_layer = bytes([0b11000000, 0]) + bytes([0xFF]) * 12
    made = head[:2] + bytes([head[2] | 0x02]) + plain[:12] + of_layer + plain[12:]
    found = h265_sps.parse(made)
    assert found is not None
    assert (found.width, found.height, found.ptl.level_id) == (640, 360, 63)


@pytest.mark.parametrize("cut", range(1, 24))
def test_a_cut_set_is_no_set(cut: int) -> None:
    assert h265_sps.parse(SPS[:cut]) is None


def test_sets_are_known_by_their_numbers() -> None:
    assert [h265_sps.set_id(nal) for nal in (VPS, SPS, PPS)] == [0, 0, 0]
    assert h265_sps.set_id(b"\x44\x01\x28") == 4
    assert h265_sps.set_id(b"\x44\x01") is None
    assert h265_sps.set_id(IDR) is None


@given(st.binary(max_size=200))
def test_noise_breaks_nothing(data: bytes) -> None:
    found = h265_sps.parse(b"\x42\x01" + data)
    assert found is None or (0 < found.width <= 16384 and 0 < found.height <= 16384)
    for kind in h265.PARAMETER_SETS:
        number = h265_sps.set_id(bytes([kind << 1, 1]) + data)
        assert number is None or 0 <= number < 64
    h265.reassemble([data, data])
    h265.starts_nal(data)


def ap(*nals: bytes) -> bytes:
    return b"\x60\x01" + b"".join(len(nal).to_bytes(2, "big") + nal for nal in nals)


BEGINNINGS = [
    ("idr", IDR, 20),
    ("slice", TRAIL, 1),
    ("aggregation packet", ap(VPS, SPS, PPS), h265.VPS),
    ("start of a fragmented idr", b"\x62\x01\x94abc", 20),
    ("middle of a fragmented idr", b"\x62\x01\x14abc", -1),
    ("end of a fragmented idr", b"\x62\x01\x54abc", -1),
    ("cut fragment", b"\x62\x01\x94", -1),
    ("cut aggregation packet", b"\x60\x01\x00", -1),
    ("one byte", b"\x28", -1),
    ("nothing", b"", -1),
]


@pytest.mark.parametrize(("payload", "expected"), [row[1:] for row in BEGINNINGS], ids=[row[0] for row in BEGINNINGS])
def test_what_begins_in_a_payload(payload: bytes, expected: int) -> None:
    assert h265.starts_nal(payload) == expected


def nal_units(largest: int) -> st.SearchStrategy[bytes]:
    header = st.builds(
        lambda kind, layer, temporal: bytes([kind << 1 | layer >> 5, (layer & 31) << 3 | temporal]),
        st.integers(0, 47),
        st.integers(0, 63),
        st.integers(1, 7),
    )
    return st.builds(lambda first, rest: first + rest, header, st.binary(min_size=1, max_size=largest))


LIMITS = st.integers(10, 200)


@given(nal_units(2000), LIMITS)
def test_a_fragmented_nal_unit_comes_back_whole(nal: bytes, limit: int) -> None:
    parts = h265.fragment(nal, limit)
    assert all(0 < len(part) <= limit for part in parts)
    assert h265.reassemble(parts) == [nal]
    assert h265.starts_nal(parts[0]) == h265.nal_type(nal)


@given(nal_units(2000), st.integers(100, 1500), LIMITS)
def test_smaller_fragments_of_fragments_come_back_whole(nal: bytes, first: int, second: int) -> None:
    parts = [part for payload in h265.fragment(nal, first) for part in h265.resplit(payload, second)]
    assert all(len(part) <= second for part in parts)
    assert h265.reassemble(parts) == [nal]


@given(st.lists(nal_units(300), max_size=8), LIMITS)
def test_an_aggregate_holds_what_was_put_in(nals: list[bytes], limit: int) -> None:
    parts = h265.aggregate(nals, limit)
    assert all(len(part) <= limit for part in parts)
    assert h265.reassemble(parts) == nals


@pytest.mark.parametrize("limit", [MAX_PAYLOAD, 65_536, 65_540, 100_000])
@pytest.mark.parametrize("size", [65_535, 65_536])
def test_what_is_too_large_for_an_aggregates_sizes_goes_alone(size: int, limit: int) -> None:
    nals = [PPS, b"\x42\x01".ljust(size, b"x"), PPS]
    parts = h265.aggregate(nals, limit)
    assert all(len(part) <= limit for part in parts)
    assert h265.reassemble(parts) == nals


@given(st.lists(nal_units(300), min_size=1, max_size=8), LIMITS)
def test_a_large_aggregation_packet_comes_back_whole(nals: list[bytes], limit: int) -> None:
    parts = h265.resplit(ap(*nals), limit)
    assert all(len(part) <= limit for part in parts)
    assert h265.reassemble(parts) == nals


def test_an_aggregation_packet_carries_the_lowest_layer_and_temporal_id() -> None:
    (made,) = h265.aggregate([b"\x41\x12\0", b"\x42\x0b\0"])
    assert made[:2] == bytes([h265.AP << 1, 1 << 3 | 2])


def test_half_a_nal_unit_is_left_out() -> None:
    parts = h265.fragment(IDR, 50)
    assert h265.reassemble([*parts[:2], TRAIL, *parts[2:]]) == [TRAIL]
    assert h265.reassemble(parts[1:]) == []


def test_sets_out_of_a_description() -> None:
    texts = [base64.b64encode(nal).decode() for nal in (VPS, SPS, PPS)]
    assert h265.parse_parameter_sets(*texts) == [VPS, SPS, PPS]
    assert h265.parse_parameter_sets(texts[1].rstrip("="), "", "not base 64!", base64.b64encode(IDR).decode()) == [SPS]


def test_the_grammar_tells_the_pictures() -> None:
    assert GRAMMARS[H265].describe(SPS) == Pictures("1.0.63", 640, 360, interlaced=False, max_reorder=0)
    assert GRAMMARS[H265].describe(PPS) is None
