"""A node that is drained, on a real API server: the eviction is refused, the successor comes, then the old pod goes."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from sightline_kube.cluster import Obj
from sightline_kube.kinds import CAMERA, POD, POD_DISRUPTION_BUDGET
from sightline_kube.real import RealCluster
from sightline_model import names
from sightline_model.reasons import EndReason
from sightline_model.session import SessionPhase
from tests.helpers.apiserver import ROOT, Apiserver, kube_binary, running_apiserver
from tests.helpers.fault_proxy import proxied
from tests.helpers.kubectl import Kubectl, KubectlError
from tests.helpers.played_node import addresses, played_node
from tests.integration.test_operator import until
from tests.integration.test_operator_killed import Mortal, camera, condition, default_class

pytestmark = [
    pytest.mark.apiserver,
    pytest.mark.skipif(not kube_binary().exists(), reason="the API server was not built: make cluster-build"),
]

_ADDRESSES = addresses(86)


@pytest.fixture(scope="module")
def apiserver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Apiserver]:
    directory = tmp_path_factory.mktemp("apiserver")
    with running_apiserver(directory, with_controller_manager=True, crds=ROOT / "crds") as server:
        yield server


async def test_an_eviction_is_refused_until_the_agent_has_moved(apiserver: Apiserver, tmp_path: Path) -> None:
    cluster = await RealCluster.from_kubeconfig(str(apiserver.kubeconfig))
    await default_class(cluster)
    namespace = f"drain-{names.random_suffix(4)}"
    await cluster.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
    await cluster.create({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node-1"}})
    kubectl = Kubectl(kube_binary().parent / "bin" / "kubectl", apiserver.kubeconfig)
    async with proxied(apiserver, tmp_path) as proxy, played_node(cluster, namespace, _ADDRESSES) as node:
        operator = Mortal(proxy, tmp_path)
        await operator.start()

        async def ready() -> bool:
            return condition(await cluster.get(CAMERA, namespace, "gate"), "Ready")[0] == "True"

        async def counted() -> bool:
            found = (await cluster.list(POD_DISRUPTION_BUDGET, namespace)).items
            return [(budget.get("status") or {}).get("currentHealthy") for budget in found] == [1]

        async def living() -> list[Obj]:
            found = (await cluster.list(POD, namespace)).items
            return [pod for pod in found if not pod["metadata"].get("deletionTimestamp")]

        async def two() -> bool:
            return len(await living()) == 2

        async def moved() -> bool:
            return [pod["metadata"]["name"] for pod in await living()] not in ([], [old])

        try:
            await cluster.create(camera(namespace))
            await until(ready)
            ((old, agent),) = node.agents.items()
            target = {"apiVersion": "v1", "kind": "Node", "name": "node-1"}
            _post(kubectl, namespace, old, "binding", {"apiVersion": "v1", "kind": "Binding", "target": target})
            agent.set_session("s-1", SessionPhase.STREAMING)
            await until(counted)
            with pytest.raises(KubectlError, match="disruption budget"):
                _evict(kubectl, namespace, old)
            kubectl("cordon", "node-1")
            await until(two)
            assert await ready()
            agent.set_session("s-1", SessionPhase.ENDED, EndReason.HANGUP)
            await until(moved)
        finally:
            await operator.end()
            await cluster.close()


def _evict(kubectl: Kubectl, namespace: str, pod: str) -> None:
    _post(kubectl, namespace, pod, "eviction", {"apiVersion": "policy/v1", "kind": "Eviction"})


def _post(kubectl: Kubectl, namespace: str, pod: str, part: str, body: Obj) -> None:
    made = {**body, "metadata": {"name": pod, "namespace": namespace}}
    kubectl("create", "--raw", f"/api/v1/namespaces/{namespace}/pods/{pod}/{part}", "-f", "-", manifest=made)
