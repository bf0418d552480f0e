"""Sender reports: what a track's clock shows at a moment of ours, and when viewers are told. Pure but for chance.

Players put two tracks in step by them: each report names a timestamp and the time at which it was. A peer makes the
pictures' reports, its listener those of the sound.
"""

import random
from dataclasses import dataclass

from sightline_agent.liveness import Timings
from sightline_agent.signaling.answer import CNAME
from sightline_agent.transport import rtcp
from sightline_agent.transport.fanout import ViewerStats

_AT_FIRST = 4
"""Browsers need two of each track to keep lips in step; the first sound may come a little after its time."""
_AGAIN = 20
"""Chromium fits a line through the last twenty: so many until those of before a jump are forgotten."""


@dataclass(frozen=True, slots=True)
class Moment:
    """One moment on both clocks."""

    now: float
    """The monotonic clock that packets were sent by."""
    ntp: int
    """The wall clock (`rtcp.ntp_time`)."""


def sender_report(ssrc: int, sent: ViewerStats, clock_rate: int, moment: Moment, correction: int = 0) -> bytes:
    """The newest packet's timestamp plus the time since, and `correction` ticks."""
    elapsed = max(0.0, moment.now - sent.last_sent)
    report = rtcp.SenderReport(
        ssrc=ssrc,
        ntp=moment.ntp,
        rtp_timestamp=sent.last_timestamp + round(elapsed * clock_rate) + correction,
        packets=sent.packets,
        octets=sent.octets,
        cname=CNAME,
    )
    return rtcp.build_sender_report(report)


class Schedule:
    """When the next one is due: at irregular intervals, so that many viewers do not get theirs in step (RFC 3550
    section 6.2), and soon for a viewer who does not know yet how sound and pictures belong together."""

    def __init__(self, timings: Timings) -> None:
        self._timings = timings
        self._hurried = 0
        self._rest = 0.0

    def begin(self) -> None:
        """The viewer begins to see, and will hear: until then there is nothing to tell."""
        self._hurried, self._rest = _AT_FIRST, self._timings.sound

    def again(self) -> None:
        """The pictures' timestamps have jumped beside those of the sound."""
        self._hurried = _AGAIN

    def seconds(self) -> float:
        """Until the next report."""
        if self._hurried:
            self._hurried -= 1
            rest, self._rest = self._rest, 0.0
            return rest + self._timings.report_hurried
        return random.uniform(self._timings.report_least, self._timings.report_most)  # noqa: S311
