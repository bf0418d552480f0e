"""The queue of keys to look at: each key once, never twice at the same time, urgent ones first, with backoff and
delayed adds.

Semantics are those that Go controllers have relied on for years (client-go, util/workqueue): adding a key that waits is
nothing; adding one that is being worked on brings it back after; a failed key comes back later and later. The queue is
bounded by the number of objects, since a key is in it at most once.
"""

import asyncio
import heapq
import itertools
import math
import random
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable, Iterator
from contextlib import contextmanager
from enum import IntEnum
from typing import Generic, Protocol, TypeVar

from sightline_operator.backoff import Backoff

K = TypeVar("K", bound=Hashable)

RETRY = Backoff(base=0.1, cap=60.0)
FAIR = 8
"""Of so many keys one is whichever has waited longest, so that nobody waits for ever."""
URGENT_SECONDS = 1.0
"""After the last urgent key: the next one is not far."""
_SLACK = 64


class Lane(IntEnum):
    """Who goes first: one edit may bring back ten thousand keys, and nobody should wait behind all of them."""

    NOW = 0
    SOON = 1
    EDITED = 2
    ROUTINE = 3


class QueueObserver(Protocol):
    """What a queue tells its metrics."""

    def added(self) -> None: ...
    def retried(self) -> None: ...
    def depth(self, waiting: int) -> None: ...
    def taken(self, waited: float) -> None: ...
    def finished(self, worked: float) -> None: ...


class SilentObserver:
    """Nobody listens."""

    def added(self) -> None:
        """Ignored."""

    def retried(self) -> None:
        """Ignored."""

    def depth(self, waiting: int) -> None:
        """Ignored."""

    def taken(self, waited: float) -> None:
        """Ignored."""

    def finished(self, worked: float) -> None:
        """Ignored."""


class WorkQueue(Generic[K]):
    """Keys that want a look. Times are those of the event loop, so tests run it on a virtual clock."""

    def __init__(
        self,
        observer: QueueObserver | None = None,
        backoff: Backoff = RETRY,
        rng: Callable[[], float] = random.random,
        lane: Callable[[K], Lane] = lambda key: Lane.ROUTINE,
    ) -> None:
        self._observer = observer or SilentObserver()
        self._backoff = backoff
        self._rng = rng
        self._lane = lane
        self._lanes: tuple[OrderedDict[K, None], ...] = tuple(OrderedDict() for _ in Lane)
        self._waiting: dict[K, tuple[float, Lane]] = {}
        """Since when, and where."""
        self._takes = 0
        self._started_at: dict[K, float] = {}
        self._unhurried: set[K] = set()
        """Those of them that were not urgent, and do not wait for somebody else."""
        self._few: int | None = None
        self._urgent_at = -math.inf
        self._again: set[K] = set()
        self._attempts: dict[K, int] = {}
        self._later: list[tuple[float, int, K]] = []
        self._deadlines: dict[K, float] = {}
        self._order = itertools.count()
        self._wake = asyncio.Event()
        self.open = True
        """Whoever does not work yet takes nothing in: what would wait is out of date by the time it is looked at."""
        self._draining = False
        self._drained = asyncio.Event()

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def idle(self) -> bool:
        """True when nothing waits and nothing is being worked on (delayed keys may still come)."""
        return not self._waiting and not self._started_at

    @property
    def delayed(self) -> int:
        """How many keys wait for their time."""
        return len(self._deadlines)

    def working(self, now: float) -> tuple[float, float]:
        """Seconds of work in progress: of all keys together, and of the longest."""
        ages = [now - started for started in self._started_at.values()]
        return sum(ages), max(ages, default=0.0)

    def add(self, key: K) -> None:
        """Look at `key` soon."""
        if not self.open:
            return
        self._observer.added()
        if key in self._started_at:
            self._again.add(key)
            return
        lane = self._lane(key)
        since, standing = self._waiting.get(key, (_now(), None))
        if standing is not None:
            if standing <= lane:
                return
            del self._lanes[standing][key]
        self._waiting[key] = since, lane
        self._lanes[lane][key] = None
        self._observer.depth(len(self._waiting))
        self._wake.set()

    def add_after(self, key: K, delay: float) -> None:
        """Look at `key` in `delay` seconds, or sooner if an earlier time stands already."""
        if not self.open:
            return
        deadline = _now() + max(0.0, delay)
        standing = self._deadlines.get(key)
        if standing is not None and standing <= deadline:
            return
        self._deadlines[key] = deadline
        heapq.heappush(self._later, (deadline, next(self._order), key))
        if len(self._later) > 2 * len(self._deadlines) + _SLACK:
            self._compact()
        self._wake.set()

    def retry(self, key: K, at_least: float = 0.0) -> float:
        """Look at `key` again after its backoff; the delay is returned."""
        attempt = self._attempts.get(key, 0)
        self._attempts[key] = attempt + 1
        delay = max(at_least, self._backoff.delay(attempt, self._rng))
        self._observer.retried()
        self.add_after(key, delay)
        return delay

    def forget(self, key: K) -> None:
        """The key is well: its next failure starts with the shortest backoff."""
        self._attempts.pop(key, None)

    def drop(self, key: K) -> None:
        """The key's object is gone: no delayed look is wanted any more."""
        self._attempts.pop(key, None)
        self._deadlines.pop(key, None)

    async def get(self) -> K:
        """The next key; `done` must follow."""
        while True:
            self._promote()
            if self._heads() and not self._draining:
                return self._take()
            self._wake.clear()
            await self._sleep()

    def done(self, key: K) -> None:
        """The work on `key` is over."""
        started = self._started_at.pop(key)
        if key in self._unhurried:
            self._unhurried.discard(key)
            self._wake.set()
        self._observer.finished(_now() - started)
        if key in self._again:
            self._again.discard(key)
            self.add(key)
        if not self._started_at:
            self._drained.set()

    async def run(self, handler: Callable[[K], Awaitable[None]], workers: int, few: int | None = None) -> None:
        """Work on keys, at most `workers` at a time, until cancelled; `handler` must not raise.

        While urgent keys come, of the others at most `few` at a time: an urgent one always finds a worker, and an API
        server that is short of CPU has few other writes to make when somebody waits for one. The others lose next to
        nothing, for a few at a time keep it busy.
        """
        self._few = few
        slots = asyncio.Semaphore(workers)
        async with asyncio.TaskGroup() as group:
            while True:
                await slots.acquire()
                key = await self.get()
                group.create_task(self._work(key, handler, slots))

    @contextmanager
    def elsewhere(self, key: K) -> Iterator[None]:
        """While the work on `key` waits for somebody else than the API server: another one may begin instead."""
        counted = key in self._unhurried
        if counted:
            self._unhurried.discard(key)
            self._wake.set()
        try:
            yield
        finally:
            if counted and key in self._started_at:
                self._unhurried.add(key)

    async def drain(self) -> None:
        """Hand out nothing more, and wait until what is being worked on is done."""
        self._draining = True
        while self._started_at:
            self._drained.clear()
            await self._drained.wait()

    async def _work(self, key: K, handler: Callable[[K], Awaitable[None]], slots: asyncio.Semaphore) -> None:
        try:
            await handler(key)
        finally:
            self.done(key)
            slots.release()

    def _take(self) -> K:
        now = _now()
        key = self._next()
        since, lane = self._waiting.pop(key)
        del self._lanes[lane][key]
        if lane is Lane.NOW:
            self._urgent_at = now
        else:
            self._unhurried.add(key)
        self._observer.depth(len(self._waiting))
        self._observer.taken(now - since)
        self._started_at[key] = now
        return key

    def _next(self) -> K:
        """The first of the most urgent, or now and then the one that has waited longest."""
        self._takes += 1
        heads = self._heads()
        return min(heads, key=lambda head: self._waiting[head][0]) if self._takes % FAIR == 0 else heads[0]

    def _heads(self) -> list[K]:
        """The first of each lane from which one may be taken now."""
        held_back = self._few is not None and len(self._unhurried) >= self._few and self._urgent_until() > _now()
        lanes = self._lanes[: Lane.NOW + 1] if held_back else self._lanes
        return [next(iter(lane)) for lane in lanes if lane]

    def _urgent_until(self) -> float:
        """When those that are not urgent need not be held back any more."""
        return self._urgent_at + URGENT_SECONDS

    def _promote(self) -> None:
        """Move the keys whose time has come to the waiting ones."""
        now = _now()
        while self._later and self._later[0][0] <= now:
            deadline, _, key = heapq.heappop(self._later)
            if self._deadlines.get(key) == deadline:
                del self._deadlines[key]
                self.add(key)

    def _compact(self) -> None:
        """Forget entries that were dropped or have an earlier time: the heap stays as large as what it is for."""
        self._later = [entry for entry in self._later if self._deadlines.get(entry[2]) == entry[0]]
        heapq.heapify(self._later)

    async def _sleep(self) -> None:
        """Until a key is added, the next delayed one is due, or those that were held back may go on."""
        times = [self._later[0][0]] if self._later else []
        if self._waiting and not self._draining:
            times.append(self._urgent_until())
        try:
            async with asyncio.timeout_at(min(times, default=None)):
                await self._wake.wait()
        except TimeoutError:
            return


def _now() -> float:
    return asyncio.get_running_loop().time()
