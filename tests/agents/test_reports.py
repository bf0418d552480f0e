"""Sender reports: what they say of a track's clock, and when they are due."""

import struct

import pytest

from sightline_agent.liveness import Timings
from sightline_agent.reports import Moment, Schedule, sender_report
from sightline_agent.transport.fanout import ViewerStats

TIMINGS = Timings(report_least=2.0, report_most=3.0, report_hurried=0.1, sound=0.5)
SENT = ViewerStats(packets=7, octets=700, last_timestamp=1_000, resent=0, dropped=0, last_sent=50.0)


@pytest.mark.parametrize(
    ("now", "correction", "timestamp"),
    [
        (50.0, 0, 1_000),
        (50.5, 0, 1_000 + 24_000),
        (50.5, -30_000, 1_000 + 24_000 - 30_000 + (1 << 32)),
        (49.9, 0, 1_000),  # the packet was sent after the clock was read
    ],
)
def test_a_report_says_what_the_clock_shows_now(now: float, correction: int, timestamp: int) -> None:
    data = sender_report(0xABCD, SENT, 48_000, Moment(now, 9 << 32), correction)
    ssrc, ntp, told, packets, octets = struct.unpack_from("!IQIII", data, 4)
    assert (ssrc, ntp, told, packets, octets) == (0xABCD, 9 << 32, timestamp, 7, 700)


def test_reports_hurry_while_the_tracks_relation_is_news() -> None:
    schedule = Schedule(TIMINGS)
    assert 2.0 <= schedule.seconds() <= 3.0
    schedule.begin()
    assert [schedule.seconds() for _ in range(4)] == [0.6, 0.1, 0.1, 0.1]  # the first once there is sound
    assert 2.0 <= schedule.seconds() <= 3.0
    schedule.again()
    assert [schedule.seconds() for _ in range(20)] == [0.1] * 20
    assert 2.0 <= schedule.seconds() <= 3.0
