"""RTP headers, and packets that come in another order than they were sent."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sightline_agent.media.rtp import Reorderer, RtpError, RtpPacket, ahead, parse


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


@given(st.lists(st.integers(0, 9), max_size=12), st.integers(0, 11), st.integers(1, 5), st.sampled_from([1, 1, 1, 2]))
def test_to_pass_is_to_be_pushed_each(before: list[int], first: int, count: int, ssrc: int) -> None:
    one, two = Reorderer(window=3), Reorderer(window=3)
    for number in before:
        assert one.push(packet(number)) == two.push(packet(number))
    if one.passes(first, ssrc, count):
        for index in range(count):
            assert two.push(packet(first + index)) == [(packet(first + index), False)]
    assert (one.waiting, one.lost, one.late) == (two.waiting, two.lost, two.late)
    assert one.push(packet(20)) == two.push(packet(20))


def test_what_is_next_passes_over_the_wrap_and_nothing_else_does() -> None:
    reorderer = Reorderer()
    assert not reorderer.passes(65_530, 1, 1)  # nothing is known of the stream yet
    order(reorderer, [65_530])
    assert not reorderer.passes(65_532, 1, 1)
    assert not reorderer.passes(65_531, 2, 1)
    assert reorderer.passes(65_531, 1, 10)
    assert reorderer.passes(5, 1, 1)
    order(reorderer, [7])
    assert not reorderer.passes(6, 1, 1)
