"""May one more viewer come in? Decided by what viewers cost here: measured, not guessed. Pure.

`CostMeter` is told at regular moments how much CPU time was used so far, how many viewers there are and how many ever
came. It finds three figures: what one more viewer adds, what one who comes costs once (some handshake), and what runs
besides (the source, the process itself).

The first two are slopes of use, over viewers and over joins per second, by least squares over the last minutes. Where
one of them hardly changed there is no slope to see: the price of a join is drawn to an experience value then, that of a
viewer to the average, what is used beyond the idle agent's use divided by the viewers; and with few viewers that
average, which has the source in it, is drawn to an experience value as well. The third is the median over the last
windows of what use exceeds both: so a burst of work (a library that is loaded) closes nothing, and a lasting one counts
after three windows. Joins count as they were on average over the last minutes: a crowd that comes all at once is not
taken for what it will cost while it watches, and people who come and go all the time are paid for.

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
EXPERIENCE_JOIN = 0.004
"""CPU seconds once: an offer, its answer and a DTLS handshake."""
_LEAST = 0.0001
_MOST = 1.0
_SMOOTHING = 0.5
"""Weight of the newest window in what is shown as in use."""
_MEMORY = 0.98
"""Weight that a window keeps in the slope with each later one: 50 windows."""
_PULL = 4.0
"""How much spread of viewers (of joins per second), squared, makes the slope count as much as what it is drawn to."""
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


class _Moments:
    """Weighted sums over the windows, of which later ones count more: use y over viewers x and joins per second j."""

    def __init__(self) -> None:
        self.weight = self._x = self._j = self._y = 0.0
        self._xx = self._xj = self._jj = self._xy = self._jy = 0.0

    def add(self, x: float, j: float, y: float) -> None:
        """One more window."""
        keep = _MEMORY
        self.weight = self.weight * keep + 1
        self._x, self._j, self._y = self._x * keep + x, self._j * keep + j, self._y * keep + y
        self._xx, self._xj, self._jj = self._xx * keep + x * x, self._xj * keep + x * j, self._jj * keep + j * j
        self._xy, self._jy = self._xy * keep + x * y, self._jy * keep + j * y

    def means(self) -> tuple[float, float, float]:
        """Of viewers, joins and use."""
        return self._x / self.weight, self._j / self.weight, self._y / self.weight

    def slopes(self, x_drawn: float, j_drawn: float) -> tuple[float, float]:
        """Of use over viewers and over joins; where one of them hardly changes, its slope is drawn to a given one."""
        x, j, y = self.means()
        xx, jj = max(0.0, self._xx / self.weight - x * x) + _PULL, max(0.0, self._jj / self.weight - j * j) + _PULL
        xj = self._xj / self.weight - x * j
        xy, jy = self._xy / self.weight - x * y + _PULL * x_drawn, self._jy / self.weight - j * y + _PULL * j_drawn
        # Positive, because no correlation is above 1 and each diagonal is larger than the spread alone.
        determinant = xx * jj - xj * xj
        return (xy * jj - jy * xj) / determinant, (jy * xx - xy * xj) / determinant


class CostMeter:
    """Turns readings of a CPU clock into a Cost."""

    def __init__(self) -> None:
        self.cost = Cost()
        self.used = 0.0
        """Over the last windows, smoothed; for people."""
        self._last: tuple[float, float, int, int] | None = None
        self._windows: deque[tuple[float, float, float]] = deque(maxlen=_WINDOWS)
        self._started = False
        self._idle = 0.0
        self._moments = _Moments()

    def add(self, now: float, cpu: float, viewers: int, came: int = 0) -> None:
        """At `now` (any clock, in seconds) `cpu` seconds had been used in all, there were `viewers`, and so many had
        come since the process began."""
        last, self._last = self._last, (now, cpu, viewers, came)
        if last is None or now <= last[0]:
            return
        seconds = now - last[0]
        used = max(0.0, (cpu - last[1]) / seconds)
        present, joins = (viewers + last[2]) / 2, max(0, came - last[3]) / seconds
        if not self._started:  # the first window is the process's own beginning
            self._started, self.used = True, used
            return
        self.used += (used - self.used) * _SMOOTHING
        if present == 0:
            self._idle += (used - self._idle) * _SMOOTHING
        self._windows.append((used, present, joins))
        self._moments.add(present, joins, used)
        each, join = self._prices()
        besides = sorted(used - each * present - join * joins for used, present, joins in self._windows)
        if len(besides) == _WINDOWS:
            self.cost = Cost(besides[_WINDOWS // 2] + join * self._moments.means()[1], each)

    def _prices(self) -> tuple[float, float]:
        """Of a viewer's second, and of a join."""
        viewers, joins, used = self._moments.means()
        beyond = max(0.0, used - self._idle - joins * EXPERIENCE_JOIN) if viewers else 0.0
        average = (beyond + _IMAGINED * EXPERIENCE) / (viewers + _IMAGINED)
        each, join = self._moments.slopes(average, EXPERIENCE_JOIN)
        return min(max(each, _LEAST), _MOST), min(max(join, 0.0), _MOST)
