"""A store of objects kept up to date by events, and the list-watch-sweep loop that feeds it.

`Feed` feeds it; in the operator for the most part, the rest comes from kopf's handlers. A cache tells its subscribers
which key changed, never how: whoever listens looks again (level-triggered). Deletions that a broken watch swallowed are
found by the sweep (`resync`): a LIST each minute, objects that are gone are dropped and told.
"""

import asyncio
import logging
import random
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from sightline_kube.cluster import Cluster, EventType, Obj
from sightline_kube.errors import ClusterError, GoneError, UnavailableError
from sightline_kube.kinds import Kind, kind_of
from sightline_kube.objects import labels_match, name_of, namespace_of, version_of
from sightline_kube.shelf import Shelf
from sightline_kube.words import Words
from sightline_model.names import CAMERA_LABEL

log = logging.getLogger(__name__)

_SHORT_WATCH_SECONDS = 1
_NOW = 2**63  # of a LIST without a version: newer than everything that is known


@dataclass(frozen=True, slots=True)
class Key:
    """One object; `namespace` is empty for cluster-scoped kinds."""

    kind: Kind
    namespace: str
    name: str


Subscriber = Callable[[Key, Obj | None, Obj | None], None]
"""Called with the key, the object before and the object now (None: absent). Must not block."""


class Cache:
    """Objects by key. Look-ups by label scan one namespace, or one index entry for the labels in `indexed`.

    `namespaces` are those that the cache is fed from; none: all. Objects are held without `metadata.managedFields`, and
    Nodes without their long list of images.
    """

    def __init__(
        self,
        kinds: Iterable[Kind],
        namespaces: Iterable[str] | None = None,
        *,
        indexed: Iterable[str] = (CAMERA_LABEL,),
    ) -> None:
        self._shelves = {kind: Shelf(frozenset(indexed)) for kind in kinds}
        self._scopes: frozenset[str | None] = frozenset(namespaces or ()) or frozenset([None])
        self._listed: set[tuple[Kind, str | None]] = set()
        self._subscribers: list[Subscriber] = []
        self._words = Words()

    def subscribe(self, subscriber: Subscriber) -> None:
        """Tell `subscriber` of every change from now on."""
        self._subscribers.append(subscriber)

    def synced(self) -> bool:
        """True once every kind has been listed at least once, in every namespace."""
        return all(
            (kind, None) in self._listed or all((kind, scope) in self._listed for scope in self._scopes)
            for kind in self._shelves
        )

    def listed(self, kind: Kind, namespace: str | None = None) -> bool:
        """True once the kind has been listed in that namespace, or in all where it is None."""
        return (kind, namespace) in self._listed

    def version(self, kind: Kind, namespace: str | None = None) -> str | None:
        """The version of the last LIST of the kind there, from which a watch may go on; None before there was one."""
        floor = self._shelves[kind].floors.get(namespace)
        return None if floor is None else str(floor)

    def get(self, kind: Kind, namespace: str, name: str) -> Obj | None:
        """The object as it was last seen."""
        return self._shelves[kind].get(namespace, name)

    def list(self, kind: Kind, namespace: str | None = None, labels: Mapping[str, str] | None = None) -> list[Obj]:
        """The objects in one namespace or in all, with all of these labels; in no particular order."""
        shelf = self._shelves[kind]
        return [obj for obj in shelf.candidates(namespace, labels) if labels_match(obj, labels)]

    def kept(self, obj: Obj) -> Obj:
        """The object as it is held here, or would be: of a LIST most are known, and what they take can go at once."""
        shelf = self._shelves.get(kind_of(obj))
        known = shelf.get(namespace_of(obj), name_of(obj)) if shelf else None
        if known is not None and version_of(known) == version_of(obj):
            return known
        return _Kept(self._words.shared(slim(obj)))

    def observe(self, kind: Kind, type_: EventType | None, obj: Obj) -> None:
        """Take one event; `None` (a listed object) means that it exists. Older resourceVersions are ignored."""
        shelf = self._shelves[kind]
        namespace, name, version = namespace_of(obj), name_of(obj), version_of(obj)
        before = shelf.get(namespace, name)
        # A deletion may carry the version of the last state, so for what is there the same version counts.
        if before is not None:
            stale = version < version_of(before) or (version == version_of(before) and type_ != EventType.DELETED)
        else:
            stale = version <= shelf.gone_until(namespace, name)
        if version and stale:
            return
        if type_ != EventType.DELETED:
            self._put(kind, before, obj)
            return
        shelf.bury(namespace, name, version)
        if before is not None:
            self._drop(kind, before)

    def resync(
        self,
        kind: Kind,
        items: Iterable[Obj],
        *,
        resource_version: str | None = None,
        namespace: str | None = None,
    ) -> int:
        """Take a full LIST: add, update, and drop what is not in it. Answers with how many were dropped.

        With the list's `resource_version` it is known what is newer than the LIST: objects that were made while it was
        under way are kept, and those that were deleted meanwhile do not come back. `namespace` is the one that was
        listed; None: all.
        """
        shelf = self._shelves[kind]
        listed_at = int(resource_version) if resource_version else _NOW
        if listed_at < shelf.listed_at(namespace):
            return 0  # a newer list was faster
        present = set()
        for item in items:
            place = (namespace_of(item), name_of(item))
            present.add(place)
            before = shelf.get(*place)
            newer = before is None or version_of(item) > version_of(before)
            if newer and shelf.tombstones.get(place, 0) <= listed_at:  # what the list says is truer than a tombstone
                self._put(kind, before, item)
        gone = [
            obj
            for obj in shelf.candidates(namespace, None)
            if (namespace_of(obj), name_of(obj)) not in present and version_of(obj) <= listed_at
        ]
        for obj in gone:
            shelf.bury(namespace_of(obj), name_of(obj), version_of(obj))
            self._drop(kind, obj)
        if listed_at != _NOW:
            shelf.floors[namespace] = listed_at
        self._listed.add((kind, namespace))
        return len(gone)

    def _put(self, kind: Kind, before: Obj | None, obj: Obj) -> None:
        now: Obj = self._words.shared(slim(obj))
        self._shelves[kind].put(now, before)
        self._tell(kind, before, now)

    def _drop(self, kind: Kind, obj: Obj) -> None:
        self._shelves[kind].drop(obj)
        self._tell(kind, obj, None)

    def _tell(self, kind: Kind, before: Obj | None, now: Obj | None) -> None:
        known: Obj = now or before or {}
        key = Key(kind, namespace_of(known), name_of(known))
        for subscriber in self._subscribers:
            subscriber(key, before, now)


class _Kept(Obj):
    """An object that is as caches hold it: nothing of it is shared a second time when it comes with its list, all
    objects of which are taken in at once."""

    __slots__ = ()


def slim(obj: Obj) -> Obj:
    """The object without what is large and nobody here asks for."""
    metadata, status = obj["metadata"], obj.get("status") or {}
    if "nodeInfo" in status:
        obj = {**obj, "status": {key: value for key, value in status.items() if key != "images"}}
    if "managedFields" not in metadata:
        return obj
    return {**obj, "metadata": {key: value for key, value in metadata.items() if key != "managedFields"}}


@dataclass(frozen=True, slots=True)
class FollowSettings:
    """How patient a feed is. Every wait is drawn between half and one and a half times its value."""

    sweep_seconds: float | None = 60
    """None: somebody else sweeps."""
    backoff_seconds: float = 0.5
    max_backoff_seconds: float = 30
    selectors: Mapping[Kind, Mapping[str, str]] = field(default_factory=dict)
    """Labels that objects of a kind must have; without an entry all are followed."""
    rng: random.Random = field(default_factory=random.SystemRandom)
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep


@dataclass(slots=True)
class FeedStats:
    """What happened so far, for metrics."""

    lists: int = 0
    watches: int = 0
    events: int = 0
    gone: int = 0
    """Watches that were too old or too slow and made a LIST necessary."""
    errors: int = 0
    ghosts: int = 0
    """Objects whose deletion only a LIST showed."""


async def follow(
    cluster: Cluster,
    cache: Cache,
    kind: Kind,
    namespaces: Sequence[str] | None = None,
    *,
    settings: FollowSettings | None = None,
    stats: FeedStats | None = None,
) -> None:
    """Keep one kind of a cache up to date until cancelled. ClusterErrors are waited out; any other error ends it."""
    settings, stats = settings or FollowSettings(), stats or FeedStats()
    async with asyncio.TaskGroup() as group:
        for namespace in namespaces if namespaces and kind.namespaced else [None]:
            follower = _Follower(cluster, cache, kind, namespace, settings, stats)
            group.create_task(follower.watch(), name=f"watch-{kind.plural}-{namespace or 'all'}")
            if settings.sweep_seconds is not None:
                sweeping = follower.sweep(settings.sweep_seconds)
                group.create_task(sweeping, name=f"sweep-{kind.plural}-{namespace or 'all'}")


class _Follower:
    """The watch and the sweep of one kind in one namespace or in all."""

    def __init__(
        self,
        cluster: Cluster,
        cache: Cache,
        kind: Kind,
        namespace: str | None,
        settings: FollowSettings,
        stats: FeedStats,
    ) -> None:
        self._cluster = cluster
        self._cache = cache
        self._kind = kind
        self._namespace = namespace
        self._settings = settings
        self._labels = settings.selectors.get(kind)
        self._stats = stats
        self._failures = 0
        self._attempted_at = 0.0

    async def watch(self) -> None:
        """List, unless somebody has just done so; then watch and watch again from where the last one ended, and list
        again when that is too old."""
        since = self._cache.version(self._kind, self._namespace)
        while True:
            self._attempted_at = asyncio.get_running_loop().time()
            try:
                if since is None:
                    since = await self._list()
                async for version in self._versions(since):
                    since = version
                    self._failures = 0
            except GoneError:
                self._stats.gone += 1
                since = None
                await self._back_off(None)
            except ClusterError as error:
                self._stats.errors += 1
                log.warning("watching %s: %s", self._kind.plural, error)
                await self._back_off(error.retry_after if isinstance(error, UnavailableError) else None)

    async def sweep(self, interval: float) -> None:
        """List now and then, for deletions that no watch told."""
        while True:
            await self._pause(interval)
            try:
                await self._list()
            except ClusterError as error:
                self._stats.errors += 1
                log.warning("sweeping %s: %s", self._kind.plural, error)

    async def _list(self) -> str:
        listing = await self._cluster.list(self._kind, self._namespace, labels=self._labels)
        self._stats.lists += 1
        known = self._cache.listed(self._kind, self._namespace)
        dropped = self._cache.resync(
            self._kind,
            listing.items,
            resource_version=listing.resource_version,
            namespace=self._namespace,
        )
        self._stats.ghosts += dropped if known else 0
        return listing.resource_version

    async def _versions(self, since: str) -> AsyncGenerator[str, None]:
        """Hand one watch's events to the cache, telling the version of each."""
        self._stats.watches += 1
        quiet = True
        watch = self._cluster.watch(self._kind, self._namespace, labels=self._labels, resource_version=since)
        async with aclosing(watch) as events:
            async for event in events:
                quiet = False
                self._stats.events += 1
                self._cache.observe(self._kind, event.type, event.obj)
                yield str(event.obj["metadata"]["resourceVersion"])
        if quiet and self._lasted() < _SHORT_WATCH_SECONDS:
            await self._back_off(None)  # something between us and the API server ends every stream at once

    async def _back_off(self, at_least: float | None) -> None:
        """Wait longer after each failure in a row; what held for a while was no failure."""
        if self._lasted() > self._settings.max_backoff_seconds:
            self._failures = 0
        wait = min(self._settings.backoff_seconds * 2 ** min(self._failures, 16), self._settings.max_backoff_seconds)
        self._failures += 1
        await self._pause(wait, at_least or 0)

    def _lasted(self) -> float:
        return asyncio.get_running_loop().time() - self._attempted_at

    async def _pause(self, seconds: float, at_least: float = 0) -> None:
        await self._settings.sleep(max(at_least, seconds * self._settings.rng.uniform(0.5, 1.5)))


class Feed:
    """Keeps a cache up to date with `follow`, one task per kind.

    `wait` ends only when a task does, which is a bug: it raises what the task raised. Whoever starts a feed awaits it,
    or has it closed by `async with`.
    """

    def __init__(
        self,
        cluster: Cluster,
        cache: Cache,
        kinds: Iterable[Kind],
        namespaces: Sequence[str] | None = None,
        settings: FollowSettings | None = None,
    ) -> None:
        self._cluster = cluster
        self._cache = cache
        self._kinds = tuple(kinds)
        self._namespaces = namespaces
        self._settings = settings or FollowSettings()
        self._tasks: list[asyncio.Task[None]] = []
        self.stats = {kind: FeedStats() for kind in self._kinds}

    def start(self) -> None:
        """Start to follow; `Cache.synced` tells when the first lists are there."""
        for kind in self._kinds:
            coroutine = follow(
                self._cluster,
                self._cache,
                kind,
                self._namespaces,
                settings=self._settings,
                stats=self.stats[kind],
            )
            task = asyncio.create_task(coroutine, name=f"feed-{kind.plural}")
            task.add_done_callback(_report)
            self._tasks.append(task)

    async def wait(self) -> None:
        """Until a task ends, with its error."""
        if self._tasks:
            done, _ = await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()

    async def stop(self) -> None:
        """End all tasks. Errors were told by `wait` and the log."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()

    async def __aenter__(self) -> Self:
        self.start()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self.stop()


def _report(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and task.exception():
        log.critical("%s has ended", task.get_name(), exc_info=task.exception())
