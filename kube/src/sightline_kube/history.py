"""What changed, for the watches of the in-memory cluster: a bounded history per kind and a bounded queue per watch.

Both bounds end in `GoneError`, as on a real API server whose watch cache has moved on: the reader lists again.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass

from sightline_kube.cluster import EventType, Obj, WatchEvent
from sightline_kube.errors import GoneError, UnavailableError
from sightline_kube.kinds import Kind
from sightline_kube.objects import labels_match, namespace_of


@dataclass(frozen=True, slots=True)
class WatchLimits:
    """Events remembered per kind, and events that may wait for one slow watch."""

    history: int = 2048
    queue: int = 1024


@dataclass(frozen=True, slots=True)
class Change:
    """One write: the object before it and after it (None: absent), and its last state for a deletion."""

    version: int
    before: Obj | None
    after: Obj | None
    last: Obj


@dataclass(frozen=True, slots=True)
class Selection:
    """What a watch wants to see."""

    namespace: str | None
    labels: Mapping[str, str] | None

    def includes(self, obj: Obj | None) -> bool:
        """Whether the object, if there is one, is selected."""
        if obj is None or (self.namespace and namespace_of(obj) != self.namespace):
            return False
        return labels_match(obj, self.labels)

    def event(self, change: Change) -> WatchEvent | None:
        """What this selection sees of a change: an object that gets the label appears, one that loses it is deleted."""
        was, now = self.includes(change.before), self.includes(change.after)
        if now:
            return WatchEvent(EventType.MODIFIED if was else EventType.ADDED, change.last)
        return WatchEvent(EventType.DELETED, change.last) if was else None


class _Watch:
    """One reader: events that wait for it, and how it ends."""

    def __init__(self, kind: Kind, selection: Selection, room: int) -> None:
        self.kind = kind
        self.selection = selection
        self.room = room
        self.waiting: deque[WatchEvent] = deque()
        self.wake = asyncio.Event()
        self.ended = False
        self.overflowed = False


class History:
    """All changes, newest last, and the watches that follow them."""

    def __init__(self, limits: WatchLimits) -> None:
        self._limits = limits
        self._changes: dict[Kind, deque[Change]] = {}
        self._floor: dict[Kind, int] = {}  # version of the newest change that was forgotten
        self._watches: set[_Watch] = set()
        self.overflows = 0
        """Watches that were ended because their reader was too slow."""

    @property
    def watches(self) -> int:
        """Watches that are open now."""
        return len(self._watches)

    def record(self, kind: Kind, change: Change) -> None:
        """Remember a change and hand it to the watches that select it."""
        changes = self._changes.setdefault(kind, deque())
        changes.append(change)
        if len(changes) > self._limits.history:
            self._floor[kind] = changes.popleft().version
        for watch in [watch for watch in self._watches if watch.kind == kind]:
            self._offer(watch, change)

    def forget(self) -> None:
        """Drop all that is remembered, as compaction does: a watch from an older version gets GoneError."""
        for kind, changes in self._changes.items():
            if changes:
                self._floor[kind] = changes[-1].version
                changes.clear()

    def end_watches(self) -> None:
        """End every open watch in the normal way."""
        for watch in list(self._watches):
            self._end(watch)

    async def follow(
        self, kind: Kind, selection: Selection, since: int, current: int
    ) -> AsyncGenerator[WatchEvent, None]:
        """Everything after version `since`, then what happens."""
        if since > current:
            raise UnavailableError(f"too large resource version: {since}, current: {current}", retry_after=1)
        if since < self._floor.get(kind, 0):
            raise GoneError(f"too old resource version: {since} ({self._floor[kind]})")
        watch = _Watch(kind, selection, self._limits.queue)
        for change in self._changes.get(kind, ()):
            event = selection.event(change) if change.version > since else None
            if event:
                watch.waiting.append(event)
        watch.room += len(watch.waiting)  # nobody was slow yet
        self._watches.add(watch)
        try:
            while True:
                while watch.waiting:
                    yield watch.waiting.popleft()
                if watch.overflowed:
                    raise GoneError(f"the watch was too slow: more than {watch.room} events waited")
                if watch.ended:
                    return
                watch.wake.clear()
                await watch.wake.wait()
        finally:
            self._watches.discard(watch)

    def _offer(self, watch: _Watch, change: Change) -> None:
        event = watch.selection.event(change)
        if event is None:
            return
        if len(watch.waiting) >= watch.room:
            watch.overflowed = True
            self.overflows += 1
            self._end(watch)
            return
        watch.waiting.append(event)
        watch.wake.set()

    def _end(self, watch: _Watch) -> None:
        watch.ended = True
        watch.wake.set()
        self._watches.discard(watch)
