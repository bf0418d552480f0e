"""One line of timestamps for the viewers, whatever the sources behind it do.

A camera that is connected to again starts at a random timestamp. A player that saw time jump backwards would
wait for hours, so each new run is shifted to begin where the last one ended plus the time that passed
between. A camera that begins to count anew in the middle of a run (its encoder was started again, its clock was set) is
treated alike. Pure.
"""

from sightline_agent.media.frames import CLOCK_RATE, Chunk

_MODULUS = 1 << 32
_HALF = _MODULUS // 2
_BACK_SECONDS = 2.0
"""B-frames go back by less."""
_DRIFT_SECONDS = 10.0
"""From one chunk to the next time passes as it does here, but for what waited on the way: sources end sooner than that
when nothing comes."""


class Timeline:
    """Shifts the timestamps of successive runs of a source into one."""

    def __init__(self, clock_rate: int = CLOCK_RATE) -> None:
        self._clock_rate = clock_rate
        self._shift: int | None = None
        self._last = 0
        self._last_at: float | None = None

    def restart(self) -> None:
        """The next chunk begins a new run."""
        self._shift = None

    def placed(self, timestamp: int) -> int | None:
        """Where a timestamp of the present run is on the common line; None before its first chunk."""
        return None if self._shift is None else (timestamp + self._shift) % _MODULUS

    def place(self, chunk: Chunk, now: float) -> Chunk:
        """The chunk on the common line; `now` is any monotonic clock in seconds."""
        if self._shift is None or self._is_another_clock(chunk.timestamp, self._shift, now):
            begin = chunk.timestamp
            if self._last_at is not None:
                # At least one tick: two frames never share a timestamp.
                begin = self._last + max(1, round((now - self._last_at) * self._clock_rate))
            self._shift = (begin - chunk.timestamp) % _MODULUS
        timestamp = (chunk.timestamp + self._shift) % _MODULUS
        self._last, self._last_at = timestamp, now
        if not self._shift:
            return chunk
        return Chunk(chunk.payloads, timestamp, chunk.last, chunk.key)

    def _is_another_clock(self, timestamp: int, shift: int, now: float) -> bool:
        if self._last_at is None:
            return False
        step = ((timestamp + shift - self._last + _HALF) % _MODULUS - _HALF) / self._clock_rate
        return step < -_BACK_SECONDS or abs(step - (now - self._last_at)) > _DRIFT_SECONDS
