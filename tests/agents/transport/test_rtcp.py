"""RTCP against aiortc's own reader and writer, and against arbitrary bytes."""

import pytest
from aiortc import rtp
from hypothesis import given
from hypothesis import strategies as st

from sightline_agent.transport.rtcp import (
    MAX_LOST,
    ReceptionReport,
    SenderReport,
    build_sender_report,
    ntp_time,
    parse,
    round_trip,
)

SSRC = 0xCAFE0001


def receiver_report(lost: int = 5) -> bytes:
    info = rtp.RtcpReceiverInfo(
        ssrc=SSRC, fraction_lost=64, packets_lost=lost, highest_sequence=70000, jitter=90, lsr=7, dlsr=9
    )
    return bytes(rtp.RtcpRrPacket(ssrc=1, reports=[info]))


def nack(*numbers: int) -> bytes:
    return bytes(rtp.RtcpRtpfbPacket(fmt=rtp.RTCP_RTPFB_NACK, ssrc=1, media_ssrc=SSRC, lost=list(numbers)))


@pytest.mark.parametrize("lost", [5, 0, -3, 0x7FFFFF])
def test_receiver_reports(lost: int) -> None:
    feedback = parse(receiver_report(lost))
    assert feedback.reports == [ReceptionReport(SSRC, 0.25, lost, 70000, 90, 7, 9)]
    assert not feedback.malformed


def test_reports_in_a_sender_report() -> None:
    info = rtp.RtcpReceiverInfo(ssrc=SSRC, fraction_lost=0, packets_lost=0, highest_sequence=1, jitter=2, lsr=3, dlsr=4)
    sender = rtp.RtcpSenderInfo(ntp_timestamp=1, rtp_timestamp=2, packet_count=3, octet_count=4)
    feedback = parse(bytes(rtp.RtcpSrPacket(ssrc=9, sender_info=sender, reports=[info])))
    assert [report.ssrc for report in feedback.reports] == [SSRC]


@pytest.mark.parametrize("numbers", [[1], [1, 2, 17], [1, 18, 19, 400], list(range(100, 300))])
def test_nacks(numbers: list[int]) -> None:
    assert parse(nack(*numbers)).lost == {SSRC: numbers}


def test_a_nack_over_the_wrap() -> None:
    wire = bytes((0x81, 205, 0, 3)) + (1).to_bytes(4, "big") + SSRC.to_bytes(4, "big") + b"\xff\xff\0\3"
    assert parse(wire).lost == {SSRC: [65535, 0, 1]}


def test_nacks_are_bounded() -> None:
    body = (1).to_bytes(4, "big") + SSRC.to_bytes(4, "big") + bytes((0, 0, 255, 255)) * 300
    packet = bytes((0x81, 205)) + (len(body) // 4).to_bytes(2, "big") + body
    assert len(parse(packet * 3).lost[SSRC]) == MAX_LOST


def test_key_frame_requests() -> None:
    pli = bytes(rtp.RtcpPsfbPacket(fmt=rtp.RTCP_PSFB_PLI, ssrc=1, media_ssrc=SSRC))
    assert parse(pli).key_frame_wanted == {SSRC}
    fci = SSRC.to_bytes(4, "big") + bytes((1, 0, 0, 0)) + (5).to_bytes(4, "big") + bytes((2, 0, 0, 0))
    fir = bytes(rtp.RtcpPsfbPacket(fmt=4, ssrc=1, media_ssrc=0, fci=fci))
    assert parse(fir).key_frame_wanted == {SSRC, 5}


def test_a_compound_packet() -> None:
    goodbye = bytes(rtp.RtcpByePacket(sources=[1, 2]))
    names = bytes(rtp.RtcpSdesPacket(chunks=[rtp.RtcpSourceInfo(ssrc=1, items=[(1, b"x")])]))
    feedback = parse(receiver_report() + names + nack(3) + goodbye)
    assert len(feedback.reports) == 1
    assert feedback.lost == {SSRC: [3]}
    assert feedback.bye == {1, 2}
    assert not feedback.malformed


@pytest.mark.parametrize(
    "data",
    [
        b"\x80",
        b"\x80\xc9\0\5" + bytes(8),
        b"\x00\xc9\0\1" + bytes(4),
        b"\x81\xc9\0\1" + bytes(4),
        b"\x81\xcd\0\1" + bytes(4),
        b"\x81\xce\0\1" + bytes(4),
        b"\x82\xcb\0\1" + bytes(4),
    ],
)
def test_flaws_are_noticed_and_what_came_before_counts(data: bytes) -> None:
    feedback = parse(nack(3) + data)
    assert feedback.malformed
    assert feedback.lost == {SSRC: [3]}


@given(st.binary(max_size=300))
def test_any_bytes(data: bytes) -> None:
    parse(data)


@given(st.integers(128, 159), st.sampled_from([200, 201, 202, 203, 204, 205, 206, 207]), st.binary(max_size=120))
def test_any_body(first: int, kind: int, body: bytes) -> None:
    body += bytes(-len(body) % 4)
    feedback = parse(bytes((first, kind)) + (len(body) // 4).to_bytes(2, "big") + body)
    assert sum(map(len, feedback.lost.values())) <= MAX_LOST


@given(st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1), st.integers(0, 2**40), st.text("abc-", max_size=300))
def test_sender_reports_are_what_aiortc_reads(ssrc: int, ntp: int, counter: int, name: str) -> None:
    wire = build_sender_report(SenderReport(ssrc, ntp, counter, counter + 1, counter + 2, name))
    report, description = rtp.RtcpPacket.parse(wire)
    assert isinstance(report, rtp.RtcpSrPacket)
    assert isinstance(description, rtp.RtcpSdesPacket)
    info = report.sender_info
    assert (report.ssrc, info.ntp_timestamp) == (ssrc, ntp)
    assert info.rtp_timestamp == counter & 0xFFFFFFFF
    assert info.packet_count == (counter + 1) & 0xFFFFFFFF
    assert info.octet_count == (counter + 2) & 0xFFFFFFFF
    assert description.chunks[0].items == [(1, name.encode()[:255])]
    assert not parse(wire).malformed


def test_round_trips() -> None:
    now = ntp_time(1_800_000_000.5)
    middle = now >> 16 & 0xFFFFFFFF

    def report(last: int, delay: int) -> ReceptionReport:
        return ReceptionReport(SSRC, 0, 0, 0, 0, last, delay)

    assert round_trip(report(middle - 65536, 32768), now) == 0.5
    assert round_trip(report(0, 0), now) is None
    assert round_trip(report(middle, 65536), now) is None


@given(st.floats(0, 4e9, allow_nan=False))
def test_ntp_times_fit(moment: float) -> None:
    assert 0 <= ntp_time(moment) < 1 << 64
