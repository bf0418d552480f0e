"""The operator's process, with kopf, against a real API server. The kubelet and the agents are played by the test."""

import re
import signal
from asyncio import timeout
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from aiohttp import web

from sightline_kube.cluster import Obj
from sightline_kube.errors import ConflictError, NotFoundError
from sightline_kube.kinds import CAMERA, CAMERA_CLASS, POD, SECRET, SERVICE, STREAM_SESSION
from sightline_kube.real import RealCluster
from sightline_model import names
from sightline_model.session import SessionPhase
from sightline_operator.sweep import SELECTORS, WATCHED
from tests.helpers.apiserver import NEEDS_APISERVER, Apiserver, kubeconfig_with
from tests.helpers.operator_objects import (
    camera,
    connected,
    default_class,
    is_ready,
    new_namespace,
    phase_of,
    session,
    source_of,
)
from tests.helpers.operator_process import end, page, start_operator, until
from tests.helpers.played_node import PlayedAgent, addresses, agent_on, running
from tests.helpers.rights import rights, token_with

pytestmark = NEEDS_APISERVER

_ADDRESSES = addresses(78)


@dataclass
class Stage:
    """What a test works with."""

    cluster: RealCluster
    namespace: str
    process: Process
    port: int
    runners: list[web.AppRunner] = field(default_factory=list)

    async def add_camera(self, name: str = "gate") -> Obj:
        return await self.cluster.create(camera(self.namespace, name))

    async def watch(self, sid: str) -> None:
        await self.cluster.create(session(self.namespace, sid))

    async def pods(self, camera: str = "gate") -> list[Obj]:
        listing = await self.cluster.list(POD, self.namespace, labels={names.CAMERA_LABEL: camera})
        return listing.items

    async def run_pod(self, camera: str = "gate") -> PlayedAgent:
        """Play kubelet: give the pod an address, and let an agent listen there."""
        await self.until_pods(1, camera)
        (pod,) = await self.pods(camera)
        agent, runner = await agent_on(self.cluster, pod, next(_ADDRESSES))
        self.runners.append(runner)

        async def told() -> bool:
            (fresh,) = await self.pods(camera)
            try:
                await self.cluster.replace_status({**fresh, "status": running(agent.address)})
            except ConflictError:
                return False
            return True

        await until(told)
        return agent

    async def until_pods(self, count: int, camera: str = "gate") -> None:
        async def so_many() -> bool:
            return len(await self.pods(camera)) == count

        await until(so_many)

    async def ready(self, name: str = "gate") -> None:
        await until(lambda: is_ready(self.cluster, self.namespace, name))

    async def until_phase(self, sid: str, phase: str) -> None:
        async def so_far() -> bool:
            return await phase_of(self.cluster, self.namespace, sid) == phase

        await until(so_far)

    async def until_gone(self) -> None:
        """Until nothing is left of the camera `gate` but pods on their way out."""

        async def gone() -> bool:
            for kind in (SECRET, SERVICE):
                try:
                    await self.cluster.get(kind, self.namespace, "camera-gate")
                except NotFoundError:
                    continue
                return False
            return all(pod["metadata"].get("deletionTimestamp") for pod in await self.pods())

        await until(gone)


@asynccontextmanager
async def stage(apiserver: Apiserver, directory: Path, **more: str) -> AsyncIterator[Stage]:
    """A namespace, a default class and a running operator."""
    async with connected(apiserver) as cluster:
        namespace = await new_namespace(cluster, "test")
        await default_class(cluster, retention="2s")
        here = Stage(cluster, namespace, *await start_operator(apiserver, directory, **more))
        try:
            yield here
        finally:
            await end(here.process)
            for runner in here.runners:
                await runner.cleanup()


async def configured(agent: PlayedAgent) -> None:
    """Until the agent was sent a config."""

    async def was_sent() -> bool:
        return bool(agent.configs)

    await until(was_sent)


async def test_camera_session_edit_and_delete(apiserver: Apiserver, tmp_path: Path) -> None:
    async with stage(apiserver, tmp_path) as here:
        made = await here.add_camera()
        agent = await here.run_pod()
        await here.ready()
        # Nothing is left of kopf on the object, and what was made is owned by the camera.
        stored = await here.cluster.get(CAMERA, here.namespace, "gate")
        assert not stored["metadata"].get("finalizers")
        assert not stored["metadata"].get("annotations")
        (pod,) = await here.pods()
        service = await here.cluster.get(SERVICE, here.namespace, "camera-gate")
        for child in (pod, service):
            assert child["metadata"]["ownerReferences"][0]["uid"] == made["metadata"]["uid"]

        await here.watch("s-one")
        agent.set_session("s-one", SessionPhase.STREAMING)
        await here.until_phase("s-one", "Streaming")

        await here.cluster.merge_patch(CAMERA, here.namespace, "gate", source_of("two"))
        await configured(agent)
        assert agent.config.source.rtsp
        assert agent.config.source.rtsp.url == "rtsp://camera.example/two"
        await here.ready()
        assert [item["metadata"]["uid"] for item in await here.pods()] == [pod["metadata"]["uid"]]

        await here.cluster.delete(CAMERA, here.namespace, "gate")
        await here.until_phase("s-one", "absent")
        await here.until_gone()


async def test_idle_writes_nothing_and_metrics_tell(apiserver: Apiserver, tmp_path: Path) -> None:
    async with stage(apiserver, tmp_path, SIGHTLINE_SWEEP_INTERVAL="1") as here:
        await here.add_camera()
        await here.run_pod()
        await here.ready()

        async def versions() -> list[str]:
            found = [await here.cluster.get(CAMERA, here.namespace, "gate"), *await here.pods()]
            return [item["metadata"]["resourceVersion"] for item in found]

        async def rests() -> bool:
            before = await versions()
            await _swept(here, 2)
            return await versions() == before

        await until(rests)  # whatever was still due has been written
        before = await versions()
        await _swept(here, 4)
        assert await versions() == before
        status, text = await page(here.port, "/metrics")
        assert status == 200
        assert 'sightline_agent_links{state="connected"} 1.0' in text
        assert (await page(here.port, "/healthz"))[0] == 200


async def test_sigkill_and_restart_disturb_nothing(apiserver: Apiserver, tmp_path: Path) -> None:
    async with stage(apiserver, tmp_path) as here:
        await here.add_camera()
        agent = await here.run_pod()
        await here.ready()
        (pod,) = await here.pods()
        await end(here.process)
        await here.watch("s-two")
        agent.set_session("s-two", SessionPhase.STREAMING)
        here.process, here.port = await start_operator(apiserver, tmp_path)
        await here.until_phase("s-two", "Streaming")
        assert [item["metadata"]["uid"] for item in await here.pods()] == [pod["metadata"]["uid"]]
        await here.cluster.delete(STREAM_SESSION, here.namespace, "s-two")

        async def revoked() -> bool:
            return "s-two" in agent.ended

        await until(revoked)
        here.process.send_signal(signal.SIGTERM)
        async with timeout(30):  # what Kubernetes grants
            assert await here.process.wait() == 0


async def test_one_namespace_with_no_more_rights_than_needed(apiserver: Apiserver, tmp_path: Path) -> None:
    async with stage(apiserver, tmp_path) as here:
        # The first operator only made the stage; the second one is the one with few rights.
        await end(here.process)
        token = await token_with(apiserver, rights("operator", [here.namespace]), here.namespace, here.namespace)
        few = kubeconfig_with(apiserver.kubeconfig, token, tmp_path / "few-rights.json")
        here.process, here.port = await start_operator(
            Apiserver(few, apiserver.url),
            tmp_path,
            SIGHTLINE_NAMESPACES=here.namespace,
            SIGHTLINE_LEASE_NAME="sightline-operator",
            SIGHTLINE_LEASE_NAMESPACE=here.namespace,
        )
        await here.add_camera()
        agent = await here.run_pod()
        await here.ready()
        await here.cluster.merge_patch(CAMERA, here.namespace, "gate", source_of("two"))
        await configured(agent)
        image = {"spec": {"agent": {"image": f"agent:{here.namespace}"}}}
        await here.cluster.merge_patch(CAMERA_CLASS, None, "default", image)
        await here.until_pods(2)
        await here.cluster.delete(CAMERA, here.namespace, "gate")
        await here.until_gone()
        _, text = await page(here.port, "/metrics")
        assert 'code="403"' not in text


async def _swept(here: Stage, times: int) -> None:
    """Until the operator has listed every kind so many times more."""

    async def lists() -> float:
        _, text = await page(here.port, "/metrics")
        found = re.search(r'rest_client_requests_total\{code="200",method="list"\} (\S+)', text)
        return float(found[1]) if found else 0.0

    early = 2 * len(WATCHED)  # a process that has just begun may look at those twice in between
    enough = await lists() + early + times * len(SELECTORS)

    async def has_swept() -> bool:
        return await lists() >= enough

    await until(has_swept)
