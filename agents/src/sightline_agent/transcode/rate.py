"""How many pictures a second a stream has, by the times of its pictures in the order in which they are shown. Pure."""

from collections import deque
from statistics import median

_CLOCK = 90_000
_STEPS = 31
_LEAST = 8
"""Steps before the answer is believed."""
_LONGEST = 2 * _CLOCK
"""A longer step is a pause."""
MAX_FPS = 60


class FrameRate:
    """Fed with the time of each picture, at 90 kHz."""

    def __init__(self) -> None:
        self._last: int | None = None
        self._steps: deque[int] = deque(maxlen=_STEPS)

    def add(self, ticks: int) -> None:
        """The next picture."""
        last, self._last = self._last, ticks
        if last is not None and 0 < ticks - last < _LONGEST:
            self._steps.append(ticks - last)

    @property
    def fps(self) -> int | None:
        """Whole pictures a second, at least 1; None before it is known. A late picture now and then changes nothing."""
        if len(self._steps) < _LEAST:
            return None
        return min(max(round(_CLOCK / median(self._steps)), 1), MAX_FPS)
