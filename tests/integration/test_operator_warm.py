"""Spare agents on a real API server: a camera adopts one with the rights of the chart, and what was the class's is the
camera's from there on, for the garbage collector too."""

import base64
from pathlib import Path

from sightline_kube.cluster import Obj
from sightline_kube.kinds import CAMERA, CAMERA_CLASS, POD
from sightline_kube.real import RealCluster
from sightline_model import names
from sightline_model.agent import SourceCredentials
from sightline_model.base import API_VERSION
from tests.helpers.apiserver import NEEDS_APISERVER, Apiserver
from tests.helpers.fault_proxy import proxied
from tests.helpers.operator_objects import camera, connected, is_ready, new_namespace
from tests.helpers.operator_process import end, start_operator, until
from tests.helpers.played_node import PlayedNode, addresses, played_node
from tests.helpers.rights import rights, token_with

pytestmark = NEEDS_APISERVER

_ADDRESSES = addresses(91)
_PASSWORD = "hunter2"


async def test_a_camera_adopts_a_spare_with_the_rights_of_the_chart(apiserver: Apiserver, tmp_path: Path) -> None:
    async with connected(apiserver) as cluster:
        namespace, own = await new_namespace(cluster, "warm"), await new_namespace(cluster, "own")
        class_name = f"warm-{names.random_suffix(4)}"
        await cluster.create(_class(class_name))
        await cluster.create(_secret(namespace))
        given = rights("operator", [namespace], warm=[namespace])
        token = await token_with(apiserver, given, namespace, own)
        async with proxied(apiserver, tmp_path) as proxy, played_node(cluster, namespace, _ADDRESSES) as node:
            process, _ = await start_operator(
                Apiserver(proxy.kubeconfig_for(token, "operator"), ""),
                tmp_path,
                SIGHTLINE_NAMESPACES=namespace,
                SIGHTLINE_SPARE_NAMESPACES=namespace,
            )
            try:
                await cluster.create(_of_class(camera(namespace, "first"), class_name))
                await until(lambda: _spares_are(cluster, class_name, 1))
                (waiting,) = await _waiting(cluster, namespace)
                await _adopted(cluster, namespace, class_name, waiting, node)
                await _outlives_its_class(cluster, namespace, class_name, waiting)
                await cluster.delete(CAMERA, namespace, "gate")
                await until(lambda: _gone(cluster, namespace, waiting))
            finally:
                await end(process)
        refused = [
            f"{call.verb} {call.resource} {call.namespace}/{call.name}" for call in proxy.calls if call.status == 403
        ]
        assert refused == []
        read = [
            call.name for call in proxy.calls if call.resource == "secrets" and call.verb not in ("patch", "create")
        ]
        assert set(read) == {"door"}


async def _adopted(cluster: RealCluster, namespace: str, class_name: str, waiting: str, node: PlayedNode) -> None:
    """The camera gets the spare and its credentials, once more when the container is started again; another comes."""
    described = _of_class(camera(namespace), class_name)
    described["spec"]["source"]["rtsp"]["credentialsRef"] = {"name": "door"}
    await cluster.create(described)
    await until(lambda: is_ready(cluster, namespace))
    pod = await cluster.get(POD, namespace, waiting)
    labels = pod["metadata"]["labels"]
    assert (labels[names.CAMERA_LABEL], labels[names.SPARE_LABEL]) == ("gate", names.SPARE_ADOPTED)
    assert [owner["kind"] for owner in pod["metadata"]["ownerReferences"]] == ["Camera"]
    agent = node.agents[waiting]
    told = {"main": SourceCredentials(username="admin", password=_PASSWORD)}
    assert (agent.config.camera.name, agent.credentials) == ("gate", told)
    assert _PASSWORD not in str(await cluster.get(CAMERA, namespace, "gate"))

    async def told_again() -> bool:
        return agent.credentials == told

    agent.start_again()
    assert agent.credentials == {}
    await until(told_again)
    await until(lambda: _refilled(cluster, namespace))
    await until(lambda: _spares_are(cluster, class_name, 1))


async def _outlives_its_class(cluster: RealCluster, namespace: str, class_name: str, adopted: str) -> None:
    """The garbage collector takes the class's spares, and not the pod that was one."""
    await cluster.delete(CAMERA_CLASS, None, class_name)

    async def collected() -> bool:
        return await _waiting(cluster, namespace) == []

    await until(collected)
    pod = await cluster.get(POD, namespace, adopted)
    assert "deletionTimestamp" not in pod["metadata"]


async def _waiting(cluster: RealCluster, namespace: str) -> list[str]:
    listing = await cluster.list(POD, namespace, labels={names.SPARE_LABEL: names.SPARE_WAITING})
    return [pod["metadata"]["name"] for pod in listing.items]


async def _refilled(cluster: RealCluster, namespace: str) -> bool:
    return bool(await _waiting(cluster, namespace))


async def _spares_are(cluster: RealCluster, class_name: str, count: int) -> bool:
    found = await cluster.get(CAMERA_CLASS, None, class_name)
    namespace_full = (found.get("status") or {}).get("spares") == count
    conditions = (found.get("status") or {}).get("conditions") or []
    return namespace_full and any(item["type"] == "SparesReady" and item["status"] == "True" for item in conditions)


async def _gone(cluster: RealCluster, namespace: str, name: str) -> bool:
    listing = await cluster.list(POD, namespace)
    return all(pod["metadata"]["name"] != name or "deletionTimestamp" in pod["metadata"] for pod in listing.items)


def _class(name: str) -> Obj:
    return {"apiVersion": API_VERSION, "kind": CAMERA_CLASS.kind, "metadata": {"name": name}, "spec": {"warmAgents": 1}}


def _of_class(described: Obj, class_name: str) -> Obj:
    described["spec"]["className"] = class_name
    return described


def _secret(namespace: str) -> Obj:
    data = {"username": "admin", "password": _PASSWORD}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "door", "namespace": namespace},
        "type": "Opaque",
        "data": {key: base64.b64encode(value.encode()).decode() for key, value in data.items()},
    }
