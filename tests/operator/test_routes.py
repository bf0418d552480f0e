"""Who has to look again when a node or a class changes; ten thousand pods need not be looked through for that."""

import asyncio
from collections.abc import Mapping

from sightline_kube.cache import Cache, Key
from sightline_kube.cluster import EventType, Obj
from sightline_kube.kinds import CAMERA, CAMERA_CLASS, NODE, POD, Kind
from sightline_model import names
from sightline_operator.core import KINDS
from sightline_operator.routes import CLASS_DELAY_SECONDS, Routes
from sightline_operator.workqueue import WorkQueue
from tests.operator.virtualtime import now, run
from tests.operator.world import FakeLinks


class Counting(Cache):
    """Counts the objects that somebody was given to look through."""

    def __init__(self) -> None:
        super().__init__(KINDS)
        self.given = 0

    def list(self, kind: Kind, namespace: str | None = None, labels: Mapping[str, str] | None = None) -> list[Obj]:
        found = super().list(kind, namespace, labels)
        self.given += len(found)
        return found


def pod(number: int, on: str = "", version: int = 1) -> Obj:
    labels = {names.CAMERA_LABEL: f"c-{number}", names.MANAGED_BY_LABEL: names.MANAGED_BY}
    metadata = {"name": f"p-{number}", "namespace": "site", "resourceVersion": str(version), "labels": labels}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"nodeName": on} if on else {}}


def node(name: str, version: int = 1, **spec: bool) -> Obj:
    metadata = {"name": name, "resourceVersion": str(version)}
    return {"apiVersion": "v1", "kind": "Node", "metadata": metadata, "spec": spec}


def test_a_node_concerns_the_cameras_whose_agents_are_there_and_costs_as_much_as_these() -> None:
    async def main() -> None:
        cache, queue = Counting(), WorkQueue[Key]()
        cache.subscribe(Routes(cache, queue, FakeLinks(), now).changed)

        async def told() -> set[str]:
            keys = set()
            while len(queue):
                key = await queue.get()
                queue.done(key)
                keys |= {key.name} if key.kind == CAMERA else set()
            return keys

        for number in range(200):
            cache.observe(POD, EventType.ADDED, pod(number, f"node-{number % 50}"))
        cache.observe(POD, EventType.ADDED, pod(900))
        await told()
        cache.given = 0
        cache.resync(NODE, [node(f"node-{number}") for number in range(50)])
        assert len(await told()) == 200
        assert cache.given == 0
        # One that is bound later, one that is gone, and one whose name is somewhere else by now.
        cache.observe(POD, EventType.MODIFIED, pod(900, "node-7", 2))
        cache.observe(POD, EventType.DELETED, pod(7, "node-7", 2))
        cache.observe(POD, EventType.MODIFIED, pod(57, "node-8", 2))
        await told()
        cache.observe(NODE, EventType.MODIFIED, node("node-7", 2, unschedulable=True))
        assert await told() == {"c-107", "c-157", "c-900"}
        cache.observe(NODE, EventType.MODIFIED, node("node-7", 3, unschedulable=True))
        assert await told() == set()

    run(main)


def test_a_class_is_looked_at_at_once_and_after_a_write_of_its_status_alone_a_while_later() -> None:
    def camera_class(version: int, image: str, waiting: int) -> Obj:
        spec, status = {"agent": {"image": image}}, {"waiting": waiting}
        metadata = {"name": "fine", "resourceVersion": str(version)}
        return {"apiVersion": "v1", "kind": "CameraClass", "metadata": metadata, "spec": spec, "status": status}

    async def main() -> None:
        cache, queue = Cache(KINDS), WorkQueue[Key]()
        cache.subscribe(Routes(cache, queue, FakeLinks(), now).changed)
        waits = []
        for version, image, waiting in ((1, "one", 0), (2, "one", 7), (3, "two", 7)):
            began = asyncio.get_running_loop().time()
            cache.observe(CAMERA_CLASS, EventType.MODIFIED, camera_class(version, image, waiting))
            queue.done(await queue.get())
            waits.append(asyncio.get_running_loop().time() - began)
            await asyncio.sleep(2 * CLASS_DELAY_SECONDS)
            while len(queue):
                queue.done(await queue.get())
        assert waits == [0.0, CLASS_DELAY_SECONDS, 0.0]

    run(main)
