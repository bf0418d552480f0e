"""What MemoryCluster promises beyond the contract: invariants under any history, bounds, and its own levers."""

import asyncio
import random
from collections.abc import Mapping
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sightline_kube.cluster import EventType, Obj
from sightline_kube.errors import ClusterError, ConflictError, GoneError, InvalidError, UnavailableError
from sightline_kube.history import WatchLimits
from sightline_kube.kinds import CAMERA, SECRET
from sightline_kube.memory import MemoryCluster
from tests.helpers.kube_objects import camera, labelled, owned_by, secret

SITES = st.sampled_from(["north", "south"])
NAMES = st.sampled_from(["a", "b", "c"])
STEPS = st.one_of(
    st.tuples(st.just("create"), NAMES, SITES),
    st.tuples(st.just("apply"), NAMES, SITES),
    st.tuples(st.just("label"), NAMES, SITES),
    st.tuples(st.just("status"), NAMES, SITES),
    st.tuples(st.just("delete"), NAMES, SITES),
)


def a_cluster(limits: WatchLimits | None = None) -> MemoryCluster:
    return MemoryCluster(clock=lambda: datetime(2026, 1, 1, tzinfo=UTC), rng=random.Random(7), limits=limits)


async def step(cluster: MemoryCluster, verb: str, name: str, site: str) -> None:
    """One change; what is refused is no change."""
    obj = labelled(camera(name), site=site)
    try:
        match verb:
            case "create":
                await cluster.create(obj)
            case "apply":
                await cluster.apply(obj, field_manager="test")
            case "label":
                await cluster.merge_patch(CAMERA, "default", name, {"metadata": {"labels": {"site": site}}})
            case "status":
                found = await cluster.get(CAMERA, "default", name)
                await cluster.replace_status(found | {"status": found["status"] | {"viewers": len(site)}})
            case "delete":
                await cluster.delete(CAMERA, "default", name)
    except ClusterError:
        pass


async def replayed(cluster: MemoryCluster, labels: Mapping[str, str] | None) -> tuple[dict[str, Obj], list[int]]:
    """The objects that a watch from the beginning leads to, and the versions of its events."""
    objects: dict[str, Obj] = {}
    versions = []
    stream = cluster.watch(CAMERA, labels=labels, resource_version="0")
    first = asyncio.ensure_future(anext(stream, None))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    cluster.history.end_watches()
    event = await first
    while event:
        name = event.obj["metadata"]["name"]
        versions.append(int(event.obj["metadata"]["resourceVersion"]))
        assert (event.type == EventType.ADDED) == (name not in objects)
        if event.type == EventType.DELETED:
            del objects[name]
        else:
            objects[name] = event.obj
        event = await anext(stream, None)
    return objects, versions


@settings(max_examples=60)
@given(st.lists(STEPS, max_size=25), st.none() | SITES)
def test_a_watch_leads_to_what_a_list_says(steps: list[tuple[str, str, str]], site: str | None) -> None:
    async def run() -> None:
        cluster = a_cluster()
        labels = {"site": site} if site else None
        for each in steps:
            await step(cluster, *each)
        objects, versions = await replayed(cluster, labels)
        listing = await cluster.list(CAMERA, labels=labels)
        assert objects == {item["metadata"]["name"]: item for item in listing.items}
        assert versions == sorted(set(versions))
        assert all(version <= int(listing.resource_version) for version in versions)

    asyncio.run(run())


@settings(max_examples=40)
@given(st.lists(STEPS, max_size=25))
def test_versions_only_grow_and_move_with_content_only(steps: list[tuple[str, str, str]]) -> None:
    def content(items: list[Obj]) -> list[Any]:
        return [{**i, "metadata": {**i["metadata"], "resourceVersion": ""}} for i in items]

    async def run() -> None:
        cluster = a_cluster()
        before = await cluster.list(CAMERA)
        for each in steps:
            await step(cluster, *each)
            after = await cluster.list(CAMERA)
            moved = int(after.resource_version) - int(before.resource_version)
            assert moved >= 0
            if moved == 0:
                assert after.items == before.items
            elif each[0] != "apply":  # an apply may move ownership alone
                assert content(after.items) != content(before.items)
            before = after

    asyncio.run(run())


async def test_what_is_handed_out_can_be_spoilt() -> None:
    cluster = a_cluster()
    given_ = camera("a")
    made = await cluster.create(given_)
    given_["spec"]["source"] = made["spec"]["source"] = None
    (await cluster.get(CAMERA, "default", "a"))["metadata"]["labels"] = {"x": "y"}
    found = await cluster.get(CAMERA, "default", "a")
    assert found["spec"]["source"]["testPattern"]
    assert "labels" not in found["metadata"]


async def test_history_is_bounded() -> None:
    cluster = a_cluster(WatchLimits(history=3))
    since = [(await cluster.create(camera(name)))["metadata"]["resourceVersion"] for name in "abcde"]
    with pytest.raises(GoneError):
        await anext(cluster.watch(CAMERA, resource_version=since[0]))
    stream = cluster.watch(CAMERA, resource_version=since[1])
    async with aclosing(stream):
        assert [(await anext(stream)).obj["metadata"]["name"] for _ in range(3)] == ["c", "d", "e"]
    # Other kinds have a history of their own.
    stream = cluster.watch(SECRET, resource_version="0")
    async with aclosing(stream):
        await cluster.create(secret("s"))
        assert (await anext(stream)).obj["kind"] == "Secret"


async def test_a_slow_watch_is_ended_and_counted() -> None:
    cluster = a_cluster(WatchLimits(queue=2))
    stream = cluster.watch(CAMERA, resource_version="0")
    await cluster.create(camera("a"))
    assert (await anext(stream)).obj["metadata"]["name"] == "a"
    for name in "bcdef":
        await cluster.create(camera(name))
    assert [(await anext(stream)).obj["metadata"]["name"] for _ in range(3)] == ["b", "c", "d"]
    with pytest.raises(GoneError):
        await anext(stream)
    assert cluster.history.overflows == 1
    assert cluster.history.watches == 0


async def test_a_watch_from_the_future_is_refused() -> None:
    with pytest.raises(UnavailableError):
        await anext(a_cluster().watch(CAMERA, resource_version="1000"))
    with pytest.raises(InvalidError):
        await anext(a_cluster().watch(CAMERA, resource_version="soon"))


async def test_closing_an_iterator_closes_its_watch() -> None:
    cluster = a_cluster()
    await cluster.create(camera("a"))
    stream = cluster.watch(CAMERA, resource_version="0")
    await anext(stream)
    assert cluster.history.watches == 1
    await stream.aclose()
    assert cluster.history.watches == 0


async def test_close_ends_watches_and_refuses_calls() -> None:
    cluster = a_cluster()
    await cluster.create(camera("a"))
    stream = cluster.watch(CAMERA, resource_version="0")
    await anext(stream)
    waiting = asyncio.ensure_future(anext(stream, None))
    await cluster.close()
    with pytest.raises(UnavailableError):
        await cluster.list(CAMERA)
    assert await waiting is None


async def test_the_same_seed_gives_the_same_identities() -> None:
    one, two = [await a_cluster().create(camera("a")) for _ in range(2)]
    assert one == two
    assert one["metadata"]["creationTimestamp"] == "2026-01-01T00:00:00Z"


async def test_garbage_is_collected_after_the_answer() -> None:
    cluster = a_cluster()
    owner = await cluster.create(camera("a"))
    await cluster.create(owned_by(secret("s"), owner))
    await cluster.delete(CAMERA, "default", "a")
    assert await cluster.list(SECRET)  # asked for before the loop came round
    assert (await cluster.list(SECRET)).items == []


async def test_a_new_object_by_the_owner_s_name_is_no_owner() -> None:
    cluster = a_cluster()
    owner = await cluster.create(camera("a"))
    await cluster.delete(CAMERA, "default", "a")
    await cluster.create(camera("a"))
    await cluster.create(owned_by(secret("s"), owner))
    assert (await cluster.list(SECRET)).items == []


async def test_an_adopted_object_survives_its_first_owner() -> None:
    cluster = a_cluster()
    one, two = await cluster.create(camera("a")), await cluster.create(camera("b"))
    await cluster.create(owned_by(secret("s"), one))
    found = await cluster.get(SECRET, "default", "s")
    await cluster.replace(owned_by(found, two))
    await cluster.delete(CAMERA, "default", "a")
    await asyncio.sleep(0)
    assert len((await cluster.list(SECRET)).items) == 1


async def test_concurrent_writers_conflict_and_none_is_lost() -> None:
    cluster = a_cluster()
    await cluster.create(camera("a"))

    async def count() -> int:
        conflicts = 0
        while True:
            found = await cluster.get(CAMERA, "default", "a")
            await asyncio.sleep(0)
            try:
                await cluster.replace_status(
                    found | {"status": found["status"] | {"viewers": found["status"]["viewers"] + 1}}
                )
            except ConflictError:
                conflicts += 1
            else:
                return conflicts

    conflicts = await asyncio.gather(*(count() for _ in range(5)))
    assert (await cluster.get(CAMERA, "default", "a"))["status"]["viewers"] == 5
    assert sum(conflicts) > 0
