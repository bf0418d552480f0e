"""What a stream is like: frames per second, bits per second, seconds between key frames. Pure; bounded memory.

Frames are counted where their timestamp changes, in buckets of a second, so a chunk costs an addition.
"""

from collections import deque

from sightline_agent.media.frames import Chunk

_WINDOW = 5
"""Whole seconds that the rates look back."""
_LEAST_SECONDS = 0.999
"""A source that has just begun sends a key frame, or many frames at once. (A whole second, but for rounding.)"""


class Meter:
    """Fed with every chunk; `now` is any monotonic clock in seconds."""

    def __init__(self) -> None:
        self._buckets: deque[tuple[int, int, int]] = deque(maxlen=_WINDOW + 1)
        self._second = -1
        self._frames = 0
        self._bytes = 0
        self._timestamp = -1
        self._began: float | None = None
        self._key_at: float | None = None
        self.keyframe_interval = 0.0

    def restart(self) -> None:
        """A new run: rates and the key frame interval begin anew."""
        self._buckets.clear()
        self._second, self._frames, self._bytes, self._timestamp = -1, 0, 0, -1
        self._began = self._key_at = None

    def add(self, chunk: Chunk, now: float) -> bool:
        """Count a chunk; True where a new frame began."""
        if self._began is None:
            self._began = now
        second = int(now)
        if second != self._second:
            self._close(second)
        self._bytes += sum(map(len, chunk.payloads))
        if chunk.key:
            if self._key_at is not None:
                self.keyframe_interval = round(now - self._key_at, 3)
            self._key_at = now
        if chunk.timestamp == self._timestamp:
            return False
        self._timestamp = chunk.timestamp
        self._frames += 1
        return True

    def rates(self, now: float) -> tuple[float, int]:
        """Frames per second and bits per second over the last seconds; 0 while nothing can be said of them."""
        if self._began is None or now - self._began < _LEAST_SECONDS:
            return 0.0, 0
        second = int(now)
        whole = [bucket for bucket in self._buckets if second - _WINDOW <= bucket[0] < second]
        if self._second not in (second, -1) and self._second >= second - _WINDOW:
            whole.append((self._second, self._frames, self._bytes))
        start = max(self._began, float(second - _WINDOW))
        span = second - start
        if span < 1.0:  # not one whole second yet: what has come so far
            span = now - start
            whole.append((second, self._frames, self._bytes))
        frames = sum(bucket[1] for bucket in whole)
        size = sum(bucket[2] for bucket in whole)
        return round(frames / span, 1), round(size * 8 / span)

    def _close(self, second: int) -> None:
        if self._second >= 0:
            self._buckets.append((self._second, self._frames, self._bytes))
        self._second, self._frames, self._bytes = second, 0, 0
