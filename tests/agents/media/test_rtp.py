"""RTP headers, and packets that come in another order than they were sent."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sightline_agent.media.rtp import FIXED_HEADER, Reorderer, RtpError, RtpPacket, ahead, following, parse


def packet(sequence: int, payload: bytes = b"x") -> RtpPacket:
    return RtpPacket(96, False, sequence % 65536, 0, 1, payload)


HEADER = bytes.fromhex("80e0 0102 00000304 0a0b0c0d")


def test_a_plain_packet() -> None:
    found = parse(HEADER + b"payload")
    assert found == RtpPacket(96, True, 0x0102, 0x0304, 0x0A0B0C0D, b"payload")


def test_csrc_extension_and_padding_are_skipped() -> None:
    first = bytes([0x80 | 0x20 | 0x10 | 2])
    extension = b"\xbe\xde\x00\x01" + b"\x10\x01\x02\x03"
    data = first + HEADER[1:] + b"csr1csr2" + extension + b"payload" + b"\0\0\3"
    assert parse(data).payload == b"payload"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        HEADER[:11],
        b"\x00" + HEADER[1:],
        b"\x90" + HEADER[1:],
        b"\x90" + HEADER[1:] + b"\xbe\xde\xff\xff",
        b"\x8f" + HEADER[1:],
        b"\xa0" + HEADER[1:] + b"\xff",
        b"\xa0" + HEADER[1:] + b"\x00",
    ],
)
def test_no_packet(data: bytes) -> None:
    with pytest.raises(RtpError):
        parse(data)


@given(st.binary(max_size=100))
def test_noise_is_a_packet_or_an_error(data: bytes) -> None:
    try:
        parse(data)
    except RtpError:
        return


def test_ahead_goes_round() -> None:
    assert ahead(2, 65534) == 4
    assert ahead(65534, 2) == -4


def order(reorderer: Reorderer, sequences: list[int]) -> list[tuple[int, bool]]:
    return [(ready.sequence, gap) for number in sequences for ready, gap in reorderer.push(packet(number))]


def test_in_order_over_the_wrap() -> None:
    numbers = [65534, 65535, 0, 1]
    assert order(Reorderer(), numbers) == [(number, False) for number in numbers]


def test_swapped_packets_are_put_in_order() -> None:
    assert order(Reorderer(), [1, 3, 2, 4]) == [(1, False), (2, False), (3, False), (4, False)]


def test_a_lost_packet_is_waited_for_and_then_given_up() -> None:
    reorderer = Reorderer(window=3)
    assert order(reorderer, [1, 3, 4, 5]) == [(1, False)]
    assert order(reorderer, [6]) == [(3, True), (4, False), (5, False), (6, False)]
    assert reorderer.lost == 1
    assert order(reorderer, [2, 3, 7]) == [(7, False)]
    assert reorderer.late == 2


def test_a_camera_that_restarts_its_numbers_goes_on() -> None:
    assert order(Reorderer(), [10, 30_000, 30_001]) == [(10, False), (30_000, True), (30_001, False)]


@pytest.mark.parametrize("sequence", [8, 9, 10, 12, 13, 30_000])
def test_another_stream_numbers_its_packets_for_itself(sequence: int) -> None:
    reorderer = Reorderer()
    order(reorderer, [10, 12])
    found = [reorderer.push(packet(sequence + n)._replace(ssrc=99)) for n in range(2)]
    assert [(ready.sequence, gap) for one in found for ready, gap in one] == [(sequence, True), (sequence + 1, False)]


@given(st.integers(0, 65535), st.permutations(range(12)))
def test_any_order_within_the_window_is_repaired(start: int, places: list[int]) -> None:
    reorderer = Reorderer(window=16)
    reorderer.push(packet(start))
    found = order(reorderer, [(start + 1 + place) % 65536 for place in places])
    assert found == [((start + 1 + index) % 65536, False) for index in range(12)]


def wire(sequence: int, marker: bool = False, timestamp: int = 5, payload: bytes = b"x", first: int = 0x80) -> bytes:
    head = bytes((first, 96 | marker << 7)) + (sequence % 65536).to_bytes(2, "big")
    return head + timestamp.to_bytes(4, "big") + bytes(4) + payload


def test_the_inside_of_a_frame_follows() -> None:
    frame = [wire(65_534 + index) for index in range(5)]
    assert following(frame, 0) == 4
    assert following(frame, 3) == 1
    assert following([*frame, wire(65_539, marker=True)], 0) == 4


@pytest.mark.parametrize(
    "other",
    [
        wire(4),
        wire(1),
        wire(2, marker=True),
        wire(2, timestamp=6),
        wire(2, payload=b""),
        wire(2, first=0xA0),
        wire(2)[:FIXED_HEADER],
        b"",
    ],
)
def test_anything_else_does_not(other: bytes) -> None:
    assert following([wire(1), other, wire(3)], 0) == 0
    assert following([other], 0) == 0


@given(
    st.lists(st.sampled_from([wire(1), wire(2), wire(3), wire(3, marker=True), wire(4, timestamp=9), b"?"]), min_size=1)
)
def test_what_follows_is_as_if_parsed(packets: list[bytes]) -> None:
    count = following(packets, 0)
    for before, data in pairwise(packets[: count + 1]):
        one, two = parse(before), parse(data)
        assert two == one._replace(sequence=one.sequence + 1, payload=two.payload)
        assert two.payload == data[FIXED_HEADER:]


@given(st.lists(st.integers(0, 9), max_size=12), st.integers(1, 5))
def test_following_is_like_pushing_each(before: list[int], count: int) -> None:
    one, two = Reorderer(window=3), Reorderer(window=3)
    for number in before:
        one.push(packet(number))
        two.push(packet(number))
    head = packet(before[-1] if before else 0)
    if one.follow(head, count):
        pushed = [two.push(packet(head.sequence + 1 + index)) for index in range(count)]
        assert pushed == [[(packet(head.sequence + 1 + index), False)] for index in range(count)]
    assert (one.waiting, one.lost, one.late) == (two.waiting, two.lost, two.late)
    assert one.push(packet(20)) == two.push(packet(20))
