"""What each of many viewers needs now and then, done for several of them at one wake-up.

A timer per viewer would wake the process for each of them at a moment of its own, and a wake-up costs more than the
work it is for. Here all that falls due within a grain of time is done in one round, at the grain's beginning: so work
may come that much too early, never too late for another reason than a busy loop. What is asked for sooner than a grain
from now is done in the next round. Grains are coarse for what has a second's time or more, and fine for what is urgent,
and for what finds its coarse round full: nobody's frame shall wait for a hundred viewers' reports.
"""

import asyncio
from collections.abc import Callable

import structlog

_log = structlog.get_logger(__name__)

GRAIN_SECONDS = 0.05
COARSE_GRAINS = 5
"""Every fifth round is a coarse one, which is four in a second."""
COARSE_FROM_SECONDS = 1.0
_NEAR = 1e-4
"""Of a grain. A round that wakes up by so much too early is not the one before."""
FULL = 64
"""Turns of a coarse round: some 2 ms."""

Work = Callable[[], float | None]
"""Done in a round; after how many seconds it is to be done again. None: never."""


class Turn:
    """Somebody's work."""

    def __init__(self, work: Work, failed: Callable[[Exception], None]) -> None:
        self._todo: tuple[Work, Callable[[Exception], None]] | None = (work, failed)

    def cancel(self) -> None:
        """Do it no more. Idempotent. Whoever it was for is let go at once: its round may be seconds away, and a viewer
        that has left would be kept until then, with some 100 KB."""
        self._todo = None

    def take(self) -> float | None:
        """Do it; when it is to be done again."""
        if self._todo is None:
            return None
        work, failed = self._todo
        try:
            return work()
        except Exception as error:
            self.cancel()
            failed(error)
            return None


class Rounds:
    """One per agent. Bounded by who asks: each turn is in one round at most, and cancelled ones leave with theirs."""

    def __init__(self, grain: float = GRAIN_SECONDS) -> None:
        self._grain = grain
        self._rounds: dict[int, list[Turn]] = {}

    def each(self, delay: float, work: Work, failed: Callable[[Exception], None]) -> Turn:
        """Do it after so many seconds, and again as it says; `failed` hears what it raises, which ends it."""
        turn = Turn(work, failed)
        self._enter(turn, delay)
        return turn

    def _enter(self, turn: Turn, delay: float) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        number = max(self._round_at(now) + 1, self._round_at(now + delay))
        coarse = number - number % COARSE_GRAINS
        if delay >= COARSE_FROM_SECONDS and len(self._rounds.get(coarse, ())) < FULL:
            number = coarse
        if number not in self._rounds:
            self._rounds[number] = []
            loop.call_at(number * self._grain, self._round, number)
        self._rounds[number].append(turn)

    def _round_at(self, seconds: float) -> int:
        return int(seconds / self._grain + _NEAR)

    def _round(self, number: int) -> None:
        for turn in self._rounds.pop(number):
            try:
                again = turn.take()
                if again is not None:
                    self._enter(turn, again)
            except Exception:  # not even its `failed` works: the others' turns come all the same
                _log.exception("work of a round failed and could not be ended in order")
