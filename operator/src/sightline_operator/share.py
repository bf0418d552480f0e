"""How much of the operator's one loop each agent may take, so that one that talks without end does not slow the rest.

`stream` charges an agent for the CPU time that its bytes cost, listeners included, and reads no further once that is
more than its share; TCP then holds the agent up, and nothing has to be dropped. One `Share` lives as long as the link:
a new connection brings no new credit.
"""

import time
from collections.abc import Callable

PART = 0.05
"""A twentieth of a core, steadily: some 500 events a second, which is 200 viewers a second who come and go."""
CREDIT_SECONDS = 0.25
"""At once: a snapshot of thousands of sessions, or a thousand viewers who come together."""
PAUSE_SECONDS = 0.2
"""Beyond what is owed: who is over its share is not looked at for each single event."""
DEBT_SECONDS = 0.25
"""At most, so that no pause is longer than some five seconds."""


class Share:
    """A bucket of CPU seconds that fills with time."""

    __slots__ = ("_at", "_began", "_cpu", "_left")

    def __init__(self, cpu: Callable[[], float] = time.thread_time) -> None:
        self._cpu = cpu
        self._left = CREDIT_SECONDS
        self._at: float | None = None
        self._began = 0.0

    def wait(self, now: float) -> float:
        """In how many seconds the agent may be listened to again; 0 for at once."""
        if self._at is not None:
            self._left = min(self._left + (now - self._at) * PART, CREDIT_SECONDS)
        self._at = now
        return 0.0 if self._left > 0 else PAUSE_SECONDS - self._left / PART

    def __enter__(self) -> None:
        """What it costs from here on is the agent's. CPU time: that others keep the machine busy is not its fault."""
        self._began = self._cpu()

    def __exit__(self, *_: object) -> None:
        self._left = max(self._left - (self._cpu() - self._began), -DEBT_SECONDS)
