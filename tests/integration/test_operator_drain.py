"""A node that is drained, on a real API server: the eviction is refused, the successor comes, then the old pod goes."""

import asyncio
from pathlib import Path

import pytest

from sightline_kube.cluster import Obj
from sightline_kube.kinds import POD, POD_DISRUPTION_BUDGET
from sightline_model.reasons import EndReason
from sightline_model.session import SessionPhase
from tests.helpers.apiserver import NEEDS_APISERVER, Apiserver, kube_binary
from tests.helpers.fault_proxy import proxied
from tests.helpers.kubectl import Kubectl, KubectlError
from tests.helpers.operator_objects import camera, connected, default_class, is_ready, new_namespace
from tests.helpers.operator_process import Mortal, until
from tests.helpers.played_node import addresses, played_node

pytestmark = NEEDS_APISERVER

_ADDRESSES = addresses(86)


async def test_an_eviction_is_refused_until_the_agent_has_moved(apiserver: Apiserver, tmp_path: Path) -> None:
    kubectl = Kubectl(kube_binary().parent / "bin" / "kubectl", apiserver.kubeconfig)
    async with connected(apiserver) as cluster:
        await default_class(cluster, drain="10m")  # what ends the old pod is the end of its session
        namespace = await new_namespace(cluster, "drain")
        await cluster.create({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node-1"}})

        async def ready() -> bool:
            return await is_ready(cluster, namespace)

        async def counted() -> bool:
            found = (await cluster.list(POD_DISRUPTION_BUDGET, namespace)).items
            return [(budget.get("status") or {}).get("currentHealthy") for budget in found] == [1]

        async def living() -> list[str]:
            found = (await cluster.list(POD, namespace)).items
            return [pod["metadata"]["name"] for pod in found if not pod["metadata"].get("deletionTimestamp")]

        async def two() -> bool:
            return len(await living()) == 2

        async def moved() -> bool:
            found = await living()
            return len(found) == 1 and found != [old]

        async with proxied(apiserver, tmp_path) as proxy, played_node(cluster, namespace, _ADDRESSES) as node:
            operator = Mortal(proxy, tmp_path)
            await operator.start()
            try:
                await cluster.create(camera(namespace))
                await until(ready)
                ((old, agent),) = node.agents.items()
                target = {"apiVersion": "v1", "kind": "Node", "name": "node-1"}
                binding = {"apiVersion": "v1", "kind": "Binding", "target": target}
                await asyncio.to_thread(_post, kubectl, namespace, old, "binding", binding)
                agent.set_session("s-1", SessionPhase.STREAMING)
                await until(counted)
                with pytest.raises(KubectlError, match="disruption budget"):
                    await asyncio.to_thread(_evict, kubectl, namespace, old)
                await asyncio.to_thread(kubectl, "cordon", "node-1")
                await until(two)
                assert await ready()
                agent.set_session("s-1", SessionPhase.ENDED, EndReason.HANGUP)
                await until(moved)
            finally:
                await operator.end()


def _evict(kubectl: Kubectl, namespace: str, pod: str) -> None:
    _post(kubectl, namespace, pod, "eviction", {"apiVersion": "policy/v1", "kind": "Eviction"})


def _post(kubectl: Kubectl, namespace: str, pod: str, part: str, body: Obj) -> None:
    made = {**body, "metadata": {"name": pod, "namespace": namespace}}
    kubectl("create", "--raw", f"/api/v1/namespaces/{namespace}/pods/{pod}/{part}", "-f", "-", manifest=made)
