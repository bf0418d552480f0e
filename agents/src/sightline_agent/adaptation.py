"""When a viewer's link is too thin for its quality, and when it may carry a better one again. Pure.

The registry feeds a judge per session with what receiver reports say and asks for the verdict. Down goes quick: a few
seconds of loss beyond what retransmission repairs, or a round trip that says that a queue on the way is full. Up goes
slow, and slower each time that it was too early, so a link between two qualities does not make the picture jump to and
fro. Loss is the receivers' figure before repair; a wireless link may lose some percent at random, which repair hides.
"""

from collections import deque
from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """What to do."""

    STAY = "stay"
    DOWN = "down"
    UP = "up"


@dataclass(frozen=True, slots=True)
class Rules:
    """Seconds and fractions."""

    window: float = 4.0
    """Reports older than this do not count against a link."""
    reports: int = 3
    """A verdict down needs at least so many."""
    loss: float = 0.07
    """On average over the window; below it repair keeps up."""
    round_trip: float = 0.4
    """A round trip below this is no sign of trouble, nor one that is short of `swollen` times the best one."""
    swollen: float = 4.0
    clean_loss: float = 0.02
    up_after: float = 15.0
    """Without trouble, until a better quality is tried."""
    up_after_most: float = 240.0
    relapse: float = 20.0
    """A quality that is given up so soon was tried too early: the next try waits twice as long."""
    settle: float = 3.0
    """After a change: reports still speak of before."""


class Judge:
    """The judge of one viewer's link; times are any monotonic seconds."""

    def __init__(self, now: float, rules: Rules | None = None) -> None:
        self._rules = rules or Rules()
        self._reports: deque[tuple[float, float, float | None]] = deque()
        self._best: float | None = None
        self._clean_since = now
        self._deaf_until = now
        self._patience = self._rules.up_after
        self._went_up: float | None = None

    def hear(self, now: float, loss: float, round_trip: float | None) -> None:
        """A receiver report."""
        if now < self._deaf_until:
            return
        if round_trip is not None:
            self._best = round_trip if self._best is None else min(self._best, round_trip)
        if loss > self._rules.clean_loss or self._slow(round_trip):
            self._clean_since = now
        self._reports.append((now, loss, round_trip))

    def verdict(self, now: float) -> Verdict:
        """What the reports so far call for."""
        rules, reports = self._rules, self._reports
        while reports and reports[0][0] < now - rules.window:
            reports.popleft()
        if len(reports) >= rules.reports:
            mean = sum(loss for _, loss, _ in reports) / len(reports)
            if mean >= rules.loss or all(self._slow(trip) for _, _, trip in reports):
                return Verdict.DOWN
        if reports and now - self._clean_since >= self._patience:
            return Verdict.UP
        return Verdict.STAY

    def moved(self, now: float, verdict: Verdict) -> None:
        """The verdict is being followed."""
        rules = self._rules
        if verdict is Verdict.DOWN:
            if self._went_up is not None and now - self._went_up <= rules.relapse:
                self._be_patient()
            self._went_up = None
        elif verdict is Verdict.UP:
            self._went_up = now
        self._reports.clear()
        self._clean_since = now
        self._deaf_until = now + rules.settle

    def failed(self) -> None:
        """It could not be: that quality is not to be had now."""
        self._went_up = None
        self._be_patient()

    def _be_patient(self) -> None:
        self._patience = min(self._patience * 2, self._rules.up_after_most)

    def _slow(self, round_trip: float | None) -> bool:
        if round_trip is None or self._best is None:
            return False
        return round_trip >= max(self._rules.round_trip, self._rules.swollen * self._best)


def neighbour(names: list[str], now: str, verdict: Verdict) -> str | None:
    """The quality that the verdict leads to: names are from the best to the least; None where there is none."""
    if now not in names or verdict is Verdict.STAY:
        return None
    at = names.index(now) + (1 if verdict is Verdict.DOWN else -1)
    return names[at] if 0 <= at < len(names) else None
