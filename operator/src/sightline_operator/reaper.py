"""Deletes ended sessions when their retention is over: one heap, one task, no timer per object.

A session that somebody changed or replaced meanwhile is left to its next look: deletions carry the uid that was seen.
After an outage of the operator many are due at once, so only a few deletions are under way at a time.
"""

import asyncio
import heapq
import logging
from datetime import datetime

from sightline_kube.cluster import Cluster, Preconditions
from sightline_kube.errors import ClusterError, ConflictError, NotFoundError
from sightline_kube.kinds import STREAM_SESSION
from sightline_operator.clock import Clock, after, seconds_until

log = logging.getLogger(__name__)

AT_A_TIME = 16
TRY_AGAIN_SECONDS = 5.0

SessionKey = tuple[str, str]
"""Namespace and name."""


class Reaper:
    """Knows when each ended session is to go."""

    def __init__(self, cluster: Cluster, clock: Clock) -> None:
        self._cluster = cluster
        self._clock = clock
        self._heap: list[tuple[datetime, SessionKey, str]] = []
        self._due: dict[SessionKey, tuple[datetime, str]] = {}
        self._taken: dict[SessionKey, str] = {}  # being deleted, or deleted and not yet seen to be gone
        self._wake = asyncio.Event()
        self.deleted = 0

    def __len__(self) -> int:
        return len(self._due)

    def schedule(self, key: SessionKey, uid: str, at: datetime) -> None:
        """Delete the session at that time; a later call for it replaces this one."""
        if self._due.get(key) == (at, uid) or self._taken.get(key) == uid:
            return
        self._due[key] = (at, uid)
        heapq.heappush(self._heap, (at, key, uid))
        self._wake.set()

    def forget(self, key: SessionKey) -> None:
        """The session is gone already."""
        self._due.pop(key, None)
        self._taken.pop(key, None)

    async def run(self) -> None:
        """Delete what is due until cancelled."""
        slots = asyncio.Semaphore(AT_A_TIME)
        async with asyncio.TaskGroup() as group:
            while True:
                await slots.acquire()
                key, uid = await self._next()
                deletion = group.create_task(self._delete(key, uid))
                deletion.add_done_callback(lambda _: slots.release())

    async def _next(self) -> tuple[SessionKey, str]:
        """Wait for one that is due."""
        while True:
            self._wake.clear()
            found = self._take()
            if found is not None:
                return found
            try:
                async with asyncio.timeout(self._next_wait()):
                    await self._wake.wait()
            except TimeoutError:
                continue

    def _next_wait(self) -> float | None:
        return seconds_until(self._heap[0][0], self._clock()) if self._heap else None

    def _take(self) -> tuple[SessionKey, str] | None:
        """The next one if it is due; entries that were replaced or forgotten are dropped on the way."""
        now = self._clock()
        while self._heap:
            at, key, uid = self._heap[0]
            if self._due.get(key) != (at, uid):
                heapq.heappop(self._heap)
            elif at <= now:
                heapq.heappop(self._heap)
                del self._due[key]
                self._taken[key] = uid
                return key, uid
            else:
                break
        return None

    async def _delete(self, key: SessionKey, uid: str) -> None:
        namespace, name = key
        try:
            await self._cluster.delete(STREAM_SESSION, namespace, name, preconditions=Preconditions(uid=uid))
            self.deleted += 1
        except (NotFoundError, ConflictError):
            self._taken.pop(key, None)  # whatever is there now is left to its next look
        except ClusterError as error:
            log.warning("session %s/%s cannot be deleted yet: %s", namespace, name, error)
            self._taken.pop(key, None)
            self.schedule(key, uid, after(self._clock(), TRY_AGAIN_SECONDS))
