"""Pure: which frame of the camera is which frame of a viewer, and how long it took.

Servers rewrite timestamps and encrypt, but sizes show through: the camera's log is slid along the viewer's frames until
the sizes fit. The fit must be clearly better than any other, or there is no answer.
"""

import math
import statistics
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

TICKS_PER_FRAME = 3000
LONGEST_FRAMES = 300
"""How old a frame may be when it arrives: 10 s."""
_FEWEST = 45
_COMPARED = 60
_CLEARLY = 3.0
"""The second-best fit must be this many times worse."""


@dataclass(frozen=True, slots=True)
class Departure:
    """A frame as the camera logged it."""

    ns: int
    size: int


@dataclass(frozen=True, slots=True)
class Arrival:
    """A frame as a viewer got it: when its last packet came, by the same clock."""

    ns: int
    timestamp: int
    size: int


def latencies(departures: Sequence[Departure], arrivals: Sequence[Arrival]) -> list[float] | None:
    """Milliseconds of each frame; None when the frames cannot be told apart for certain."""
    if len(arrivals) < _FEWEST:
        return None
    steps = [round(((frame.timestamp - arrivals[0].timestamp) & 0xFFFFFFFF) / TICKS_PER_FRAME) for frame in arrivals]
    latest = bisect_right(departures, arrivals[0].ns, key=lambda frame: frame.ns)
    last = min(latest, len(departures) - steps[-1])
    candidates = range(max(0, latest - LONGEST_FRAMES), last)
    fits = sorted((_misfit(departures, arrivals, steps, first), first) for first in candidates)
    if not fits or (len(fits) > 1 and fits[1][0] < _CLEARLY * (fits[0][0] + 1)):
        return None
    first = fits[0][1]
    return [(frame.ns - departures[first + step].ns) / 1e6 for frame, step in zip(arrivals, steps, strict=True)]


def _misfit(departures: Sequence[Departure], arrivals: Sequence[Arrival], steps: Sequence[int], first: int) -> float:
    """How far the sizes are apart. Headers and tags add about the same to each frame: that is taken off."""
    pairs = zip(arrivals[:_COMPARED], steps, strict=False)
    more = [frame.size - departures[first + step].size for frame, step in pairs]
    usual = statistics.median(more)
    return statistics.median(abs(one - usual) for one in more)


def percentile(values: Sequence[float], share: float) -> float:
    """The value that `share` of all are not above (nearest rank)."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, math.ceil(share * len(ordered)) - 1))]
