"""SIGKILL of the operator's process at each of its API calls, on a real API server: it always comes out the same.

A call is carried out, and the operator is killed before it hears the answer; another one is started, and the story goes
on: a camera, viewers, an edit, a new image, a revoked viewer, the end. Killed before a call the cluster is as it was
after the call before, so each state between two calls is met. Calls are those of passes, not the lists and watches.
"""

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from sightline_kube.cluster import Obj
from sightline_kube.errors import AlreadyExistsError, NotFoundError
from sightline_kube.kinds import CAMERA, CAMERA_CLASS, POD, SECRET, SERVICE, STREAM_SESSION
from sightline_kube.real import RealCluster
from sightline_model import names
from sightline_model.base import API_VERSION
from sightline_model.session import SessionPhase
from tests.helpers.apiserver import ROOT, Apiserver, kube_binary, running_apiserver
from tests.helpers.fault_proxy import Call, FaultProxy, proxied
from tests.helpers.played_node import PlayedNode, addresses, played_node
from tests.integration.test_operator import start_operator, until

pytestmark = [
    pytest.mark.apiserver,
    pytest.mark.skipif(not kube_binary().exists(), reason="the API server was not built: make cluster-build"),
]

PROGRAM = "sightline-operator"
KINDS = (CAMERA, POD, SERVICE, SECRET, STREAM_SESSION)
PATIENCE = 60.0
SETTLING = 15.0
LANES = 6
_ADDRESSES = addresses(81)


@pytest.fixture(scope="module")
def apiserver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Apiserver]:
    directory = tmp_path_factory.mktemp("apiserver")
    with running_apiserver(directory, with_controller_manager=True, crds=ROOT / "crds") as server:
        yield server


class Mortal:
    """The operator's process. It is killed at a call, and another one takes its place."""

    def __init__(self, proxy: FaultProxy, directory: Path) -> None:
        self._server = Apiserver(proxy.kubeconfig, "")
        self._directory = directory
        self._process: asyncio.subprocess.Process | None = None
        self._left = 0
        self.calls: list[Call] = []
        self.deaths = 0
        proxy.after = self._answered

    async def start(self) -> None:
        """The first process."""
        self._process, _ = await start_operator(self._server, self._directory, SIGHTLINE_SWEEP_INTERVAL="2")

    def kill_at(self, call: int) -> None:
        """The next death is at this call, counted from now on."""
        self._left = call
        self.calls = []

    async def live(self) -> None:
        """Take each dead one's place."""
        while True:
            assert self._process is not None
            await self._process.wait()
            await self.start()

    async def end(self) -> None:
        """No more."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()

    def _answered(self, call: Call) -> None:
        if not call.agent.startswith(PROGRAM) or call.verb == "list":
            return
        self.calls.append(call)
        self._left -= 1
        if self._left == 0 and self._process is not None:
            self._process.kill()
            self.deaths += 1


@dataclass
class Story:
    """What happens to one camera, in a namespace of its own."""

    cluster: RealCluster
    namespace: str
    node: PlayedNode

    async def run(self, expected: list[Obj]) -> list[Obj]:
        """From nothing to nothing; how the world looked after each change, at last as expected if that is known."""
        looks: list[Obj] = []
        await self.cluster.create(camera(self.namespace))
        await self._well("one")
        await self._watch("s-one")
        looks.append(await self._settled(expected[len(looks) :]))
        change = {"spec": {"source": {"rtsp": {"url": "rtsp://camera.example/two"}}}}
        await self.cluster.merge_patch(CAMERA, self.namespace, "gate", change)
        await self._well("two")
        looks.append(await self._settled(expected[len(looks) :]))
        image = {"spec": {"agent": {"image": f"agent:{self.namespace}"}}}
        await self.cluster.merge_patch(CAMERA_CLASS, None, "default", image)
        await until(lambda: self._runs(f"agent:{self.namespace}"), PATIENCE)
        await self._well("two")
        await self._watch("s-two")
        await self.cluster.delete(STREAM_SESSION, self.namespace, "s-two")
        await until(self._revoked, PATIENCE)
        looks.append(await self._settled(expected[len(looks) :]))
        await self.cluster.delete(CAMERA, self.namespace, "gate")
        await until(self._nothing_left, PATIENCE)
        return looks

    async def _watch(self, sid: str) -> None:
        await self.cluster.create(session(self.namespace, sid))
        (agent,) = self.node.of("gate")
        agent.set_session(sid, SessionPhase.STREAMING)

        async def streams() -> bool:
            found = await self.cluster.get(STREAM_SESSION, self.namespace, sid)
            return bool((found.get("status") or {}).get("phase") == "Streaming")

        await until(streams, PATIENCE)

    async def _revoked(self) -> bool:
        (agent,) = self.node.of("gate")
        # A session that is gone before its operator is back has nobody who revokes it: its agent's tick ends it.
        return "s-two" in agent.ended or agent.sessions["s-two"].phase is SessionPhase.STREAMING

    async def _well(self, url: str) -> None:
        await until(lambda: self._is_well(f"rtsp://camera.example/{url}"), PATIENCE)

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
        """How the world looks, when it looks as expected, or at last."""
        with suppress(TimeoutError):
            await until(lambda: self._looks_like(expected[0] if expected else None), SETTLING)
        return await self._look()

    async def _looks_like(self, expected: Obj | None) -> bool:
        return await self._look() == expected if expected else await self._is_ready()

    async def _is_ready(self) -> bool:
        return condition(await self.cluster.get(CAMERA, self.namespace, "gate"), "Ready")[0] == "True"

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


def camera(namespace: str, name: str = "gate") -> Obj:
    return {
        "apiVersion": API_VERSION,
        "kind": "Camera",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"source": {"rtsp": {"url": "rtsp://camera.example/one"}}},
    }


def session(namespace: str, name: str, watched: str = "gate") -> Obj:
    return {
        "apiVersion": API_VERSION,
        "kind": "StreamSession",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"cameraRef": {"name": watched}, "user": "alice"},
    }


def condition(obj: Obj, type_: str) -> tuple[str, str]:
    for item in (obj.get("status") or {}).get("conditions") or []:
        if item["type"] == type_:
            return item["status"], item["reason"]
    return "", ""


async def tell(
    cluster: RealCluster, mortal: Mortal, call: int, expected: list[Obj] | None = None
) -> tuple[list[Obj], bool]:
    """One story with one death; what was seen, and whether the death came."""
    namespace = f"killed-{call}-{names.random_suffix(4)}"
    await cluster.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
    async with played_node(cluster, namespace, _ADDRESSES) as node:
        deaths = mortal.deaths
        mortal.kill_at(call)
        try:
            looks = await Story(cluster, namespace, node).run(expected or [])
        except (TimeoutError, NotFoundError, ValueError) as error:
            done = [f"{item.verb} {item.resource} {item.name} {item.status}" for item in mortal.calls]
            raise AssertionError(f"killed at call {call} of {done}") from error
        return looks, mortal.deaths > deaths


async def default_class(cluster: RealCluster) -> None:
    with suppress(AlreadyExistsError):
        await cluster.create(
            {
                "apiVersion": API_VERSION,
                "kind": CAMERA_CLASS.kind,
                "metadata": {"name": "default", "annotations": {names.DEFAULT_CLASS_ANNOTATION: "true"}},
                "spec": {"sessions": {"retention": "0s"}, "rollout": {"drainTimeout": "1s"}},
            }
        )


@pytest.mark.parametrize("lane", range(LANES))
async def test_killed_at_any_call_it_comes_out_the_same(apiserver: Apiserver, tmp_path: Path, lane: int) -> None:
    cluster = await RealCluster.from_kubeconfig(str(apiserver.kubeconfig))
    await default_class(cluster)
    async with proxied(apiserver, tmp_path) as proxy:
        mortal = Mortal(proxy, tmp_path)
        await mortal.start()
        living = asyncio.create_task(mortal.live())
        try:
            expected, _ = await tell(cluster, mortal, 0)
            call, died = lane + 1, True
            while died:
                looks, died = await tell(cluster, mortal, call, expected)
                assert looks == expected, f"killed at call {call}"
                call += LANES
            print(f"killed {mortal.deaths} times, last at call {call - 2 * LANES}")  # noqa: T201 - a figure for people
            assert mortal.deaths > 2
        finally:
            living.cancel()
            await asyncio.wait([living])
            await mortal.end()
            await cluster.close()
