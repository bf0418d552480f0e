"""Deletion never hangs, whoever is gone: the agent, the node, the operator, the namespace, the definitions themselves.

What is said in docs/operations/deletion.md, on a real API server with its garbage collector and namespace controller.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from sightline_kube.cluster import Obj
from sightline_kube.errors import NotFoundError, UnavailableError
from sightline_kube.kinds import (
    CAMERA,
    CLUSTER_ROLE,
    NAMESPACE,
    POD,
    POD_DISRUPTION_BUDGET,
    SECRET,
    SERVICE,
    STREAM_SESSION,
    Kind,
)
from sightline_kube.real import RealCluster
from sightline_model.session import SessionPhase
from tests.helpers.apiserver import NEEDS_APISERVER, ROOT, Apiserver, kube_binary, running_apiserver
from tests.helpers.fault_proxy import proxied
from tests.helpers.kubectl import Kubectl
from tests.helpers.operator_objects import (
    camera,
    connected,
    default_class,
    is_ready,
    new_namespace,
    phase_of,
    session,
)
from tests.helpers.operator_process import Mortal, end, start_operator, until
from tests.helpers.played_node import PlayedNode, addresses, played_node

pytestmark = NEEDS_APISERVER

CHILDREN = (POD, SERVICE, SECRET)
_ADDRESSES = addresses(85)


@dataclass
class Scene:
    """A watched camera, and everybody who has to do with it."""

    cluster: RealCluster
    namespace: str
    node: PlayedNode
    operator: Mortal
    kubectl: Kubectl

    async def ready(self) -> bool:
        """Whether the camera is."""
        return await is_ready(self.cluster, self.namespace)

    async def streams(self) -> bool:
        """Whether the session does."""
        return await phase_of(self.cluster, self.namespace, "s-one") == "Streaming"

    async def left(self, *kinds: Kind) -> list[Obj]:
        """Objects of these kinds that are not on their way out."""
        found = [item for kind in kinds for item in (await self.cluster.list(kind, self.namespace)).items]
        return [item for item in found if not item["metadata"].get("deletionTimestamp")]

    def none_left(self, *kinds: Kind) -> Callable[[], Awaitable[bool]]:
        """For `until`."""

        async def gone() -> bool:
            return not await self.left(*kinds)

        return gone


@asynccontextmanager
async def scene(apiserver: Apiserver, directory: Path) -> AsyncIterator[Scene]:
    kubectl = Kubectl(kube_binary().parent / "bin" / "kubectl", apiserver.kubeconfig)
    async with connected(apiserver) as cluster:
        await default_class(cluster)
        namespace = await new_namespace(cluster, "del")
        async with proxied(apiserver, directory) as proxy, played_node(cluster, namespace, _ADDRESSES) as node:
            here = Scene(cluster, namespace, node, Mortal(proxy, directory), kubectl)
            await here.operator.start()
            try:
                await cluster.create(camera(namespace))
                await until(here.ready)
                await cluster.create(session(namespace, "s-one"))
                node.of("gate")[0].set_session("s-one", SessionPhase.STREAMING)
                await until(here.streams)
                yield here
            finally:
                await here.operator.end()


async def test_the_agent_is_gone(apiserver: Apiserver, tmp_path: Path) -> None:
    async with scene(apiserver, tmp_path) as here:
        await here.node.close()
        await here.cluster.delete(CAMERA, here.namespace, "gate")
        await until(here.none_left(CAMERA, STREAM_SESSION, *CHILDREN))


async def test_the_operator_is_gone(apiserver: Apiserver, tmp_path: Path) -> None:
    async with scene(apiserver, tmp_path) as here:
        await here.operator.end()
        await here.cluster.delete(CAMERA, here.namespace, "gate")
        # No finalizer: the camera is gone at once, and Kubernetes clears what it owned.
        with pytest.raises(NotFoundError):
            await here.cluster.get(CAMERA, here.namespace, "gate")
        await until(here.none_left(*CHILDREN))
        # Its session waits for an operator, and may be deleted by hand like anything else.
        assert len(await here.left(STREAM_SESSION)) == 1
        await here.operator.start()
        await until(here.none_left(STREAM_SESSION))


async def test_the_node_is_gone(apiserver: Apiserver, tmp_path: Path) -> None:
    async with scene(apiserver, tmp_path) as here:
        (pod,) = await here.left(POD)
        name = pod["metadata"]["name"]
        # A pod that was bound to a node waits for that node's kubelet before it goes, and nobody is there.
        binding = {
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"name": name},
            "target": {"apiVersion": "v1", "kind": "Node", "name": "nobody"},
        }
        path = f"/api/v1/namespaces/{here.namespace}/pods/{name}/binding"
        await asyncio.to_thread(lambda: here.kubectl("create", "--raw", path, "-f", "-", manifest=binding))
        await here.cluster.delete(CAMERA, here.namespace, "gate")
        await until(here.none_left(CAMERA, STREAM_SESSION, *CHILDREN))
        assert (await here.cluster.get(POD, here.namespace, name))["metadata"]["deletionTimestamp"]
        # The name is free: a camera that is made again is not held up by what hangs.
        await here.cluster.create(camera(here.namespace))
        await until(here.ready)
        (fresh,) = await here.left(POD)
        assert fresh["metadata"]["name"] != name
        await here.cluster.delete(POD, here.namespace, name, grace_seconds=0)
        await until(here.ready)


async def test_the_namespace_is_deleted(apiserver: Apiserver, tmp_path: Path) -> None:
    async with scene(apiserver, tmp_path) as here:
        await here.cluster.delete(NAMESPACE, None, here.namespace)

        async def gone() -> bool:
            try:
                await here.cluster.get(NAMESPACE, None, here.namespace)
            except NotFoundError:
                return True
            return False

        await until(gone)


async def test_the_definitions_are_deleted_with_everything_in_them(tmp_path_factory: pytest.TempPathFactory) -> None:
    directory = tmp_path_factory.mktemp("own")
    with running_apiserver(directory, with_controller_manager=True, crds=ROOT / "crds") as server:
        async with scene(server, tmp_path_factory.mktemp("work")) as here:
            definitions = [f"{plural}.sightline.dev" for plural in ("cameras", "streamsessions", "cameraclasses")]
            async with here.operator.followed():
                await asyncio.to_thread(lambda: here.kubectl("delete", "crd", *definitions, "--timeout=110s"))
                # The objects are gone, and with them what they owned; no finalizer held anything up.
                await until(here.none_left(*CHILDREN))
            # Installed again, everything works again.
            crds = str(ROOT / "crds")
            await asyncio.to_thread(lambda: here.kubectl("create", "-f", crds))
            await asyncio.to_thread(
                lambda: here.kubectl("wait", "--for=condition=Established", "--timeout=90s", "crd", *definitions)
            )
            await until(lambda: _is_served(here))
            await here.cluster.create(camera(here.namespace))
            await here.operator.start()
            await until(here.ready)


async def test_the_release_is_gone(apiserver: Apiserver, tmp_path: Path) -> None:
    """Cameras and agents stay, but not what makes a drain wait for an operator."""
    async with connected(apiserver) as cluster:
        await default_class(cluster)
        namespace = await new_namespace(cluster, "release")
        role = {"apiVersion": CLUSTER_ROLE.api_version, "kind": "ClusterRole", "metadata": {"name": namespace}}
        await cluster.create({**role, "rules": []})
        async with played_node(cluster, namespace, _ADDRESSES):
            process, _ = await start_operator(apiserver, tmp_path, SIGHTLINE_OWNER_ROLE=namespace)
            try:
                await cluster.create(camera(namespace))
                await until(lambda: is_ready(cluster, namespace))

                async def budgets() -> int:
                    return len((await cluster.list(POD_DISRUPTION_BUDGET, namespace)).items)

                await until(lambda: _is(budgets, 1))
            finally:
                await end(process)
            await cluster.delete(CLUSTER_ROLE, None, namespace)
            await until(lambda: _is(budgets, 0))
            for kind in (CAMERA, POD):
                (one,) = (await cluster.list(kind, namespace)).items
                assert not one["metadata"].get("deletionTimestamp")


async def _is(count: Callable[[], Awaitable[int]], number: int) -> bool:
    return await count() == number


async def _is_served(here: Scene) -> bool:
    """Whether a class can be made: a definition that is established is served some moments later."""
    try:
        await default_class(here.cluster)
        for kind in (CAMERA, STREAM_SESSION):
            await here.cluster.list(kind, here.namespace)
    except (NotFoundError, UnavailableError):
        return False
    return True
