"""One question for all who ask the same at the same moment.

An answer that is kept spares the next question; until it is there, everybody whose answer has just run out would ask.
The question runs as a task of its own: whoever began it may be cancelled and the others still get their answer, or its
error, which nobody gets who comes later. It is broken off when nobody waits for it any more.
"""

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Flights(Generic[K, V]):
    """Questions on their way. How many there may be, and how many may wait, is for the caller to say."""

    def __init__(self) -> None:
        self._flights: dict[K, _Flight[V]] = {}

        self.waiting = 0
        """Those who wait for an answer."""

    def __contains__(self, key: K) -> bool:
        return key in self._flights

    def __len__(self) -> int:
        return len(self._flights)

    async def ask(self, key: K, question: Callable[[], Awaitable[V]]) -> V:
        """The answer to the question of that key, which is put now unless it is on its way already."""
        flight = self._flights.get(key)
        if flight is None:
            flight = self._flights[key] = _Flight(question)
            flight.task.add_done_callback(lambda _: self._landed(key, flight))
        self.waiting += 1
        flight.waiting += 1
        try:
            await asyncio.wait({flight.task})
            return flight.task.result()
        finally:
            self.waiting -= 1
            flight.waiting -= 1
            if not flight.waiting and not flight.task.done():
                self._landed(key, flight)  # whoever comes now must not get a cancelled answer
                flight.task.cancel()

    def _landed(self, key: K, flight: "_Flight[V]") -> None:
        if self._flights.get(key) is flight:
            del self._flights[key]


class _Flight(Generic[V]):
    def __init__(self, question: Callable[[], Awaitable[V]]) -> None:
        self.waiting = 0
        self.task = asyncio.create_task(self._fly(question))
        self.task.add_done_callback(_noticed)

    @staticmethod
    async def _fly(question: Callable[[], Awaitable[V]]) -> V:
        return await question()


def _noticed(task: "asyncio.Task[V]") -> None:
    """An error that came in the moment in which the last one left is nobody's any more."""
    if not task.cancelled():
        task.exception()
