"""What the operator may cost: writes per camera and session, none when nothing changes; and whose fields are whose.

Counted at the wire, by a proxy before a real API server.
"""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from sightline_kube.cluster import Obj
from sightline_kube.errors import NotFoundError
from sightline_kube.kinds import CAMERA, POD, SERVICE, STREAM_SESSION
from sightline_kube.real import RealCluster
from sightline_model import names
from sightline_model.reasons import EndReason
from sightline_model.session import SessionPhase
from tests.helpers.apiserver import ROOT, Apiserver, kube_binary, running_apiserver
from tests.helpers.fault_proxy import Call, FaultProxy, proxied
from tests.helpers.played_node import addresses, played_node
from tests.integration.test_operator import until
from tests.integration.test_operator_killed import Mortal, camera, condition, default_class, session

pytestmark = [
    pytest.mark.apiserver,
    pytest.mark.skipif(not kube_binary().exists(), reason="the API server was not built: make cluster-build"),
]

STATUS_WRITES = 4
"""Of a camera until it is Ready: at first sight, pod without address, agent not heard yet, Ready."""
EVENTS = 2
"""Of a camera until it is Ready; a session has none."""
SESSION_STATUS_WRITES = 3
SESSION_BYTES = 2048
_ADDRESSES = addresses(83)


@pytest.fixture(scope="module")
def apiserver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Apiserver]:
    directory = tmp_path_factory.mktemp("apiserver")
    with running_apiserver(directory, with_controller_manager=True, crds=ROOT / "crds") as server:
        yield server


async def test_what_a_camera_and_a_session_cost(apiserver: Apiserver, tmp_path: Path) -> None:
    cluster = await RealCluster.from_kubeconfig(str(apiserver.kubeconfig))
    await default_class(cluster)
    namespace = f"budget-{names.random_suffix(4)}"
    await cluster.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
    async with proxied(apiserver, tmp_path) as proxy, played_node(cluster, namespace, _ADDRESSES) as node:
        operator = Mortal(proxy, tmp_path)
        await operator.start()
        try:
            await cluster.create(camera(namespace))
            await until(lambda: _ready(cluster, namespace))
            await _sweeps(proxy, 1)
            cost = _cost(proxy.calls, namespace)
            status = cost.pop("update cameras/status")
            assert cost.pop("create events", 0) + cost.pop("patch events", 0) <= EVENTS
            # The namespace's disruption budget comes with its first camera.
            assert cost == {
                "patch secrets": 1,
                "patch services": 1,
                "patch pods": 1,
                "patch poddisruptionbudgets": 1,
            }
            assert status <= STATUS_WRITES

            proxy.calls.clear()
            await cluster.create(session(namespace, "s-one"))
            agent = node.of("gate")[0]
            await until(lambda: _phase(cluster, namespace, "Requested"))
            for phase in (SessionPhase.CONNECTING, SessionPhase.STREAMING):
                agent.set_session("s-one", phase)
            await until(lambda: _phase(cluster, namespace, "Streaming"))
            agent.set_session("s-one", SessionPhase.ENDED, EndReason.HANGUP)
            await until(lambda: _phase(cluster, namespace, ""))
            cost = _cost(proxy.calls, namespace)
            assert not [what for what in cost if what.endswith(" events")]
            assert cost["update streamsessions/status"] == SESSION_STATUS_WRITES
            assert cost["delete streamsessions"] == 1
            assert (
                max(_stored(call) for call in proxy.calls if call.resource == "streamsessions/status") < SESSION_BYTES
            )

            # Whatever is looked at again, and whoever starts anew: nothing is written.
            await until(lambda: _viewers(cluster, namespace, 0))
            await _sweeps(proxy, 2)
            proxy.calls.clear()
            await _sweeps(proxy, 2)
            assert _cost(proxy.calls, namespace) == {}, _bodies(proxy)
            await operator.end()
            await operator.start()
            await _sweeps(proxy, 3)
            assert _cost(proxy.calls, namespace) == {}, _bodies(proxy)
        finally:
            await operator.end()
            await cluster.close()


async def test_what_others_wrote_stays_and_drift_of_ours_does_not(apiserver: Apiserver, tmp_path: Path) -> None:
    cluster = await RealCluster.from_kubeconfig(str(apiserver.kubeconfig))
    await default_class(cluster)
    namespace = f"drift-{names.random_suffix(4)}"
    await cluster.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
    async with proxied(apiserver, tmp_path) as proxy, played_node(cluster, namespace, _ADDRESSES):
        operator = Mortal(proxy, tmp_path)
        await operator.start()
        try:
            await cluster.create(camera(namespace))
            await until(lambda: _ready(cluster, namespace))
            (pod,) = (await cluster.list(POD, namespace)).items
            theirs = {"metadata": {"labels": {"team": "north"}, "annotations": {"example.org/note": "keep"}}}
            await cluster.merge_patch(POD, namespace, pod["metadata"]["name"], theirs)
            more = {**theirs, "spec": {"sessionAffinity": "ClientIP"}}
            await cluster.merge_patch(SERVICE, namespace, "camera-gate", more)
            # A part of ours is bent: the whole is applied again, and must leave theirs alone.
            bent = {"metadata": {"labels": {names.CAMERA_LABEL: "gate"}}, "spec": {"selector": {"a": "b"}}}
            await cluster.merge_patch(SERVICE, namespace, "camera-gate", bent)
            await until(lambda: _repaired(cluster, namespace))
            service = await cluster.get(SERVICE, namespace, "camera-gate")
            assert service["spec"]["sessionAffinity"] == "ClientIP"
            (same,) = (await cluster.list(POD, namespace)).items
            assert same["metadata"]["uid"] == pod["metadata"]["uid"]
            for child in (service, same):
                assert child["metadata"]["labels"]["team"] == "north"
                assert child["metadata"]["annotations"]["example.org/note"] == "keep"
            # A child that is deleted comes back.
            await cluster.delete(SERVICE, namespace, "camera-gate")
            await until(lambda: _repaired(cluster, namespace))
        finally:
            await operator.end()
            await cluster.close()


def _cost(calls: Sequence[Call], namespace: str) -> Counter[str]:
    """Writes in the namespace, by verb and resource."""
    return Counter(f"{call.verb} {call.resource}" for call in calls if call.writes and call.namespace == namespace)


def _bodies(proxy: FaultProxy) -> list[str]:
    return [call.body.decode() for call in proxy.calls if call.writes and call.body]


def _of(calls: Sequence[Call], resource: str) -> list[Call]:
    return [call for call in calls if call.resource == resource and call.writes]


def _stored(call: Call) -> int:
    """Bytes of the object as it was written, as they are stored (compact, without what the server notes)."""
    obj = json.loads(call.body)
    obj["metadata"].pop("managedFields", None)
    return len(json.dumps(obj, separators=(",", ":")))


async def _sweeps(proxy: FaultProxy, count: int) -> None:
    """Wait until so many more sweeps (LISTs of all kinds) have been answered."""
    before = len(_lists(proxy))

    async def enough() -> bool:
        return len(_lists(proxy)) >= before + count

    await until(enough, 60)


def _lists(proxy: FaultProxy) -> list[Call]:
    return [call for call in proxy.of("sightline-operator") if call.verb == "list" and call.resource == "services"]


async def _ready(cluster: RealCluster, namespace: str) -> bool:
    return condition(await cluster.get(CAMERA, namespace, "gate"), "Ready")[0] == "True"


async def _viewers(cluster: RealCluster, namespace: str, count: int) -> bool:
    found: Obj = await cluster.get(CAMERA, namespace, "gate")
    return bool((found["status"].get("viewers") or 0) == count)


async def _phase(cluster: RealCluster, namespace: str, phase: str) -> bool:
    """Whether the session is so far and the operator has said so; without a phase: whether it is gone."""
    try:
        status = (await cluster.get(STREAM_SESSION, namespace, "s-one")).get("status") or {}
    except NotFoundError:
        return phase == ""
    return bool(status.get("phase") == phase and (status.get("timestamps") or {}).get("authorized"))


async def _repaired(cluster: RealCluster, namespace: str) -> bool:
    try:
        service = await cluster.get(SERVICE, namespace, "camera-gate")
    except NotFoundError:
        return False
    return bool(
        service["spec"]["selector"].get(names.CAMERA_LABEL) == "gate" and "a" not in service["spec"]["selector"]
    )
