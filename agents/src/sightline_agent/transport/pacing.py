"""How fast a viewer who is behind the stream gets what it misses, and who calls the fan-out meanwhile.

A viewer is behind because it joined in the middle of a group of pictures, because it asked for that group again,
or because its socket was full for a moment. Its backlog is the shared ring itself, from its own place up to the
newest packet: live packets need no queue per viewer, and sequence numbers have no gap. A ticker gives each such
viewer a slice now and then until it has caught up.

Bursts were measured in Chromium: some twenty packets per millisecond arrive whole, a group sent at once
overruns the receiver's socket.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from sightline_agent.media.frames import CLOCK_RATE

Later = Callable[[float, Callable[[], None]], object]
"""Calls back after so many seconds: `loop.call_later`."""


@dataclass(frozen=True, slots=True)
class Pace:
    """What is bounded, and how."""

    rate: float = 20_000
    """Packets per second to one viewer."""
    slice_least: int = 20
    slice_most: int = 60
    """Packets to one viewer at once; more than the least where the loop was late."""
    tick: float = 0.001
    """Seconds between slices."""
    tick_most: int = 240
    """Packets per tick to all viewers together: the loop has other work."""
    stuck: float = 0.25
    """A socket that is full for so many seconds: its viewer goes on at the next key frame."""
    backlog: int = 1024
    """Packets. A viewer whom a full socket held up and who is further behind goes on at the next key frame."""
    skip: int = 128
    """Packets. With more than that ahead of a newer key frame, a viewer who is behind goes on there at once."""
    refresh: float = 1.0
    """Seconds between two groups for one viewer; at least as long as the group was."""
    refresh_step: int = CLOCK_RATE // 30
    """From the newest timestamp to the first one of a group that is sent again. Timestamps that go back are decoded,
    but Chromium shows nothing for three seconds then; so all that follows is shifted for this viewer."""

    def slice(self, elapsed: float) -> int:
        """Packets for a viewer whose last slice was so many seconds ago."""
        return min(max(round(elapsed * self.rate), self.slice_least), self.slice_most)


def on_loop(delay: float, callback: Callable[[], None]) -> object:
    """On the running loop."""
    return asyncio.get_running_loop().call_later(delay, callback)


class Ticker:
    """Works again and again, as long as there is something left to do."""

    def __init__(self, work: Callable[[], bool], seconds: float, later: Later) -> None:
        """`work` tells whether anything is left."""
        self._work = work
        self._seconds = seconds
        self._later = later
        self._running = False

    def start(self) -> None:
        """There is something to do."""
        if not self._running:
            self._running = True
            self._later(0, self._tick)

    def _tick(self) -> None:
        self._running = False
        if self._work() and not self._running:
            self._running = True
            self._later(self._seconds, self._tick)
