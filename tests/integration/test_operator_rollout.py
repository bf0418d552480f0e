"""A new agent image over 200 cameras, 20 of them watched, on a real API server, with KWOK's pods and played agents.

What happened is read from watches of the API server, so the order of things is the server's own; what it cost is
counted at the wire.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import pytest

from sightline_kube.cluster import EventType, Obj
from sightline_kube.kinds import CAMERA, CAMERA_CLASS, POD, Kind
from sightline_kube.real import RealCluster
from sightline_model import names
from sightline_model.reasons import EndReason
from sightline_model.session import SessionPhase
from tests.helpers.apiserver import NEEDS_APISERVER, Apiserver
from tests.helpers.fault_proxy import Call, proxied
from tests.helpers.kwok import add_nodes, kwok
from tests.helpers.operator_objects import camera, condition, connected, default_class, new_namespace
from tests.helpers.operator_process import PROGRAM, Mortal, until
from tests.helpers.played_node import PlayedAgent, PlayedNode, played_node

pytestmark = NEEDS_APISERVER

CAMERAS = [f"camera-{number:03}" for number in range(200)]
WATCHED = CAMERAS[5::10]
LEAVING = WATCHED[::2]
"""Their viewers go by themselves when they are told of a newer agent; the others have to be hung up."""
STAYING = WATCHED[1::2]
AT_A_TIME = 10
DRAIN_SECONDS = 4.0
STATUS_WRITES = 5
"""Of a camera that is moved: it waits, the newer agent comes, both are there, the old one is gone, nobody watches."""
MEAN_STATUS_WRITES = 4
PATIENCE = 240.0
LOOK_SECONDS = 0.3
"""Between two looks at all cameras, which cost the server something."""
NEW_IMAGE = "sightline-agent:two"


@pytest.fixture
def nodes(apiserver: Apiserver, tmp_path: Path) -> Iterator[Apiserver]:
    """The server, with a scheduler and somebody who says that pods run."""
    with kwok(apiserver, tmp_path, "127.87.0.0/16"):
        yield apiserver


@dataclass
class Chronicle:
    """What the API server told, in its order."""

    watched: dict[str, PlayedAgent]
    """The agents that somebody watches, before anything happens."""
    made: list[str] = field(default_factory=list)
    """Cameras whose newer pod was made."""
    agents: dict[str, list[str]] = field(default_factory=dict)
    """Pods of each camera that were not on their way out."""
    most_moving: int = 0
    """Cameras with two pods, at the worst moment."""
    unwell: set[str] = field(default_factory=set)
    """Cameras that were not Ready at some moment."""
    started: dict[str, datetime] = field(default_factory=dict)
    """When the container of each camera's newer pod was started."""
    standing: list[Obj] = field(default_factory=list)
    """The class's statuses."""

    def pod(self, type_: EventType, pod: Obj) -> None:
        """A pod came, changed or went."""
        name, owner = pod["metadata"]["name"], pod["metadata"]["labels"][names.CAMERA_LABEL]
        there = self.agents.setdefault(owner, [])
        if type_ is EventType.DELETED or pod["metadata"].get("deletionTimestamp"):
            if name in there:
                there.remove(name)
            return
        newer = pod["spec"]["containers"][0]["image"] == NEW_IMAGE
        if name not in there:
            there.append(name)
            if newer:
                self.made.append(owner)
                self._told(owner)
        running = ((pod.get("status") or {}).get("containerStatuses") or [{}])[0].get("state", {}).get("running")
        if newer and running:
            self.started[owner] = datetime.fromisoformat(running["startedAt"])
        self.most_moving = max(self.most_moving, sum(len(pods) > 1 for pods in self.agents.values()))

    def camera(self, _type: EventType, seen: Obj) -> None:
        """A camera's status was written."""
        if condition(seen, "Ready")[0] != "True":
            self.unwell.add(seen["metadata"]["name"])

    def camera_class(self, _type: EventType, seen: Obj) -> None:
        """The class's status was written."""
        self.standing.append(seen["status"])

    def _told(self, owner: str) -> None:
        """Viewers of some cameras go when a newer agent comes."""
        if owner in LEAVING:
            self.watched[owner].set_session(f"s-{owner}", SessionPhase.ENDED, EndReason.HANGUP)


@asynccontextmanager
async def chronicle(cluster: RealCluster, namespace: str, watched: dict[str, PlayedAgent]) -> AsyncIterator[Chronicle]:
    """Everything from now on, however late it is heard."""
    written = Chronicle(watched)

    async def follow(kind: Kind, where: str | None, since: str, note: Callable[[EventType, Obj], None]) -> None:
        async with aclosing(cluster.watch(kind, where, resource_version=since)) as events:
            async for event in events:
                note(event.type, event.obj)
        raise AssertionError(f"the watch of {kind.plural} has ended")

    pods = await cluster.list(POD, namespace)
    for pod in pods.items:
        written.agents[pod["metadata"]["labels"][names.CAMERA_LABEL]] = [pod["metadata"]["name"]]
    cameras, classes = await cluster.list(CAMERA, namespace), await cluster.list(CAMERA_CLASS)
    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(follow(POD, namespace, pods.resource_version, written.pod)),
            group.create_task(follow(CAMERA, namespace, cameras.resource_version, written.camera)),
            group.create_task(follow(CAMERA_CLASS, None, classes.resource_version, written.camera_class)),
        ]
        yield written
        for task in tasks:
            task.cancel()


async def test_a_new_image_reaches_all_cameras_in_order(nodes: Apiserver, tmp_path: Path) -> None:
    async with connected(nodes) as cluster:
        await add_nodes(cluster, 2)
        await default_class(cluster, drain=f"{DRAIN_SECONDS:.0f}s")
        await _change_class(cluster, {"rollout": {"maxUnavailable": AT_A_TIME}})
        namespace = await new_namespace(cluster, "roll")
        async with proxied(nodes, tmp_path) as proxy, played_node(cluster, namespace) as node:
            operator = Mortal(proxy, tmp_path)
            await operator.start()
            try:
                await asyncio.gather(*(cluster.create(camera(namespace, name)) for name in CAMERAS))
                await until(lambda: _all_ready(cluster, namespace, 0), PATIENCE)
                watched = _watch(node)
                await until(lambda: _all_ready(cluster, namespace, len(WATCHED)), PATIENCE)
                await operator.at_rest()

                proxy.calls.clear()
                began = asyncio.get_running_loop().time()
                async with chronicle(cluster, namespace, watched) as story:
                    await _change_class(cluster, {"agent": {"image": NEW_IMAGE}})
                    await until(lambda: _rolled_out(cluster, namespace), PATIENCE)
                    await until(lambda: _told_to_its_end(story))
                _check_order_and_pace(story)
                _check_viewers(story, watched)
                _check_progress(story)
                seconds = asyncio.get_running_loop().time() - began
                _check_cost([call for call in proxy.of(PROGRAM) if call.writes], seconds)
            finally:
                await operator.end()


def _check_order_and_pace(story: Chronicle) -> None:
    assert sorted(story.made) == CAMERAS
    # Turns are given in order, pods are made side by side: the last idle ones and the first watched one may overlap.
    last_idle_turns = len(CAMERAS) - len(WATCHED) - (AT_A_TIME - 1)
    assert [name for name in story.made[:last_idle_turns] if name in WATCHED] == []
    assert story.most_moving <= AT_A_TIME
    assert story.unwell == set()


def _check_viewers(story: Chronicle, watched: dict[str, PlayedAgent]) -> None:
    """Who goes by himself is not waited for; who stays has the class's drainTimeout, and is told why it ends."""
    assert [name for name in LEAVING if watched[name].ended] == []
    for name in STAYING:
        report = watched[name].sessions[f"s-{name}"]
        assert report.end_reason is EndReason.MOVED
        assert report.ended_at is not None
        assert (report.ended_at - story.started[name]).total_seconds() >= DRAIN_SECONDS


def _check_progress(story: Chronicle) -> None:
    """The class tells who moves and what waits, down to nothing."""
    rolled = [condition({"status": status}, "RolledOut") for status in story.standing]
    assert rolled[-1] == ("True", "UpToDate")
    waiting = [int(status.get("waiting", 0)) for status in story.standing]
    start = waiting.index(max(waiting))
    assert waiting[start] > len(CAMERAS) / 2
    assert waiting[start:] == sorted(waiting[start:], reverse=True)
    assert max(int(status.get("moving", 0)) for status in story.standing) <= AT_A_TIME
    said = [
        item["message"] for status in story.standing for item in status["conditions"] if item["type"] == "RolledOut"
    ]
    assert f"Waiting for their turn: {waiting[start]}" in said[start]
    assert [text for text in said if f", {len(WATCHED)} of them with viewers, which come last" in text]


def _check_cost(calls: list[Call], seconds: float) -> None:
    """One pod more and one less for each camera, the config that it starts from, and a few words about it."""
    cost = Counter(f"{call.verb} {call.resource}" for call in calls)
    status = Counter(call.name for call in calls if call.resource == "cameras/status")
    assert max(status.values()) <= STATUS_WRITES, (cost, status.most_common(5))
    assert cost.pop("update cameras/status") <= MEAN_STATUS_WRITES * len(CAMERAS), cost
    assert cost.pop("update cameraclasses/status") <= seconds + 2  # one a second at most
    assert cost == dict.fromkeys(("patch pods", "delete pods", "patch secrets"), len(CAMERAS))


async def _change_class(cluster: RealCluster, spec: Obj) -> None:
    await cluster.merge_patch(CAMERA_CLASS, None, "default", {"spec": spec})


async def _told_to_its_end(story: Chronicle) -> bool:
    """Whether the last word about the class has been heard, and of the pods that the old ones are gone."""
    said = condition({"status": story.standing[-1]}, "RolledOut")[1] if story.standing else ""
    return said == "UpToDate" and all(len(pods) == 1 for pods in story.agents.values())


def _watch(node: PlayedNode) -> dict[str, PlayedAgent]:
    """Somebody watches each of the cameras that are to be watched."""
    agents = {name: node.of(name)[0] for name in WATCHED}
    for name, agent in agents.items():
        agent.set_session(f"s-{name}", SessionPhase.STREAMING)
    return agents


async def _all_ready(cluster: RealCluster, namespace: str, watched: int) -> bool:
    await asyncio.sleep(LOOK_SECONDS)
    found = (await cluster.list(CAMERA, namespace)).items
    viewers = sum((item.get("status") or {}).get("viewers", 0) for item in found)
    return viewers == watched and all(condition(item, "Ready")[0] == "True" for item in found)


async def _rolled_out(cluster: RealCluster, namespace: str) -> bool:
    """Everything is new, nobody is left to watch, and the class has said so."""
    await asyncio.sleep(LOOK_SECONDS)
    status = (await cluster.get(CAMERA_CLASS, None, "default"))["status"]
    if condition({"status": status}, "RolledOut")[1] != "UpToDate":
        return False
    pods = (await cluster.list(POD, namespace)).items
    images = Counter(pod["spec"]["containers"][0]["image"] for pod in pods)
    return images == {NEW_IMAGE: len(CAMERAS)} and await _all_ready(cluster, namespace, 0)
