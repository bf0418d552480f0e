"""How viewers receive: what one says about itself, and all together for the metrics. Pure; peers feed it.

A viewer is untrusted: it may send as many reports as it likes, with any numbers. So a peer samples its viewer at the
rate of its own sender reports, and what goes into the histograms is bounded there; an address is known here by its
family only.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from sightline_agent.transport.fanout import ViewerStats
from sightline_agent.transport.rtcp import ReceptionReport
from sightline_model.agent import SessionStats, TrackStats

LOSS_BOUNDS = (0.0, 0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
"""Fractions of 1."""
ROUND_TRIP_BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.25, 0.5, 1.0, 2.0)
JITTER_BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.25)
_MOST_SECONDS = 60.0
"""A round trip or a jitter beyond this is no measurement."""
_RATE_SECONDS = 5.0


class Family(StrEnum):
    """Of the address that media is sent to."""

    IPV4 = "IPv4"
    IPV6 = "IPv6"


def family_of(host: str) -> Family:
    """By the form of a numeric address."""
    return Family.IPV6 if ":" in host else Family.IPV4


class Rate:
    """Bits per second out of a counter that is read every few seconds."""

    def __init__(self) -> None:
        self._samples: list[tuple[float, int]] = []

    def add(self, now: float, octets: int) -> None:
        """The counter's value at `now`."""
        samples = self._samples
        samples.append((now, octets))
        while len(samples) > 2 and samples[1][0] <= now - _RATE_SECONDS:
            del samples[0]

    def bits_per_second(self) -> int:
        """Over the last seconds; 0 before the second sample."""
        if len(self._samples) < 2:
            return 0
        (began, first), (now, last) = self._samples[0], self._samples[-1]
        return max(0, round((last - first) * 8 / (now - began))) if now > began else 0


_NOTHING_SENT = ViewerStats(0, 0, 0, 0, 0)


@dataclass(slots=True)
class Reception:
    """The newest of what a viewer says about its reception of a track, and how often it complained."""

    reports: int = 0
    round_trip: float | None = None
    """Seconds."""
    fraction_lost: float = 0.0
    packets_lost: int = 0
    jitter: float = 0.0
    """Seconds."""
    nacks: int = 0
    """Messages; each may name many packets."""
    key_frames_wanted: int = 0
    rate: Rate = field(default_factory=Rate)

    def note(self, report: ReceptionReport, round_trip: float | None, clock_rate: int, count: int = 1) -> None:
        """A receiver report about our stream arrived, the newest of so many."""
        self.reports += count
        self.fraction_lost = report.fraction_lost
        self.packets_lost = report.packets_lost
        self.jitter = min(report.jitter / clock_rate, _MOST_SECONDS)
        if round_trip is not None and round_trip <= _MOST_SECONDS:
            self.round_trip = round_trip

    def track(self, sent: ViewerStats) -> TrackStats:
        """As `/v1/status` shows it of any track."""
        return TrackStats(
            bitrate=self.rate.bits_per_second(),
            packets_sent=sent.packets,
            bytes_sent=sent.octets,
            packets_dropped=sent.dropped,
            reports=self.reports,
            fraction_lost=round(self.fraction_lost, 4),
            packets_lost=self.packets_lost,
            jitter_ms=round(self.jitter * 1000, 2),
        )

    def stats(self, sent: ViewerStats | None, since: datetime, family: Family) -> SessionStats:
        """As `/v1/status` shows it of the pictures."""
        trip, counted = self.round_trip, sent or _NOTHING_SENT
        return SessionStats(
            since=since,
            address_family=family.value,
            packets_resent=counted.resent,
            round_trip_ms=None if trip is None else round(trip * 1000, 2),
            nacks=self.nacks,
            key_frames_wanted=self.key_frames_wanted,
            **self.track(counted).model_dump(),
        )


class Tally:
    """A histogram: how many observations were at most each bound."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def add(self, value: float) -> None:
        """One observation."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self.total += value

    def buckets(self) -> list[tuple[str, float]]:
        """Upper bound and cumulative count, as Prometheus wants them."""
        found: list[tuple[str, float]] = []
        count = 0
        for bound, number in zip([*map(str, self._bounds), "+Inf"], self._counts, strict=True):
            count += number
            found.append((bound, count))
        return found


class Audience:
    """All viewers together since the agent started; one per agent, shared by its peers."""

    def __init__(self) -> None:
        self.loss = Tally(LOSS_BOUNDS)
        self.round_trip = Tally(ROUND_TRIP_BOUNDS)
        self.jitter = Tally(JITTER_BOUNDS)
        self.reports = self.nacks = self.key_frames_wanted = 0
        self.families: Counter[Family] = Counter()
        """Connected viewers now."""

    def observe(self, reception: Reception) -> None:
        """Sample a viewer that has reported since it was last sampled."""
        self.loss.add(reception.fraction_lost)
        self.jitter.add(reception.jitter)
        if reception.round_trip is not None:
            self.round_trip.add(reception.round_trip)
