"""The loop that feeds a cache, against clusters that misbehave; waits are told by hand."""

import asyncio
import random
from collections.abc import AsyncGenerator, Mapping
from datetime import UTC, datetime

import pytest

from sightline_kube.cache import Cache, Feed, FollowSettings, Key
from sightline_kube.cluster import Cluster, Obj, WatchEvent
from sightline_kube.errors import ForbiddenError, GoneError, UnavailableError
from sightline_kube.history import WatchLimits
from sightline_kube.kinds import CAMERA, CAMERA_CLASS, POD, Kind
from sightline_kube.memory import MemoryCluster
from tests.helpers.faulty_cluster import Fault, FaultyCluster, first
from tests.helpers.kube_objects import camera, camera_class, labelled


class Waits:
    """A sleep that ends when the test says so."""

    def __init__(self) -> None:
        self.asked: list[float] = []
        self._now = 0.0
        self._pending: list[tuple[float, asyncio.Future[None]]] = []

    async def sleep(self, seconds: float) -> None:
        """Until `pass_` has moved the clock so far."""
        self.asked.append(seconds)
        future = asyncio.get_running_loop().create_future()
        self._pending.append((self._now + seconds, future))
        await future

    async def pass_(self, seconds: float) -> None:
        """Move the clock and let everybody act."""
        self._now += seconds
        due = [future for deadline, future in self._pending if deadline <= self._now and not future.done()]
        self._pending = [(deadline, future) for deadline, future in self._pending if future not in due]
        for future in due:
            future.set_result(None)
        await settle()


class Middle(random.Random):
    """Randomness without surprises: always the middle."""

    def uniform(self, a: float, b: float) -> float:
        return (a + b) / 2


async def settle() -> None:
    """Let every task do what it can without time passing."""
    for _ in range(100):
        await asyncio.sleep(0)


def a_memory(limits: WatchLimits | None = None) -> MemoryCluster:
    return MemoryCluster(clock=lambda: datetime(2026, 1, 1, tzinfo=UTC), limits=limits)


@pytest.fixture
def waits() -> Waits:
    return Waits()


def a_feed(cluster: Cluster, cache: Cache, waits: Waits, *kinds: Kind) -> Feed:
    settings = FollowSettings(
        sweep_seconds=60, backoff_seconds=1, max_backoff_seconds=8, rng=Middle(), sleep=waits.sleep
    )
    return Feed(cluster, cache, kinds or [CAMERA], settings=settings)


def names(cache: Cache) -> list[str]:
    return sorted(obj["metadata"]["name"] for obj in cache.list(CAMERA))


async def test_it_lists_and_follows(waits: Waits) -> None:
    cluster, cache = a_memory(), Cache([CAMERA, CAMERA_CLASS])
    await cluster.create(camera("a"))
    async with a_feed(cluster, cache, waits, CAMERA, CAMERA_CLASS) as feed:
        await settle()
        assert cache.synced()
        assert names(cache) == ["a"]
        await cluster.create(camera("b"))
        await cluster.delete(CAMERA, "default", "a")
        await cluster.create(camera_class("c"))
        await settle()
        assert names(cache) == ["b"]
        assert cache.get(CAMERA_CLASS, "", "c")
        assert (feed.stats[CAMERA].lists, feed.stats[CAMERA].events) == (1, 2)


async def test_what_somebody_has_just_listed_is_not_listed_again(waits: Waits) -> None:
    cluster, cache = a_memory(), Cache([CAMERA])
    await cluster.create(camera("a"))
    listing = await cluster.list(CAMERA)
    cache.resync(CAMERA, listing.items, resource_version=listing.resource_version)
    await cluster.create(camera("b"))
    async with a_feed(cluster, cache, waits) as feed:
        await settle()
        assert names(cache) == ["a", "b"]
        assert (feed.stats[CAMERA].lists, feed.stats[CAMERA].events) == (0, 1)


async def test_it_follows_what_is_selected_and_leaves_sweeps_to_others(waits: Waits) -> None:
    cluster, cache = a_memory(), Cache([CAMERA])
    settings = FollowSettings(sweep_seconds=None, selectors={CAMERA: {"ours": "yes"}}, sleep=waits.sleep)
    await cluster.create(labelled(camera("a"), ours="yes"))
    await cluster.create(camera("b"))
    async with Feed(cluster, cache, [CAMERA], settings=settings) as feed:
        await settle()
        await cluster.create(labelled(camera("c"), ours="yes"))
        await cluster.create(labelled(camera("d"), ours="no"))
        await settle()
        assert names(cache) == ["a", "c"]
        await waits.pass_(1000)
        assert feed.stats[CAMERA].lists == 1


async def test_a_watch_that_ends_is_resumed_without_a_list(waits: Waits) -> None:
    cluster, cache = a_memory(), Cache([CAMERA])
    async with a_feed(cluster, cache, waits) as feed:
        await settle()
        await cluster.create(camera("a"))
        await settle()
        cluster.history.end_watches()
        await cluster.create(camera("b"))
        await settle()
        assert names(cache) == ["a", "b"]
        assert (feed.stats[CAMERA].lists, feed.stats[CAMERA].watches) == (1, 2)


async def test_after_gone_it_lists_again_and_tells_of_deletions(waits: Waits) -> None:
    cluster, cache = a_memory(), Cache([CAMERA])
    await cluster.create(camera("a"))
    faulty = FaultyCluster(cluster, first(None, UnavailableError("no")))
    told: list[tuple[str, bool]] = []
    cache.subscribe(lambda key, _before, now: told.append((key.name, now is not None)))
    async with a_feed(faulty, cache, waits) as feed:
        await settle()
        await cluster.create(camera("b"))
        await cluster.delete(CAMERA, "default", "a")
        cluster.history.forget()
        await waits.pass_(2)
        assert feed.stats[CAMERA].gone == 1
        assert names(cache) == ["a"]  # it waits a little, so that many watchers do not list at once
        await waits.pass_(4)
        assert names(cache) == ["b"]
        assert told == [("a", True), ("b", True), ("a", False)]
        assert feed.stats[CAMERA].ghosts == 1


async def test_a_watch_that_was_too_slow_lists_again(waits: Waits) -> None:
    cluster, cache = a_memory(WatchLimits(queue=2)), Cache([CAMERA])
    async with a_feed(cluster, cache, waits) as feed:
        await settle()
        await asyncio.gather(*(cluster.create(camera(f"c{number}")) for number in range(9)))
        await settle()
        assert cluster.history.overflows == 1
        await waits.pass_(2)
        assert len(names(cache)) == 9
        assert feed.stats[CAMERA].gone == 1


async def test_a_failing_watch_resumes_from_where_it_was(waits: Waits) -> None:
    cluster, cache = a_memory(), Cache([CAMERA])
    faulty = FaultyCluster(cluster, first(None, Fault(UnavailableError("cut"), done=True)))
    async with a_feed(faulty, cache, waits) as feed:
        await settle()
        await cluster.create(camera("a"))
        await settle()
        await cluster.create(camera("b"))
        assert names(cache) == ["a"]
        await waits.pass_(2)
        assert names(cache) == ["a", "b"]
        assert (feed.stats[CAMERA].lists, feed.stats[CAMERA].errors) == (1, 1)


async def test_retry_after_is_honoured(waits: Waits) -> None:
    cluster, cache = a_memory(), Cache([CAMERA])
    faulty = FaultyCluster(cluster, first(UnavailableError("busy", retry_after=17)))
    async with a_feed(faulty, cache, waits):
        await settle()
        await waits.pass_(16.9)
        assert not cache.synced()
        await waits.pass_(0.2)
        assert cache.synced()


@pytest.mark.parametrize("error", [UnavailableError("no"), ForbiddenError("no"), GoneError("no")])
async def test_every_cluster_error_is_waited_out_longer_and_longer(waits: Waits, error: Exception) -> None:
    cluster, cache = a_memory(), Cache([CAMERA])
    assert isinstance(error, UnavailableError | ForbiddenError | GoneError)
    faulty = FaultyCluster(cluster, first(*[error] * 6))
    async with a_feed(faulty, cache, waits):
        await settle()
        for _ in range(6):
            await waits.pass_(9)
        assert cache.synced()
        assert [wait for wait in waits.asked if wait != 60] == [1, 2, 4, 8, 8, 8]


async def test_the_sweep_finds_what_no_event_told(waits: Waits) -> None:
    cluster, cache = a_memory(), Cache([CAMERA])
    async with a_feed(cluster, cache, waits) as feed:
        await settle()
        ghost = {**camera("ghost"), "metadata": {**camera("ghost")["metadata"], "resourceVersion": "3"}}
        cache.observe(CAMERA, None, ghost)
        await cluster.create(labelled(camera("a"), site="north"))
        await settle()
        assert names(cache) == ["a", "ghost"]
        await waits.pass_(61)
        assert names(cache) == ["a"]
        assert feed.stats[CAMERA].ghosts == 1


async def test_a_failing_sweep_is_tried_again_next_time(waits: Waits) -> None:
    cluster, cache = a_memory(), Cache([CAMERA])
    faulty = FaultyCluster(cluster, first(None, None, UnavailableError("no")))
    async with a_feed(faulty, cache, waits) as feed:
        await settle()
        await waits.pass_(61)
        assert (feed.stats[CAMERA].lists, feed.stats[CAMERA].errors) == (1, 1)
        await waits.pass_(61)
        assert feed.stats[CAMERA].lists == 2


async def test_a_stream_that_ends_at_once_is_not_spun(waits: Waits) -> None:
    class Curt(FaultyCluster):
        async def watch(
            self,
            kind: Kind,
            namespace: str | None = None,
            *,
            labels: Mapping[str, str] | None = None,
            resource_version: str,
        ) -> AsyncGenerator[WatchEvent, None]:
            nothing: tuple[WatchEvent, ...] = ()
            for event in nothing:
                yield event

    cluster = Curt(a_memory(), first())
    async with a_feed(cluster, Cache([CAMERA]), waits) as feed:
        await settle()
        assert feed.stats[CAMERA].watches == 1
        await waits.pass_(1)
        assert feed.stats[CAMERA].watches == 2


async def test_namespaces_are_followed_one_by_one(waits: Waits) -> None:
    cluster = a_memory()
    for name in ("one", "two", "three"):
        await cluster.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
        await cluster.create(camera(f"in-{name}", name))
    await cluster.create(camera_class("c"))
    cache = Cache([CAMERA, CAMERA_CLASS], ["one", "two"])
    settings = FollowSettings(sleep=waits.sleep)
    async with Feed(cluster, cache, [CAMERA, CAMERA_CLASS], ["one", "two"], settings):
        await settle()
        assert cache.synced()
        assert names(cache) == ["in-one", "in-two"]
        assert cache.get(CAMERA_CLASS, "", "c")


async def test_a_bug_in_a_subscriber_is_not_swallowed(waits: Waits) -> None:
    cluster, cache = a_memory(), Cache([CAMERA, POD])

    def subscriber(_key: Key, _before: Obj | None, _now: Obj | None) -> None:
        raise ZeroDivisionError

    cache.subscribe(subscriber)
    feed = a_feed(cluster, cache, waits, CAMERA, POD)
    feed.start()
    await settle()
    await cluster.create(camera("a"))
    with pytest.RaisesGroup(ZeroDivisionError):
        await feed.wait()
    await feed.stop()


async def test_stop_leaves_nothing_running(waits: Waits) -> None:
    cluster, cache = a_memory(), Cache([CAMERA, POD])
    before = asyncio.all_tasks()
    feed = a_feed(cluster, cache, waits, CAMERA, POD)
    feed.start()
    await settle()
    assert cluster.history.watches == 2
    await feed.stop()
    assert asyncio.all_tasks() == before
    assert cluster.history.watches == 0
