"""What players say of their own pictures: freezes, dropped frames, how long frames wait to be decoded.

The registry keeps one of these; reports come by HTTP (`signaling.report`), the newest of each live session is shown on
`/v1/status`, and all together make counters and histograms. What a player says is not to be trusted: totals may only
grow as fast as time allows, so one liar cannot spoil the sums of all. Pure but for the clock that is given.
"""

from collections.abc import Callable
from dataclasses import dataclass

from sightline_agent.viewerstats import Tally
from sightline_model.agent import PlayerReport

LEAST_SECONDS = 2.0
"""Between two reports of a session that count; ours come every ten seconds."""
JITTER_BUFFER_BOUNDS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0)
FRAME_RATE_BOUNDS = (1.0, 5.0, 10.0, 14.0, 19.0, 24.0, 29.0, 49.0, 61.0)
"""Just below and above the rates that cameras have."""

_FREEZES_PER_SECOND = 5.0
_FRAMES_PER_SECOND = 240.0
_FIRST_SECONDS = 60.0
"""How long before its first report a session is taken to have played at most."""


@dataclass(slots=True)
class _Heard:
    at: float
    report: PlayerReport


class Players:
    """All players of an agent."""

    def __init__(self) -> None:
        self._heard: dict[str, _Heard] = {}
        self.freezes = self.frames_dropped = 0
        self.frozen_seconds = 0.0
        self.counted = self.ignored = 0
        """Reports; those that came too soon after another are ignored."""
        self.jitter_buffer = Tally(JITTER_BUFFER_BOUNDS)
        self.frame_rate = Tally(FRAME_RATE_BOUNDS)

    def note(self, sid: str, report: PlayerReport, now: float) -> None:
        """The player of a live session reported."""
        before = self._heard.get(sid)
        if before is not None and now - before.at < LEAST_SECONDS:
            self.ignored += 1
            return
        self._heard[sid] = _Heard(now, report)
        self.counted += 1
        seconds = now - before.at if before is not None else _FIRST_SECONDS
        last = before.report if before is not None else PlayerReport()
        self.freezes += int(_growth(report.freezes - last.freezes, seconds * _FREEZES_PER_SECOND))
        self.frozen_seconds += _growth(report.frozen_seconds - last.frozen_seconds, seconds)
        self.frames_dropped += int(_growth(report.frames_dropped - last.frames_dropped, seconds * _FRAMES_PER_SECOND))
        self.jitter_buffer.add(report.jitter_buffer_ms / 1000)
        self.frame_rate.add(report.frames_per_second)

    def of(self, sid: str) -> PlayerReport | None:
        """The newest that a session's player said."""
        heard = self._heard.get(sid)
        return heard.report if heard is not None else None

    def forget(self, sid: str) -> None:
        """The session is over."""
        self._heard.pop(sid, None)


def _growth(difference: float, most: float) -> float:
    """A player that began anew counts from zero: that is no shrinking."""
    return min(max(difference, 0), most)


NoteReport = Callable[[str, PlayerReport], bool]
"""Takes a report for a session; False when there is no live one of that name."""
