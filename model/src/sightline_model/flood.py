"""Whoever sends rubbish shall not fill the disk: a filter for the log handlers of everything that strangers reach.

Of the same warning at most `BURST` lines are written in `BURST_SECONDS`, and the next one tells how many were left out.
Everyday lines pass. The clock is given.
"""

import logging
import time
from collections.abc import Callable

BURST = 10
BURST_SECONDS = 10.0
MAX_KINDS = 256

_PARTS = ("event", "route", "status")
"""Of a structured line: what tells one kind from the other. All are from closed lists."""


class FloodFilter(logging.Filter):
    """Lets the first few of the same warning through."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._seen: dict[tuple[str, int, str], list[float]] = {}
        """By kind: since when it is counted, how many came, how many of them were left out."""

    def filter(self, record: logging.LogRecord) -> bool:
        """False for a line too many."""
        if record.levelno < logging.WARNING:
            return True
        kind, now = (record.name, record.levelno, _kind(record.msg)), self._clock()
        if kind not in self._seen and len(self._seen) >= MAX_KINDS:
            self._seen.clear()
        state = self._seen.setdefault(kind, [now, 0, 0])
        if now - state[0] >= BURST_SECONDS:
            _tell(record, int(state[2]))
            state[:] = [now, 0, 0]
        state[1] += 1
        if state[1] > BURST:
            state[2] += 1
        return state[1] <= BURST


def _kind(message: object) -> str:
    """A library's message may hold what a peer sent, so for those the logger's name must do."""
    return " ".join(str(message.get(part, "")) for part in _PARTS) if isinstance(message, dict) else ""


def _tell(record: logging.LogRecord, left_out: int) -> None:
    if left_out and isinstance(record.msg, dict):
        record.msg = {**record.msg, "left_out": left_out}
    elif left_out:
        record.msg = f"{record.getMessage()} ({left_out} more were left out)"
        record.args = ()
