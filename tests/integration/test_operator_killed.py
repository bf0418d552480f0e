"""SIGKILL of the operator's process at each of its API calls, on a real API server: it always comes out the same.

A call is carried out, and the operator is killed before it hears the answer; another one is started, and the story goes
on: a camera, viewers, an edit, a new image, a revoked viewer, the end. Killed before a call the cluster is as it was
after the call before, so each state between two calls is met. Calls are those of passes, not the lists and watches.
"""

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from sightline_kube.cluster import Obj
from sightline_kube.errors import NotFoundError
from sightline_kube.kinds import CAMERA, CAMERA_CLASS, POD, SECRET, SERVICE, STREAM_SESSION
from sightline_kube.real import RealCluster
from sightline_model.session import SessionPhase
from tests.helpers.apiserver import NEEDS_APISERVER, Apiserver
from tests.helpers.fault_proxy import proxied
from tests.helpers.operator_objects import (
    camera,
    condition,
    connected,
    default_class,
    is_ready,
    new_namespace,
    phase_of,
    session,
    source_of,
)
from tests.helpers.operator_process import Mortal, until
from tests.helpers.played_node import PlayedNode, addresses, played_node

pytestmark = NEEDS_APISERVER

KINDS = (CAMERA, POD, SERVICE, SECRET, STREAM_SESSION)
LANES = 6
_ADDRESSES = addresses(81)


@dataclass
class Story:
    """What happens to one camera, in a namespace of its own."""

    cluster: RealCluster
    namespace: str
    node: PlayedNode
    mortal: Mortal

    async def run(self, expected: list[Obj]) -> list[Obj]:
        """From nothing to nothing; how the world looked after each change, at last as expected if that is known."""
        looks: list[Obj] = []
        await self.cluster.create(camera(self.namespace))
        await self._well("one")
        await self._watch("s-one")
        looks.append(await self._settled(expected[len(looks) :]))
        await self.cluster.merge_patch(CAMERA, self.namespace, "gate", source_of("two"))
        await self._well("two")
        looks.append(await self._settled(expected[len(looks) :]))
        image = {"spec": {"agent": {"image": f"agent:{self.namespace}"}}}
        await self.cluster.merge_patch(CAMERA_CLASS, None, "default", image)
        await until(lambda: self._runs(f"agent:{self.namespace}"))
        await self._well("two")
        await self._watch("s-two")
        await self.cluster.delete(STREAM_SESSION, self.namespace, "s-two")
        await until(self._revoked)
        looks.append(await self._settled(expected[len(looks) :]))
        await self.cluster.delete(CAMERA, self.namespace, "gate")
        await until(self._nothing_left)
        return looks

    async def _watch(self, sid: str) -> None:
        await self.cluster.create(session(self.namespace, sid))
        (agent,) = self.node.of("gate")
        agent.set_session(sid, SessionPhase.STREAMING)

        async def streams() -> bool:
            return await phase_of(self.cluster, self.namespace, sid) == "Streaming"

        await until(streams)

    async def _revoked(self) -> bool:
        (agent,) = self.node.of("gate")
        # A session that is gone before its operator is back has nobody who revokes it: its agent's tick ends it.
        return "s-two" in agent.ended or agent.sessions["s-two"].phase is SessionPhase.STREAMING

    async def _well(self, url: str) -> None:
        await until(lambda: self._is_well(f"rtsp://camera.example/{url}"))

    async def _is_well(self, url: str) -> bool:
        found = await self.cluster.get(CAMERA, self.namespace, "gate")
        agents, pods = self.node.of("gate"), (await self.cluster.list(POD, self.namespace)).items
        if len(agents) != 1 or len(pods) != 1 or condition(found, "Ready")[0] != "True":
            return False
        rtsp = agents[0].config.source.rtsp
        current = (found.get("status") or {}).get("observedGeneration") == found["metadata"]["generation"]
        return current and rtsp is not None and rtsp.url == url

    async def _runs(self, image: str) -> bool:
        pods = (await self.cluster.list(POD, self.namespace)).items
        return [pod["spec"]["containers"][0]["image"] for pod in pods] == [image]

    async def _settled(self, expected: list[Obj]) -> Obj:
        """How the world looks: as expected, or at last; where nothing is expected, when sweeps change nothing."""
        if expected:
            with suppress(TimeoutError):
                await until(lambda: self._looks_like(expected[0]))
            return await self._look()
        await until(lambda: is_ready(self.cluster, self.namespace))
        await self.mortal.at_rest()
        return await self._look()

    async def _looks_like(self, expected: Obj) -> bool:
        return await self._look() == expected

    async def _look(self) -> Obj:
        """The world without times, names of pods and addresses."""
        found = await self.cluster.get(CAMERA, self.namespace, "gate")
        service = await self.cluster.get(SERVICE, self.namespace, "camera-gate")
        (pod,) = (await self.cluster.list(POD, self.namespace)).items
        secrets = (await self.cluster.list(SECRET, self.namespace)).items
        return {
            "conditions": {item["type"]: (item["status"], item["reason"]) for item in found["status"]["conditions"]},
            "phase": found["status"]["phase"],
            "finalizers": found["metadata"].get("finalizers"),
            "service": (service["spec"]["selector"], service["spec"]["ports"]),
            "pod": (sorted(pod["metadata"]["labels"]), len(pod["metadata"]["ownerReferences"])),
            "secrets": [item["metadata"]["name"] for item in secrets],
            "sessions": {
                item["metadata"]["name"]: item["status"]["phase"]
                for item in (await self.cluster.list(STREAM_SESSION, self.namespace)).items
            },
        }

    async def _nothing_left(self) -> bool:
        return not [kind for kind in KINDS if (await self.cluster.list(kind, self.namespace)).items]


async def tell(
    cluster: RealCluster, mortal: Mortal, call: int, expected: list[Obj] | None = None
) -> tuple[list[Obj], bool]:
    """One story with one death; what was seen, and whether the death came."""
    namespace = await new_namespace(cluster, f"killed-{call}")
    async with played_node(cluster, namespace, _ADDRESSES) as node:
        deaths = mortal.deaths
        mortal.kill_at(call)
        try:
            looks = await Story(cluster, namespace, node, mortal).run(expected or [])
        except (TimeoutError, NotFoundError, ValueError) as error:
            done = [f"{item.verb} {item.resource} {item.name} {item.status}" for item in mortal.calls]
            raise AssertionError(f"killed at call {call} of {done}") from error
        return looks, mortal.deaths > deaths


@pytest.fixture(scope="module")
def undisturbed() -> list[Obj]:
    """How the world looks where nobody dies: seen once, by whoever comes first."""
    return []


@pytest.mark.parametrize("lane", range(LANES))
async def test_killed_at_any_call_it_comes_out_the_same(
    apiserver: Apiserver, tmp_path: Path, undisturbed: list[Obj], lane: int
) -> None:
    async with connected(apiserver) as cluster, proxied(apiserver, tmp_path) as proxy:
        await default_class(cluster)
        mortal = Mortal(proxy, tmp_path)
        await mortal.start()
        async with mortal.followed():
            if not undisturbed:
                undisturbed += (await tell(cluster, mortal, 0))[0]
            call, died = lane + 1, True
            while died:
                looks, died = await tell(cluster, mortal, call, undisturbed)
                assert looks == undisturbed, f"killed at call {call}"
                call += LANES
            print(f"killed {mortal.deaths} times, last at call {call - 2 * LANES}")  # noqa: T201 - a figure for people
            assert mortal.deaths > 2
