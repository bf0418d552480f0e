"""An API server that fails: 30 % of all requests get 429, 500, 503, no answer or a lost one, and watches are cut.

The operator's process, with kopf, on a real API server behind `tests.helpers.fault_proxy`. It may end with an error,
as a pod it is then started again; the world must come out right, with nothing twice and nothing left over.
"""

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest

from sightline_kube.cluster import Obj
from sightline_kube.kinds import CAMERA, POD, SECRET, SERVICE, STREAM_SESSION
from sightline_kube.real import RealCluster
from sightline_model import names
from sightline_model.session import SessionPhase
from tests.helpers.apiserver import NEEDS_APISERVER, Apiserver
from tests.helpers.fault_proxy import FaultProxy, Storm, proxied
from tests.helpers.operator_objects import (
    camera,
    condition,
    connected,
    default_class,
    new_namespace,
    session,
    source_of,
)
from tests.helpers.operator_process import Mortal, until
from tests.helpers.played_node import PlayedNode, addresses, played_node

pytestmark = NEEDS_APISERVER

STORM_REQUESTS = 150
CAMERAS = tuple(f"gate-{number}" for number in range(8))
DELETED = CAMERAS[:2]
EDITED = CAMERAS[2:5]
PATIENCE = 240.0
"""Enough for requests that are never answered: the client waits ten seconds for each."""
_ADDRESSES = addresses(82)


@pytest.mark.parametrize("seed", [1, 2])
async def test_after_a_storm_the_world_is_right(apiserver: Apiserver, tmp_path: Path, seed: int) -> None:
    async with connected(apiserver) as cluster:
        await default_class(cluster)
        namespace = await new_namespace(cluster, f"storm-{seed}")
        async with proxied(apiserver, tmp_path) as proxy, played_node(cluster, namespace, _ADDRESSES) as node:
            operator = Mortal(proxy, tmp_path)
            await operator.start()
            async with operator.followed():
                storm = Storm(seed, STORM_REQUESTS)
                proxy.plan = storm
                async with _watched(cluster, namespace, node):
                    await _events(cluster, namespace, node)
                    await until(lambda: _over(storm), PATIENCE)
                    await until(lambda: _is_right(cluster, namespace, node), PATIENCE)
                    await until(partial(_is_quiet, cluster, namespace, proxy, operator), PATIENCE)
                    assert await _is_right(cluster, namespace, node)
                faults = len([call for call in proxy.calls if call.fault])
                print(f"{faults} faults in {storm.come} requests")  # noqa: T201 - a figure for people
                assert faults > STORM_REQUESTS // 6


async def _events(cluster: RealCluster, namespace: str, node: PlayedNode) -> None:
    """Cameras come, are watched, change and go, while nothing can be relied on."""
    for name in CAMERAS:
        await cluster.create(camera(namespace, name))
    for name in (*DELETED, *EDITED):
        await until(partial(_has_viewer, node, name), PATIENCE)
    for name in EDITED:
        await cluster.merge_patch(CAMERA, namespace, name, source_of("two"))
    for name in DELETED:
        await cluster.delete(CAMERA, namespace, name)


@asynccontextmanager
async def _watched(cluster: RealCluster, namespace: str, node: PlayedNode) -> AsyncIterator[None]:
    """While the context lasts somebody watches each of some cameras."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(_watch(cluster, namespace, node, name)) for name in (*DELETED, *EDITED)]
        yield
        for task in tasks:
            task.cancel()


async def _watch(cluster: RealCluster, namespace: str, node: PlayedNode, name: str) -> None:
    """As a player does it: who has to move comes again.

    A pod whose making was not answered may be made twice, and its viewers move when one of the two goes.
    """
    for number in itertools.count():
        while not node.of(name):
            await asyncio.sleep(0.05)
        agent, sid = node.of(name)[0], f"s-{name}-{number}"
        await cluster.create(session(namespace, sid, name))
        agent.set_session(sid, SessionPhase.STREAMING)
        while agent in node.of(name) and agent.sessions[sid].phase is SessionPhase.STREAMING:
            await asyncio.sleep(0.05)


async def _has_viewer(node: PlayedNode, name: str) -> bool:
    return any(agent.sessions for agent in node.of(name))


async def _over(storm: Storm) -> bool:
    return storm.over


def _writes(proxy: FaultProxy) -> int:
    return len([call for call in proxy.calls if call.writes])


async def _is_quiet(cluster: RealCluster, namespace: str, proxy: FaultProxy, operator: Mortal) -> bool:
    """Two sweeps go by without a write.

    Asked again and again: a request whose answer the storm lost is repeated after the client's ten seconds, when the
    world may long be right.
    """
    versions, writes = await _versions(cluster, namespace), _writes(proxy)
    await operator.swept(2)
    return _writes(proxy) == writes and await _versions(cluster, namespace) == versions


async def _is_right(cluster: RealCluster, namespace: str, node: PlayedNode) -> bool:
    """Every camera is well and has one of everything, and nothing is there that no camera owns."""
    cameras = {item["metadata"]["name"]: item for item in (await cluster.list(CAMERA, namespace)).items}
    if set(cameras) != set(CAMERAS) - set(DELETED):
        return False
    owners = sorted(item["metadata"]["uid"] for item in cameras.values())
    for kind in (POD, SERVICE, SECRET):
        children = (await cluster.list(kind, namespace, labels={names.MANAGED_BY_LABEL: names.MANAGED_BY})).items
        if sorted(item["metadata"]["ownerReferences"][0]["uid"] for item in children) != owners:
            return False
    sessions = (await cluster.list(STREAM_SESSION, namespace)).items
    if sorted(item["spec"]["cameraRef"]["name"] for item in sessions) != sorted(EDITED):
        return False
    if any((item.get("status") or {}).get("phase") != "Streaming" for item in sessions):
        return False
    return all(_is_well(item, node) for item in cameras.values())


def _is_well(obj: Obj, node: PlayedNode) -> bool:
    agents = node.of(obj["metadata"]["name"])
    if len(agents) != 1 or condition(obj, "Ready")[0] != "True":
        return False
    rtsp = agents[0].config.source.rtsp
    viewers = 1 if obj["metadata"]["name"] in EDITED else 0
    status = obj["status"]
    return (
        rtsp is not None
        and rtsp.url == obj["spec"]["source"]["rtsp"]["url"]
        and status["observedGeneration"] == obj["metadata"]["generation"]
        and (status.get("viewers") or 0) == viewers
    )


async def _versions(cluster: RealCluster, namespace: str) -> dict[tuple[str, str], str]:
    """The resourceVersion of every object of ours."""
    return {
        (kind.kind, item["metadata"]["name"]): item["metadata"]["resourceVersion"]
        for kind in (CAMERA, POD, SERVICE, SECRET, STREAM_SESSION)
        for item in (await cluster.list(kind, namespace)).items
    }
