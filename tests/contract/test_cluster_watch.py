"""The contract of `sightline_kube.cluster.Cluster`: watches, garbage, and a cache that lives on both."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

import pytest

from sightline_kube.cache import Cache, Feed
from sightline_kube.cluster import EventType, WatchEvent
from sightline_kube.errors import (
    GoneError,
)
from sightline_kube.kinds import CAMERA, CAMERA_CLASS, NAMESPACE, SECRET, STREAM_SESSION
from tests.helpers.kube_objects import camera, camera_class, labelled, owned_by, secret, session
from tests.helpers.kube_worlds import PATIENCE, World, version, wait_for, watching

ABSENT_UID = "00000000-0000-4000-8000-000000000000"


async def drained(stream: AsyncGenerator[WatchEvent, None]) -> None:
    async for _ in stream:
        pass


# Watching


async def test_a_watch_tells_what_happens_after_a_list(world: World) -> None:
    await world.cluster.create(camera("before", world.namespace))
    since = (await world.cluster.list(CAMERA, world.namespace)).resource_version
    made = await world.cluster.create(camera("front", world.namespace))
    changed = await world.cluster.replace(labelled(made, a="b"))
    async with watching(world, CAMERA, since) as next_event:
        assert await next_event() == WatchEvent(EventType.ADDED, made)
        assert await next_event() == WatchEvent(EventType.MODIFIED, changed)
        await world.cluster.delete(CAMERA, world.namespace, "front")  # while it is open
        deleted = await next_event()
        assert deleted.type == EventType.DELETED
        assert deleted.obj["metadata"]["labels"] == {"a": "b"}
        assert int(version(deleted.obj)) > int(version(changed))


async def test_a_watch_resumes_without_loss_or_repetition(world: World) -> None:
    since = (await world.cluster.list(CAMERA, world.namespace)).resource_version
    for name in ("a", "b", "c"):
        await world.cluster.create(camera(name, world.namespace))
    async with watching(world, CAMERA, since) as next_event:
        first = (await next_event()).obj
    async with watching(world, CAMERA, version(first)) as next_event:
        assert [(await next_event()).obj["metadata"]["name"] for _ in range(2)] == ["b", "c"]


async def test_an_object_enters_and_leaves_a_watch_by_its_labels(world: World) -> None:
    made = await world.cluster.create(camera("front", world.namespace))
    async with watching(world, CAMERA, version(made), site="north") as next_event:
        inside = await world.cluster.replace(labelled(made, site="north"))
        outside = await world.cluster.replace(labelled(inside, site="south"))
        assert await next_event() == WatchEvent(EventType.ADDED, inside)
        gone = await next_event()
        assert gone.type == EventType.DELETED
        assert version(gone.obj) == version(outside)
        await world.cluster.delete(CAMERA, world.namespace, "front")
        await world.cluster.create(labelled(camera("other", world.namespace), site="north"))
        assert (await next_event()).obj["metadata"]["name"] == "other"


async def test_a_watch_is_of_one_namespace_and_one_kind(world: World) -> None:
    since = (await world.cluster.list(CAMERA, world.namespace)).resource_version
    await world.cluster.create(secret("login", world.namespace))
    elsewhere = await world.cluster.create(camera(f"in-{world.namespace}", "kube-system"))
    await world.cluster.delete(CAMERA, "kube-system", elsewhere["metadata"]["name"])
    await world.cluster.create(camera("front", world.namespace))
    async with watching(world, CAMERA, since) as next_event:
        assert (await next_event()).obj["metadata"]["name"] == "front"


async def test_a_watch_of_all_namespaces(world: World) -> None:
    since = (await world.cluster.list(CAMERA)).resource_version
    await world.cluster.create(camera("front", world.namespace))
    stream = world.cluster.watch(CAMERA, resource_version=since)
    async with aclosing(stream), asyncio.timeout(PATIENCE):
        assert (await anext(stream)).obj["metadata"]["namespace"] == world.namespace


async def test_a_watch_from_too_long_ago_is_gone(world: World) -> None:
    made = await world.cluster.create(camera("front", world.namespace))
    await world.cluster.delete(CAMERA, world.namespace, "front")
    world.forget()
    assert int(version(made)) > 1
    async with asyncio.timeout(PATIENCE):
        with pytest.raises(GoneError):
            await drained(world.cluster.watch(CAMERA, resource_version="1"))


async def test_status_changes_are_watched(world: World) -> None:
    made = await world.cluster.create(camera("front", world.namespace))
    changed = await world.cluster.replace_status(made | {"status": made["status"] | {"viewers": 3}})
    async with watching(world, CAMERA, version(made)) as next_event:
        assert await next_event() == WatchEvent(EventType.MODIFIED, changed)


# Garbage


async def test_what_is_owned_goes_with_its_owner(world: World) -> None:
    owner = await world.cluster.create(camera("front", world.namespace))
    other = await world.cluster.create(camera("back", world.namespace))
    await world.cluster.create(owned_by(session("s-1", world.namespace), owner))
    await world.cluster.create(owned_by(secret("a", world.namespace), owner))
    await world.cluster.create(owned_by(secret("b", world.namespace), other))
    await world.cluster.create(owned_by(secret("c", world.namespace), owner, other))
    await world.cluster.create(secret("d", world.namespace))
    await world.cluster.delete(CAMERA, world.namespace, "front")
    await wait_for(world, STREAM_SESSION, lambda items: not items)
    left = await wait_for(world, SECRET, lambda items: "a" not in {i["metadata"]["name"] for i in items})
    assert {item["metadata"]["name"] for item in left} >= {"b", "c", "d"}


async def test_a_cluster_scoped_owner_owns_too(world: World) -> None:
    name = f"class-{world.namespace}"
    owner = await world.cluster.create(camera_class(name))
    await world.cluster.create(owned_by(camera("front", world.namespace), owner))
    await world.cluster.delete(CAMERA_CLASS, None, name)
    await wait_for(world, CAMERA, lambda items: not items)


async def test_chains_of_owners_go_whole(world: World) -> None:
    first = await world.cluster.create(camera("front", world.namespace))
    second = await world.cluster.create(owned_by(session("s-1", world.namespace), first))
    await world.cluster.create(owned_by(secret("key", world.namespace), second))
    await world.cluster.delete(CAMERA, world.namespace, "front")
    await wait_for(world, SECRET, lambda items: "key" not in {i["metadata"]["name"] for i in items})


async def test_what_names_an_owner_that_never_was_goes(world: World) -> None:
    owner = await world.cluster.create(camera("front", world.namespace))
    ghost = {**owner, "metadata": {**owner["metadata"], "name": "never", "uid": ABSENT_UID}}
    await world.cluster.create(owned_by(session("s-1", world.namespace), ghost))
    await wait_for(world, STREAM_SESSION, lambda items: not items)


async def test_a_namespace_takes_its_content_along(world: World) -> None:
    await world.cluster.create(camera("front", world.namespace))
    since = (await world.cluster.list(NAMESPACE)).resource_version
    await world.cluster.delete(NAMESPACE, None, world.namespace)
    async with watching(world, NAMESPACE, since) as next_event:
        while (event := await next_event()).type != EventType.DELETED:
            assert event.obj["status"]["phase"] in ("Active", "Terminating")
    assert (await world.cluster.list(CAMERA, world.namespace)).items == []


# A cache


async def test_a_cache_follows(world: World) -> None:
    await world.cluster.create(camera("before", world.namespace))
    cache = Cache([CAMERA, SECRET], [world.namespace])
    changed = asyncio.Event()
    cache.subscribe(lambda _key, _before, _now: changed.set())

    async def until(expected: set[str]) -> None:
        async with asyncio.timeout(PATIENCE):
            while {obj["metadata"]["name"] for obj in cache.list(CAMERA, world.namespace)} != expected:
                changed.clear()
                await changed.wait()

    async with Feed(world.cluster, cache, [CAMERA, SECRET], [world.namespace]):
        await until({"before"})
        made = [await world.cluster.create(camera(f"c{number}", world.namespace)) for number in range(20)]
        await until({"before", *(obj["metadata"]["name"] for obj in made)})
        for obj in made:
            await world.cluster.delete(CAMERA, world.namespace, obj["metadata"]["name"])
        await until({"before"})
