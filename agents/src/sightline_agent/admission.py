"""May one more viewer come in? Decided by what viewers cost here: measured, not guessed. Pure.

`CostMeter` is told at regular moments how much CPU time was used so far and how many viewers there are. It finds two
figures: what one more viewer adds, and what runs besides (the source, the process itself).

The first is the slope of use over viewers, by least squares over the last minutes. Where the number of viewers hardly
changed there is no slope to see: there it is drawn to the average, what is used beyond the idle agent's use divided by
the viewers; and with few viewers that average, which has the source in it, is drawn to an experience value. The second
is the median over the last windows of what use exceeds the viewers' cost: so a burst of work (a library that is loaded,
a dozen handshakes) closes nothing, and a lasting one counts after three windows.

`admission` compares with a line below the budget (`headroom`, for the bursts of key frames). Once the agent is full it
stays so until use has fallen by a further step: otherwise viewers who try again would be let in and cost the others
their quality in turn. The first few viewers are let in whatever was measured: a noisy measure, or a source that is dear
by itself, must not close a camera.
"""

import math
from collections import deque
from dataclasses import dataclass

EXPERIENCE = 0.002
"""CPU seconds per viewer and second of 4 Mbit/s, before anything was measured."""
_LEAST = 0.0001
_MOST = 1.0
_SMOOTHING = 0.5
"""Weight of the newest window in what is shown as in use."""
_MEMORY = 0.98
"""Weight that a window keeps in the slope with each later one: 50 windows."""
_PULL = 4.0
"""How much spread of viewers, squared, makes the slope count as much as the average."""
_IMAGINED = 10.0
"""So many viewers at the experience value are added to the average."""
_WINDOWS = 5
"""What runs besides is the median of so many. Before there are so many, experience counts alone."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What was measured; CPU in cores (CPU seconds per second)."""

    base: float = 0.0
    """Without viewers; below 0 where `per_viewer` says too much."""
    per_viewer: float = EXPERIENCE

    def expected(self, viewers: float) -> float:
        """What that many viewers would use."""
        return max(0.0, self.base + self.per_viewer * viewers)


@dataclass(frozen=True, slots=True)
class Rules:
    """Fractions of the budget, and a number of viewers."""

    headroom: float = 0.1
    """Never given to viewers."""
    step: float = 0.05
    """By how much use must fall below the line before a full agent takes viewers again."""
    floor: int = 4
    """So many are let in, whatever was measured."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What `admission` decided."""

    admitted: bool
    full: bool
    """To be given back the next time."""
    remaining: int
    """How many more would be let in now."""


def admission(cost: Cost, budget: float, viewers: int, rules: Rules, full: bool = False) -> Verdict:
    """May the next one come in, beside `viewers` who are here or on their way? `budget` in cores."""
    line = budget * (1.0 - rules.headroom - (rules.step if full else 0.0))
    room = line - cost.expected(viewers)
    fits = max(0, math.floor(room / cost.per_viewer + 1e-9))
    remaining = max(fits, rules.floor - viewers, 0)
    return Verdict(admitted=remaining > 0, full=fits == 0, remaining=remaining)


class CostMeter:
    """Turns readings of a CPU clock into a Cost."""

    def __init__(self) -> None:
        self.cost = Cost()
        self.used = 0.0
        """Over the last windows, smoothed; for people."""
        self._last: tuple[float, float, int] | None = None
        self._windows: deque[tuple[float, float]] = deque(maxlen=_WINDOWS)
        self._started = False
        self._idle = 0.0
        self._weight = self._x = self._y = self._xx = self._xy = 0.0

    def add(self, now: float, cpu: float, viewers: int) -> None:
        """At `now` (any clock, in seconds) `cpu` seconds had been used in all and there were `viewers`."""
        last, self._last = self._last, (now, cpu, viewers)
        if last is None or now <= last[0]:
            return
        used = max(0.0, (cpu - last[1]) / (now - last[0]))
        present = (viewers + last[2]) / 2
        if not self._started:  # the first window is the process's own beginning
            self._started, self.used = True, used
            return
        self.used += (used - self.used) * _SMOOTHING
        self._windows.append((used, present))
        self._learn(used, present)
        per_viewer = self._per_viewer()
        besides = sorted(used - per_viewer * present for used, present in self._windows)
        if len(besides) == _WINDOWS:
            self.cost = Cost(besides[_WINDOWS // 2], per_viewer)

    def _learn(self, used: float, present: float) -> None:
        if present == 0:
            self._idle += (used - self._idle) * _SMOOTHING
        self._weight = self._weight * _MEMORY + 1
        self._x = self._x * _MEMORY + present
        self._y = self._y * _MEMORY + used
        self._xx = self._xx * _MEMORY + present * present
        self._xy = self._xy * _MEMORY + present * used

    def _per_viewer(self) -> float:
        viewers, used = self._x / self._weight, self._y / self._weight
        spread = max(0.0, self._xx / self._weight - viewers * viewers)
        together = self._xy / self._weight - viewers * used
        beyond = max(0.0, used - self._idle) if viewers else 0.0
        average = (beyond + _IMAGINED * EXPERIENCE) / (viewers + _IMAGINED)
        slope = (together + _PULL * average) / (spread + _PULL)
        return min(max(slope, _LEAST), _MOST)
