"""Receiver reports: what is counted, and what is understood of the camera's own RTCP."""

from hypothesis import given
from hypothesis import strategies as st

from sightline_agent.media.rtp import RtpPacket
from sightline_agent.sources.rtsp.feedback import Reception
from sightline_agent.transport import rtcp

US, CAMERA = 0x01020304, 0x11223344
SENDER_REPORT = bytes.fromhex("80c80006 11223344 e0e1e2e3e4e5e6e7 00000000 00000001 00000001")


def packet(sequence: int, timestamp: int = 0, ssrc: int = CAMERA) -> RtpPacket:
    return RtpPacket(96, False, sequence % 65536, timestamp, ssrc, b"x")


def only(reception: Reception, now: float = 0.0) -> rtcp.ReceptionReport:
    feedback = rtcp.parse(reception.report(now))
    assert not feedback.malformed
    (report,) = feedback.reports
    return report


def test_before_the_first_packet_there_is_nothing_to_tell() -> None:
    feedback = rtcp.parse(Reception(US).report(0.0))
    assert (feedback.reports, feedback.malformed) == ([], False)


def test_losses_are_counted_over_the_wrap() -> None:
    reception = Reception(US)
    for sequence in range(65_530, 65_550):
        if sequence not in (65_535, 65_540, 65_541, 65_542):
            reception.packet(packet(sequence), 0.0)
    report = only(reception)
    assert (report.ssrc, report.packets_lost, report.highest_sequence) == (CAMERA, 4, 65_549)
    assert report.fraction_lost == (4 * 256 // 20) / 256
    reception.packet(packet(65_550), 0.0)
    assert only(reception).fraction_lost == 0.0


@given(st.integers(0, 65_535), st.lists(st.integers(0, 20), min_size=1, max_size=10))
def test_those_that_follow_count_like_each(first: int, runs: list[int]) -> None:
    one, two = Reception(US), Reception(US)
    sequence = first
    for number, following in enumerate(runs):
        one.packet(packet(sequence, number * 3000), float(number), following)
        for index in range(following + 1):
            two.packet(packet(sequence + index, number * 3000), float(number))
        sequence += following + 2
    assert only(one, 9.0) == only(two, 9.0)


def test_packets_that_come_late_are_not_lost() -> None:
    reception = Reception(US)
    for sequence in (1, 3, 2):
        reception.packet(packet(sequence), 0.0)
    assert only(reception).packets_lost == 0


def test_a_camera_that_begins_anew_is_counted_anew() -> None:
    reception = Reception(US)
    for sequence in (1, 2, 30_000):
        reception.packet(packet(sequence), 0.0)
    assert only(reception).packets_lost == 0
    reception.packet(packet(5, ssrc=7), 0.0)
    assert (only(reception).ssrc, only(reception).packets_lost) == (7, 0)


def test_jitter_is_none_when_frames_come_as_they_were_taken() -> None:
    steady, uneven = Reception(US), Reception(US)
    for number in range(100):
        steady.packet(packet(number, number * 3600), number / 25)
        uneven.packet(packet(number, number * 3600), number / 25 + number % 2 / 100)
    assert only(steady).jitter == 0
    assert 600 < only(uneven).jitter <= 900


def test_the_sender_report_is_quoted() -> None:
    reception = Reception(US)
    reception.packet(packet(1), 0.0)
    assert not reception.control(SENDER_REPORT, 10.0)
    report = only(reception, 10.5)
    assert (report.last_sender_report, report.delay) == (0xE2E3E4E5, 32_768)


def test_only_a_goodbye_to_our_stream_counts() -> None:
    reception = Reception(US)
    reception.packet(packet(1), 0.0)
    assert not reception.control(bytes.fromhex("81cb0001 55667788"), 0.0)
    assert reception.control(SENDER_REPORT + bytes.fromhex("81cb0001 11223344"), 0.0)


@given(st.lists(st.binary(max_size=80), max_size=5))
def test_noise_breaks_nothing(noise: list[bytes]) -> None:
    reception = Reception(US)
    reception.packet(packet(1), 0.0)
    for data in noise:
        reception.control(data, 0.0)
    assert not rtcp.parse(reception.report(1.0)).malformed
