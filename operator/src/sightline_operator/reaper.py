"""Deletes ended sessions when their retention is over: one heap, one task, no timer per object.

A session that somebody changed or replaced meanwhile is left to its next look: deletions carry the uid that was seen.
Nobody waits for a deletion, and others wait for the API server: few are under way at a time, more only when that is not
enough to keep up, as after an outage of the operator.
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

CALMLY, AT_A_TIME = 2, 16
"""So many deletions under way while they are made in time, and so many at most."""
LATE_SECONDS = 5.0
"""One more for each time so long that the next one is late: an API server without a core to spare makes all of them
late, and sixteen at once would be most of what it works on."""
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
        self._under_way = 0
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
        async with asyncio.TaskGroup() as group:
            while True:
                key, uid = await self._next()
                self._under_way += 1
                group.create_task(self._delete(key, uid))

    async def _next(self) -> tuple[SessionKey, str]:
        """Wait for one whose turn has come."""
        while True:
            self._wake.clear()
            self._tidy()
            wait = self._wait()
            if wait == 0:
                _, key, uid = heapq.heappop(self._heap)
                del self._due[key]
                self._taken[key] = uid
                return key, uid
            try:
                async with asyncio.timeout(wait):
                    await self._wake.wait()
            except TimeoutError:
                continue

    def _wait(self) -> float | None:
        """Seconds until the next one may go; None for as long as nothing changes."""
        if not self._heap or self._under_way >= AT_A_TIME:
            return None
        late = LATE_SECONDS * max(0, self._under_way + 1 - CALMLY)
        return seconds_until(after(self._heap[0][0], late), self._clock())

    def _tidy(self) -> None:
        """Drop entries at the front that were replaced or forgotten."""
        while self._heap and self._due.get(self._heap[0][1]) != (self._heap[0][0], self._heap[0][2]):
            heapq.heappop(self._heap)

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
        finally:
            self._under_way -= 1
            self._wake.set()
