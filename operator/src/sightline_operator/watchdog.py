"""Ends a process whose event loop is blocked: a thread watches the loop's tick.

Nothing inside the loop can tell that it stands still, and a health page that does not answer says nothing about where.
The thread writes down what the loop's thread is doing, then the process ends with code 1; its successor takes the
Lease when it has run out. A machine that slept looks the same for one tick, so two silent looks are needed.
"""

import asyncio
import logging
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager

log = logging.getLogger(__name__)

TICK_SECONDS = 1.0
BLOCKED_SECONDS = 20.0
"""A pass takes milliseconds and kopf's first LIST of 10,000 objects some seconds; a Lease lasts 15."""


class Watchdog:
    """Watches the loop that it was made in."""

    def __init__(
        self,
        blocked: float = BLOCKED_SECONDS,
        clock: Callable[[], float] = time.monotonic,
        end: Callable[[int], None] = os._exit,
    ) -> None:
        self._blocked = blocked
        self._clock = clock
        self._end = end
        self._loop_thread = threading.get_ident()
        self._ticked = clock()
        self._looks = 0

    @property
    def silence(self) -> float:
        """Seconds since the loop's last tick."""
        return self._clock() - self._ticked

    async def run(self) -> None:
        """Tick, as long as the loop turns."""
        while True:
            self._ticked = self._clock()
            await asyncio.sleep(TICK_SECONDS)

    def look(self) -> None:
        """One look from outside the loop."""
        if self.silence < self._blocked:
            self._looks = 0
            return
        self._looks += 1
        if self._looks < 2:
            return
        frame = sys._current_frames().get(self._loop_thread)
        stack = "".join(traceback.format_stack(frame)) if frame else ""
        log.critical("the event loop is blocked for %.0f s, ending; it is here:\n%s", self.silence, stack)
        self._end(1)


@contextmanager
def watching(dog: Watchdog) -> Iterator[None]:
    """Look each second, from a thread, while the context lasts."""
    over = threading.Event()

    def patrol() -> None:
        while not over.wait(TICK_SECONDS):
            dog.look()

    thread = threading.Thread(target=patrol, name="watchdog", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
