"""How viewers receive, out of made-up reports."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sightline_agent.transport.fanout import ViewerStats
from sightline_agent.transport.rtcp import ReceptionReport
from sightline_agent.viewerstats import LOSS_BOUNDS, Audience, Family, Rate, Reception, Tally, family_of

SINCE = datetime(2026, 3, 1, tzinfo=UTC)


def report(lost: float = 0.0, jitter: int = 0, total: int = 0) -> ReceptionReport:
    return ReceptionReport(1, lost, total, 100, jitter, 0, 0)


def test_what_a_viewer_says_is_shown() -> None:
    reception = Reception(nacks=3, key_frames_wanted=2)
    reception.note(report(0.25, 900, 17), 0.0421, 90_000)
    reception.rate.add(10.0, 0)
    reception.rate.add(12.0, 1_000_000)
    stats = reception.stats(ViewerStats(1000, 1_000_000, 0, 5, 7), SINCE, Family.IPV6)
    assert stats.to_wire() == {
        "since": "2026-03-01T00:00:00Z",
        "addressFamily": "IPv6",
        "bitrate": 4_000_000,
        "packetsSent": 1000,
        "bytesSent": 1_000_000,
        "packetsResent": 5,
        "packetsDropped": 7,
        "reports": 1,
        "fractionLost": 0.25,
        "packetsLost": 17,
        "jitterMs": 10.0,
        "roundTripMs": 42.1,
        "nacks": 3,
        "keyFramesWanted": 2,
    }


def test_of_the_sound_less_is_shown() -> None:
    reception = Reception()
    reception.note(report(0.125, 480, 3), None, 48_000)
    reception.rate.add(10.0, 0)
    reception.rate.add(12.0, 16_000)
    assert reception.track(ViewerStats(100, 16_000, 0, 0, 2)).to_wire() == {
        "bitrate": 64_000,
        "packetsSent": 100,
        "bytesSent": 16_000,
        "packetsDropped": 2,
        "reports": 1,
        "fractionLost": 0.125,
        "packetsLost": 3,
        "jitterMs": 10.0,
    }


def test_before_the_first_report_and_after_the_last_packet() -> None:
    stats = Reception().stats(None, SINCE, Family.IPV4)
    assert (stats.reports, stats.round_trip_ms, stats.packets_sent, stats.bitrate) == (0, None, 0, 0)


def test_nonsense_is_bounded() -> None:
    reception = Reception()
    reception.note(report(jitter=0xFFFFFFFF), 40_000.0, 90_000)
    assert (reception.jitter, reception.round_trip) == (60.0, None)
    reception.note(report(), 0.1, 90_000)
    reception.note(report(), None, 90_000)
    assert reception.round_trip == 0.1


def test_the_rate_looks_back_some_seconds() -> None:
    rate = Rate()
    octets = 0
    for second in range(0, 60, 2):
        octets += 250_000 if second < 30 else 500_000
        rate.add(second, octets)
        assert len(rate._samples) <= 5
    assert rate.bits_per_second() == 2_000_000
    rate.add(58, octets)
    rate.add(58, 0)  # another stream under the same viewer
    assert rate.bits_per_second() >= 0


def test_a_tally_is_a_histogram() -> None:
    tally = Tally((0.1, 1.0))
    for value in (0.0, 0.1, 0.5, 1.0, 7.0):
        tally.add(value)
    assert tally.buckets() == [("0.1", 2), ("1.0", 4), ("+Inf", 5)]
    assert tally.total == pytest.approx(8.6)


@given(st.lists(st.floats(0, 1)))
def test_a_tally_counts_everything_once(values: list[float]) -> None:
    tally = Tally(LOSS_BOUNDS)
    for value in values:
        tally.add(value)
    counts = [count for _, count in tally.buckets()]
    assert counts == sorted(counts)
    assert counts[-1] == len(values)
    assert counts[:-1] == [sum(value <= bound for value in values) for bound in LOSS_BOUNDS]


def test_the_audience_knows_no_single_viewer() -> None:
    audience = Audience()
    silent, heard = Reception(), Reception()
    heard.note(report(0.5, 90), 0.2, 90_000)
    silent.note(report(), None, 90_000)
    audience.observe(silent)
    audience.observe(heard)
    assert (audience.loss.buckets()[-1][1], audience.round_trip.buckets()[-1][1]) == (2, 1)
    assert (audience.loss.total, audience.round_trip.total, audience.jitter.total) == (0.5, 0.2, 0.001)


@pytest.mark.parametrize(("host", "family"), [("192.0.2.1", Family.IPV4), ("2001:db8::1", Family.IPV6)])
def test_an_address_is_known_by_its_family(host: str, family: Family) -> None:
    assert family_of(host) is family
