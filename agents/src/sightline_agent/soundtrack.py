"""The sound beside the pictures of one source: a fan-out for each format, one line of timestamps, and lip sync.

The hub tells what comes. A camera that is set to another codec while it is watched gets another fan-out: who agreed on
the old codec hears nothing more but never another one's bytes, and who joins from then on agrees on the new one. A
fan-out is made when its first sound comes, so cameras without sound have none.
"""

from collections.abc import Callable

from sightline_agent.media.frames import AudioFormat, Chunk
from sightline_agent.media.lipsync import LipSync
from sightline_agent.media.timeline import Timeline
from sightline_agent.transport.fanout import FanOut, FanOutTotals


class Soundtrack:
    """One source's sound."""

    def __init__(self, make_fanout: Callable[[], FanOut]) -> None:
        self._make_fanout = make_fanout
        self._fanouts: dict[AudioFormat, FanOut] = {}
        self._format: AudioFormat | None = None
        self._timeline = Timeline()
        self._sync = LipSync()

    def fanout(self, format_: AudioFormat | None) -> FanOut | None:
        """Where sound of that format is sent; None for none. There are three formats at most."""
        if format_ is None:
            return None
        if format_ not in self._fanouts:
            self._fanouts[format_] = self._make_fanout()
        return self._fanouts[format_]

    def totals(self) -> FanOutTotals:
        """What was sent."""
        return sum((one.totals() for one in self._fanouts.values()), FanOutTotals())

    def restart(self) -> None:
        """Another run of the source begins."""
        self._timeline.restart()
        self._sync.restart()
        for one in self._fanouts.values():
            one.cut()

    def start(self, format_: AudioFormat | None) -> None:
        """What comes from now on."""
        if format_ != self._format:
            self._format = format_
            self._timeline = Timeline(format_.clock_rate if format_ is not None else 1)
            self._sync.restart()

    def picture(self, timestamp: int, now: float) -> None:
        """A picture of the viewers' line came."""
        if self._format is not None:
            self._sync.picture(timestamp, now)

    def write(self, chunk: Chunk, now: float, picture: int | None) -> Chunk | None:
        """Send sound, of the same moment as a picture of the viewers' line if that is known; what was sent."""
        to = self.fanout(self._format)
        if to is None:
            return None
        placed = self._timeline.place(chunk, now)
        self._sync.sound(placed.timestamp, now, picture)
        to.send(placed)
        return placed

    def correction(self, now: float) -> int:
        """Ticks to add to the time that a sender report of the sound tells by arrival."""
        return self._sync.correction(self._format.clock_rate, now) if self._format is not None else 0
