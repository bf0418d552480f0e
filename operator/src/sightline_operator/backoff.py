"""Exponential backoff with jitter, as a pure function: randomness is a parameter."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Backoff:
    """Delays that double from `base` to `cap` seconds; jitter takes away up to half."""

    base: float
    cap: float

    def delay(self, attempt: int, random: Callable[[], float]) -> float:
        """The wait before retry `attempt` (0 is the first); `random` yields [0, 1)."""
        full = min(self.cap, self.base * 2.0 ** min(attempt, 32))
        return full * (0.5 + 0.5 * random())
