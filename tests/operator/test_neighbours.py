"""Two operators in one cluster, each with its own namespaces: classes are for all, and neither speaks for the other."""

import asyncio

from sightline_kube.cache import Cache, Feed
from sightline_kube.kinds import CAMERA, CAMERA_CLASS
from sightline_kube.memory import MemoryCluster
from sightline_operator.core import KINDS, Operator
from sightline_operator.facts import Options
from tests.helpers.kube_objects import camera
from tests.operator.virtualtime import now, run
from tests.operator.world import FakeLinks, Recording, default_class

PLACES = ("north", "south")


def test_neighbours_do_not_fight_over_classes() -> None:
    async def main() -> None:
        cluster = MemoryCluster(clock=now)
        recording = Recording(cluster)
        for place in PLACES:
            await cluster.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": place}})
            made = default_class(name=place)
            made["metadata"]["annotations"] = {}
            await cluster.create(made)
        tasks, feeds = [], []
        for place in PLACES:
            cache = Cache(KINDS, [place])
            options = Options(agent_image="agent:1", namespaced=True)
            operator = Operator(recording, cache, FakeLinks(), options, clock=now)
            feeds.append(Feed(cluster, cache, KINDS, [place]))
            feeds[-1].start()
            tasks.append(asyncio.ensure_future(operator.run()))
        await cluster.create(camera("gate", "north", className="north"))
        await asyncio.sleep(60)
        for place, count in (("north", 1), ("south", 0)):
            status = (await cluster.get(CAMERA_CLASS, None, place))["status"]
            assert status["cameras"] == count
        await cluster.delete(CAMERA, "north", "gate")
        await asyncio.sleep(60)
        assert (await cluster.get(CAMERA_CLASS, None, "north"))["status"]["cameras"] == 0
        assert recording.count("replace_status", "CameraClass") <= 3
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for feed in feeds:
            await feed.stop()

    run(main)
