"""Chunks: parameter sets where viewers start, nothing larger than a packet, nothing that waits for a whole frame."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sightline_agent.media import h264
from sightline_agent.media.assembler import Assembler
from sightline_agent.media.frames import MAX_PAYLOAD, Chunk
from sightline_agent.media.grammar import H264
from sightline_agent.media.runs import runs
from tests.helpers.rtsp_server import PPS, SPS

IDR = b"\x65" + b"i" * 50
SLICE = b"\x41" + b"p" * 50
B_SLICE = b"\x41\xa8" + b"b" * 50
SEI = b"\x06" + b"s" * 10
AUD = b"\x09\x10"
B_SPS = bytes.fromhex("67640028acd940780227e5c044000003000400000300f03c60c658")  # up to two pictures out of order
OTHER_PPS = bytes.fromhex("685b8f20")  # id 1


def feed(assembler: Assembler, *units: tuple[int, list[bytes]]) -> list[Chunk]:
    for timestamp, payloads in units:
        for index, payload in enumerate(payloads):
            assembler.push(payload, timestamp, marker=index == len(payloads) - 1)
    return assembler.take()


def nals(chunk: Chunk) -> list[bytes]:
    return h264.reassemble(chunk.payloads)


def test_sets_in_band_lead_the_key_frame() -> None:
    assembler = Assembler()
    chunks = feed(assembler, (0, [SPS, PPS, IDR]), (3000, [SLICE]))
    assert [nals(chunk) for chunk in chunks] == [[SPS, PPS, IDR], [SLICE]]
    assert [chunk.key for chunk in chunks] == [True, False]
    assert [chunk.last for chunk in chunks] == [True, True]
    assert (assembler.format.profile_level_id, assembler.format.width, assembler.format.height) == ("42c01e", 640, 360)


def test_sets_of_the_sdp_are_put_before_each_key_frame() -> None:
    chunks = feed(Assembler([SPS, PPS]), (0, [IDR]), (3000, [SLICE]), (6000, [IDR]))
    assert [nals(chunk) for chunk in chunks] == [[SPS, PPS, IDR], [SLICE], [SPS, PPS, IDR]]


def test_sets_under_a_timestamp_of_their_own_lead_what_follows() -> None:
    chunks = feed(Assembler(), (0, [SPS]), (1, [PPS]), (2, [IDR]))
    assert [nals(chunk) for chunk in chunks] == [[SPS, PPS, IDR]]
    assert chunks[0].timestamp == 2


def test_a_stap_with_everything_in_it() -> None:
    payload = h264.aggregate([AUD, SPS, PPS, SEI, IDR])[0]
    (chunk,) = feed(Assembler(), (0, [payload]))
    assert nals(chunk) == [SPS, PPS, SEI, IDR]
    assert chunk.key


def test_without_sets_there_is_no_key() -> None:
    (chunk,) = feed(Assembler(), (0, [IDR]))
    assert not chunk.key


def test_an_intra_picture_announced_by_an_sps_is_a_key() -> None:
    chunks = feed(Assembler(), (0, [SPS, PPS, SLICE]), (3000, [SLICE]))
    assert [chunk.key for chunk in chunks] == [True, False]


def test_a_new_pps_within_a_gop_goes_along() -> None:
    chunks = feed(Assembler([SPS, PPS]), (0, [IDR]), (3000, [OTHER_PPS, SLICE]), (6000, [IDR]))
    assert [nals(chunk) for chunk in chunks] == [[SPS, PPS, IDR], [OTHER_PPS, SLICE], [SPS, PPS, OTHER_PPS, IDR]]


def test_only_the_first_slice_of_a_frame_is_led() -> None:
    (chunk,) = feed(Assembler([SPS, PPS]), (0, [IDR, IDR, IDR]))
    assert nals(chunk) == [SPS, PPS, IDR, IDR, IDR]


def test_parts_of_a_frame_go_on_at_once() -> None:
    assembler = Assembler([SPS, PPS])
    parts = h264.fragment(b"\x65" + b"x" * 3000, 1000)
    seen = []
    for index, part in enumerate(parts):
        assembler.push(part, 0, marker=index == len(parts) - 1)
        seen += assembler.take()
    assert [chunk.key for chunk in seen] == [True, False, False, False]
    assert [chunk.last for chunk in seen] == [False, False, False, True]


def test_delimiters_and_filler_go_unless_they_carry_the_marker() -> None:
    filler = b"\x0c" + b"\xff" * 30
    chunks = feed(Assembler([SPS, PPS]), (0, [AUD, IDR, filler]), (3000, [AUD, SLICE]))
    assert [nals(chunk) for chunk in chunks] == [[SPS, PPS, IDR, filler], [SLICE]]
    assert all(chunk.last for chunk in chunks)


def test_a_fragment_with_a_lost_beginning_is_dropped() -> None:
    assembler = Assembler([SPS, PPS])
    parts = h264.fragment(b"\x65" + b"x" * 3000, 1000)
    assembler.push(parts[0], 0, marker=False)
    assembler.push(parts[2], 0, marker=False, gap=True)
    assembler.push(parts[3], 0, marker=True)
    assembler.push(SLICE, 3000, marker=True)
    chunks = assembler.take()
    assert [payload for chunk in chunks for payload in chunk.payloads][-1] == SLICE
    assert parts[2] not in [payload for chunk in chunks for payload in chunk.payloads]
    assert assembler.dropped == 2


def test_large_payloads_are_made_to_fit() -> None:
    chunks = feed(Assembler([SPS, PPS]), (0, [b"\x65" + b"x" * 5000]))
    assert all(len(payload) <= MAX_PAYLOAD for chunk in chunks for payload in chunk.payloads)
    assert nals(chunks[0]) == [SPS, PPS, b"\x65" + b"x" * 5000]


@given(st.lists(st.tuples(st.binary(max_size=60), st.integers(0, 3), st.booleans(), st.booleans()), max_size=40))
def test_noise_breaks_nothing_and_fits(packets: list[tuple[bytes, int, bool, bool]]) -> None:
    assembler = Assembler()
    for payload, timestamp, marker, gap in packets:
        assembler.push(payload, timestamp, marker, gap)
    for chunk in assembler.take():
        assert chunk.payloads
        assert all(0 < len(payload) <= MAX_PAYLOAD for payload in chunk.payloads)


@given(st.lists(st.binary(min_size=4, max_size=40), max_size=60))
def test_no_number_of_sets_fills_the_memory(bodies: list[bytes]) -> None:
    assembler = Assembler()
    for body in bodies:
        assembler.push(b"\x68" + body, 0, marker=False)
    assembler.push(IDR, 1, marker=True)
    assert sum(len(chunk.payloads) for chunk in assembler.take()) <= 17 * 5


_UNITS = st.one_of(
    st.sampled_from(
        [IDR, SLICE, B_SLICE, SEI, AUD, SPS, PPS, h264.aggregate([SPS, PPS, SEI])[0], b"\x7c\x05", b"\x7c"]
    ),
    st.builds(
        lambda flags, size: bytes((0x7C, flags)) + bytes(size),
        st.sampled_from([0x85, 0x81, 0x87, 5, 1, 1, 1, 0x41, 0x45]),
        st.sampled_from([0, 1, 40, MAX_PAYLOAD - 2, MAX_PAYLOAD, 3 * MAX_PAYLOAD]),
    ),
)


def rtp_packet(sequence: int, timestamp: int, marker: bool, payload: bytes) -> bytes:
    return bytes((0x80, 96 | marker << 7)) + struct.pack("!HII", sequence, timestamp, 1) + payload


@pytest.mark.parametrize("eager", [True, False])
@pytest.mark.parametrize("sets", [[SPS, PPS], [B_SPS, PPS], []])
@given(
    frames=st.lists(st.tuples(st.integers(0, 3), st.lists(_UNITS, min_size=1, max_size=8), st.booleans()), max_size=6)
)
def test_to_extend_by_runs_is_to_push_each(
    sets: list[bytes], eager: bool, frames: list[tuple[int, list[bytes], bool]]
) -> None:
    """`eager`: chunks are taken after each run, as where TCP delivers a frame in pieces."""
    one, two = Assembler(sets), Assembler(sets)
    for timestamp, payloads, marked in frames:
        last = len(payloads) - 1
        packets = [
            rtp_packet(at, timestamp, marked and at == last, payload) for at, payload in enumerate(payloads) if payload
        ]
        for run in runs(packets, H264)[0]:
            if run.shape:
                one.extend(run)
            for packet in run.packets():
                two.push(packet.payload, packet.timestamp, packet.marker)
                if not run.shape:
                    one.push(packet.payload, packet.timestamp, packet.marker)
            assert not eager or one.take() == two.take()
        assert one.take() == two.take()
        assert (one.dropped, one.format, one.known) == (two.dropped, two.format, two.known)
