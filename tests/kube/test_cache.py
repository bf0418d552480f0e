"""The cache holds what lists and watches tell, in whichever order and however often they tell it."""

import asyncio
import random
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sightline_kube.cache import Cache, Key
from sightline_kube.cluster import EventType, Listing, Obj, WatchEvent
from sightline_kube.kinds import CAMERA, NODE, POD
from sightline_kube.memory import MemoryCluster
from sightline_kube.shelf import TOMBSTONES
from tests.helpers.kube_objects import camera, labelled

ADDED, MODIFIED, DELETED = EventType.ADDED, EventType.MODIFIED, EventType.DELETED


def at(version: int, obj: Obj) -> Obj:
    return {**obj, "metadata": {**obj["metadata"], "resourceVersion": str(version)}}


def version(obj: Obj | None) -> str | None:
    return str(obj["metadata"]["resourceVersion"]) if obj else None


def names(cache: Cache, **labels: str) -> list[str]:
    return sorted(obj["metadata"]["name"] for obj in cache.list(CAMERA, "default", labels))


class Ear:
    """Remembers what a cache tells."""

    def __init__(self, cache: Cache) -> None:
        self.heard: list[tuple[str, str | None, str | None]] = []
        cache.subscribe(self)

    def __call__(self, key: Key, before: Obj | None, now: Obj | None) -> None:
        self.heard.append((key.name, version(before), version(now)))


@pytest.fixture
def cache() -> Cache:
    return Cache([CAMERA])


def test_it_holds_what_it_was_told(cache: Cache) -> None:
    ear = Ear(cache)
    cache.observe(CAMERA, None, at(1, camera("a")))
    cache.observe(CAMERA, MODIFIED, at(2, labelled(camera("a"), site="north")))
    assert names(cache, site="north") == ["a"]
    cache.observe(CAMERA, DELETED, at(3, camera("a")))
    assert cache.get(CAMERA, "default", "a") is None
    assert ear.heard == [("a", None, "1"), ("a", "1", "2"), ("a", "2", None)]


def test_it_tells_nothing_twice(cache: Cache) -> None:
    cache.observe(CAMERA, ADDED, at(2, camera("a")))
    ear = Ear(cache)
    cache.observe(CAMERA, MODIFIED, at(2, camera("a")))
    cache.observe(CAMERA, MODIFIED, at(1, camera("a")))
    cache.observe(CAMERA, DELETED, at(1, camera("a")))
    cache.observe(CAMERA, DELETED, at(9, camera("b")))
    cache.resync(CAMERA, [at(2, camera("a"))], resource_version="2")
    assert ear.heard == []


def test_versions_are_compared_as_numbers(cache: Cache) -> None:
    cache.observe(CAMERA, ADDED, at(9, camera("a")))
    cache.observe(CAMERA, MODIFIED, at(10, labelled(camera("a"), new="1")))
    assert names(cache, new="1") == ["a"]


def test_a_deletion_may_carry_the_last_state(cache: Cache) -> None:
    cache.observe(CAMERA, ADDED, at(2, camera("a")))
    cache.observe(CAMERA, DELETED, at(2, camera("a")))
    assert names(cache) == []


def test_a_late_event_does_not_bring_an_object_back(cache: Cache) -> None:
    cache.observe(CAMERA, ADDED, at(2, camera("a")))
    cache.observe(CAMERA, DELETED, at(4, camera("a")))
    cache.observe(CAMERA, MODIFIED, at(3, camera("a")))
    assert names(cache) == []
    cache.observe(CAMERA, ADDED, at(5, camera("a")))
    assert names(cache) == ["a"]


def test_resync_drops_what_is_gone(cache: Cache) -> None:
    for name in "abc":
        cache.observe(CAMERA, ADDED, at(1, camera(name)))
    ear = Ear(cache)
    assert cache.resync(CAMERA, [at(1, camera("a"))]) == 2
    assert names(cache) == ["a"]
    assert sorted(ear.heard) == [("b", "1", None), ("c", "1", None)]


def test_resync_keeps_what_came_while_the_list_was_under_way(cache: Cache) -> None:
    cache.observe(CAMERA, ADDED, at(7, camera("new")))
    assert cache.resync(CAMERA, [at(3, camera("old"))], resource_version="5") == 0
    assert names(cache) == ["new", "old"]


def test_resync_does_not_bring_back_what_went_while_the_list_was_under_way(cache: Cache) -> None:
    cache.observe(CAMERA, ADDED, at(3, camera("a")))
    cache.observe(CAMERA, DELETED, at(7, camera("a")))
    cache.resync(CAMERA, [at(3, camera("a"))], resource_version="5")
    assert names(cache) == []


def test_resync_corrects_a_deletion_that_was_none(cache: Cache) -> None:
    cache.observe(CAMERA, ADDED, at(3, camera("a")))
    cache.observe(CAMERA, DELETED, at(3, camera("a")))
    cache.resync(CAMERA, [at(3, camera("a"))], resource_version="5")
    assert names(cache) == ["a"]


def test_a_list_that_is_older_than_the_last_one_says_nothing(cache: Cache) -> None:
    cache.resync(CAMERA, [], resource_version="9")
    assert cache.resync(CAMERA, [at(3, camera("a"))], resource_version="5") == 0
    assert names(cache) == []


def test_an_event_that_is_older_than_the_list_does_not_add_what_the_list_lacks(cache: Cache) -> None:
    cache.resync(CAMERA, [], resource_version="9")
    cache.observe(CAMERA, ADDED, at(5, camera("a")))
    assert names(cache) == []
    cache.observe(CAMERA, ADDED, at(10, camera("a")))
    assert names(cache) == ["a"]


def test_a_list_is_of_a_namespace(cache: Cache) -> None:
    cache.observe(CAMERA, ADDED, at(1, camera("a", "one")))
    cache.observe(CAMERA, ADDED, at(1, camera("a", "two")))
    assert cache.resync(CAMERA, [], resource_version="5", namespace="one") == 1
    assert [obj["metadata"]["namespace"] for obj in cache.list(CAMERA)] == ["two"]


def test_synced_means_listed_everywhere() -> None:
    cache = Cache([CAMERA, POD], ["one", "two"])
    assert not cache.synced()
    cache.resync(CAMERA, [], namespace="one")
    cache.resync(CAMERA, [], namespace="two")
    cache.resync(POD, [], namespace="one")
    assert not cache.synced()
    assert cache.listed(POD, "one")
    assert not cache.listed(POD, "two")
    cache.resync(POD, [])
    assert cache.synced()


@pytest.mark.parametrize("indexed", [[], ["site"], ["site", "floor"]])
def test_labels_are_found_with_and_without_an_index(indexed: Sequence[str]) -> None:
    cache = Cache([CAMERA], indexed=indexed)
    cache.observe(CAMERA, ADDED, at(1, labelled(camera("a"), site="north", floor="1")))
    cache.observe(CAMERA, ADDED, at(1, labelled(camera("b"), site="north")))
    cache.observe(CAMERA, ADDED, at(1, labelled(camera("b", "other"), site="north")))
    cache.observe(CAMERA, ADDED, at(1, camera("c")))
    assert names(cache, site="north") == ["a", "b"]
    assert names(cache, site="north", floor="1") == ["a"]
    assert names(cache, floor="2") == []
    cache.observe(CAMERA, MODIFIED, at(2, labelled(camera("a"), site="south")))
    cache.observe(CAMERA, DELETED, at(2, camera("b")))
    assert names(cache, site="north") == []
    assert names(cache, site="south") == ["a"]
    assert len(cache.list(CAMERA, labels={"site": "north"})) == 1


def test_managed_fields_are_not_held(cache: Cache) -> None:
    obj = at(1, camera("a"))
    obj["metadata"]["managedFields"] = [{"manager": "kubectl"}]
    cache.observe(CAMERA, ADDED, obj)
    held = cache.get(CAMERA, "default", "a")
    assert held is not None
    assert "managedFields" not in held["metadata"]
    assert "managedFields" in obj["metadata"]  # what was handed in is not touched


def test_what_a_list_repeats_is_what_is_held_already(cache: Cache) -> None:
    cache.observe(CAMERA, ADDED, at(3, camera("a")))
    held = cache.get(CAMERA, "default", "a")
    assert cache.kept(at(3, camera("a"))) is held
    managed = at(4, camera("a"))
    managed["metadata"]["managedFields"] = [{"manager": "kubectl"}]
    assert cache.kept(managed) == at(4, camera("a"))
    fresh = cache.kept(at(1, camera("b")))
    assert fresh == at(1, camera("b"))
    cache.resync(CAMERA, [held, fresh])
    assert cache.get(CAMERA, "default", "b") is fresh
    assert cache.kept(at(1, labelled(camera("a"), kind="another"))) != held
    assert cache.get(CAMERA, "default", "a") is held
    lease = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "a", "namespace": "default"}}
    assert cache.kept(lease) == lease


def test_the_images_of_nodes_are_not_held() -> None:
    """They are most of a Node, which has many of them and is told again every few minutes."""
    nodes = Cache([NODE])
    addresses = [{"type": "InternalIP", "address": "10.0.0.1"}]
    status = {"nodeInfo": {}, "images": [{"names": ["a"]}], "addresses": addresses}
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n", "resourceVersion": "1"}, "status": status}
    nodes.observe(NODE, ADDED, node)
    held = nodes.get(NODE, "", "n")
    assert held is not None
    assert held["status"].keys() == {"nodeInfo", "addresses"}
    assert "images" in status  # what was handed in is not touched


def test_tombstones_are_bounded(cache: Cache) -> None:
    for number in range(TOMBSTONES + 10):
        cache.observe(CAMERA, DELETED, at(number + 1, camera(f"c{number}")))
    assert len(cache._shelves[CAMERA].tombstones) == TOMBSTONES


# What reaches a cache is drawn from a history of a real (in-memory) cluster: its events and lists at any moment.

STEPS = st.lists(
    st.tuples(st.sampled_from(["create", "label", "delete"]), st.sampled_from("abc")), min_size=1, max_size=12
)


async def history(steps: list[tuple[str, str]]) -> tuple[list[WatchEvent], list[Listing]]:
    """Every event of these steps, and the list after each (the first is of the empty cluster)."""
    cluster = MemoryCluster(rng=random.Random(1))
    lists = [await cluster.list(CAMERA)]
    for verb, name in steps:
        found = next((item for item in lists[-1].items if item["metadata"]["name"] == name), None)
        if verb == "create" and not found:
            await cluster.create(camera(name))
        elif verb == "label" and found:
            await cluster.replace(labelled(found, step=str(len(lists))))
        elif verb == "delete" and found:
            await cluster.delete(CAMERA, "default", name)
        lists.append(await cluster.list(CAMERA))
    stream = cluster.watch(CAMERA, resource_version="0")
    events = []
    told = lists[0].resource_version
    while told != lists[-1].resource_version:
        events.append(await anext(stream))
        told = events[-1].obj["metadata"]["resourceVersion"]
    await stream.aclose()
    return events, lists


def deliver(cache: Cache, what: Any) -> None:
    if isinstance(what, WatchEvent):
        cache.observe(CAMERA, what.type, what.obj)
    else:
        cache.resync(CAMERA, what.items, resource_version=what.resource_version)


def content(cache: Cache) -> dict[str, Obj]:
    return {obj["metadata"]["name"]: obj for obj in cache.list(CAMERA)}


@settings(max_examples=settings().max_examples * 3 // 2)
@given(STEPS, st.data())
def test_after_the_newest_list_nothing_old_confuses(steps: list[tuple[str, str]], data: st.DataObject) -> None:
    events, lists = asyncio.run(history(steps))
    anything = st.lists(st.sampled_from([*events, *lists]), max_size=15)
    cache = Cache([CAMERA])
    for what in data.draw(anything, "before"):
        deliver(cache, what)
    deliver(cache, lists[-1])
    truth = {item["metadata"]["name"]: item for item in lists[-1].items}
    assert content(cache) == truth
    for what in data.draw(anything, "after"):
        deliver(cache, what)
        assert content(cache) == truth


@settings(max_examples=settings().max_examples * 3 // 2)
@given(STEPS, st.data())
def test_all_events_lead_to_the_truth_whatever_old_lists_say(steps: list[tuple[str, str]], data: st.DataObject) -> None:
    events, lists = asyncio.run(history(steps))
    cache = Cache([CAMERA])
    deliver(cache, lists[0])
    for position, event in enumerate(events):
        deliver(cache, event)
        for what in data.draw(st.lists(st.sampled_from([*events[: position + 1], *lists[:1]]), max_size=3)):
            deliver(cache, what)
    for what in data.draw(st.lists(st.sampled_from(lists), max_size=3), "lists, late or not"):
        deliver(cache, what)
    assert content(cache) == {item["metadata"]["name"]: item for item in lists[-1].items}


@given(STEPS, st.data())
def test_what_is_told_adds_up_to_what_is_held(steps: list[tuple[str, str]], data: st.DataObject) -> None:
    events, lists = asyncio.run(history(steps))
    cache = Cache([CAMERA])
    told: dict[str, Obj] = {}

    def hear(key: Key, before: Obj | None, now: Obj | None) -> None:
        assert told.get(key.name) == before
        if now is None:
            del told[key.name]
        else:
            told[key.name] = now

    cache.subscribe(hear)
    for what in data.draw(st.lists(st.sampled_from([*events, *lists]), max_size=20)):
        deliver(cache, what)
        assert told == content(cache)
