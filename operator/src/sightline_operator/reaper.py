"""Deletes ended sessions when their retention is over: one heap, one task, no timer per object.

A session that somebody changed or replaced meanwhile is left to its next look: deletions carry the uid that was seen.
After an outage of the operator many are due at once, so deletions go in small groups.
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

GROUP_SIZE = 8
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
        while True:
            self._wake.clear()
            group = self._take()
            if group:
                await asyncio.gather(*(self._delete(key, uid) for key, uid in group))
                continue
            try:
                async with asyncio.timeout(self._next_wait()):
                    await self._wake.wait()
            except TimeoutError:
                continue

    def _next_wait(self) -> float | None:
        return seconds_until(self._heap[0][0], self._clock()) if self._heap else None

    def _take(self) -> list[tuple[SessionKey, str]]:
        """The next few that are due; entries that were replaced or forgotten are dropped on the way."""
        group: list[tuple[SessionKey, str]] = []
        now = self._clock()
        while self._heap and len(group) < GROUP_SIZE:
            at, key, uid = self._heap[0]
            if self._due.get(key) != (at, uid):
                heapq.heappop(self._heap)
            elif at <= now:
                heapq.heappop(self._heap)
                del self._due[key]
                self._taken[key] = uid
                group.append((key, uid))
            else:
                break
        return group

    async def _delete(self, key: SessionKey, uid: str) -> None:
        namespace, name = key
        try:
            await self._cluster.delete(STREAM_SESSION, namespace, name, preconditions=Preconditions(uid=uid))
            self.deleted += 1
        except (NotFoundError, ConflictError):
            return
        except ClusterError as error:
            log.warning("session %s/%s cannot be deleted yet: %s", namespace, name, error)
            self._taken.pop(key, None)
            self.schedule(key, uid, after(self._clock(), TRY_AGAIN_SECONDS))
