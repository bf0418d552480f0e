"""What the operator may cost: writes per camera and session, none when nothing changes; and whose fields are whose.

Counted at the wire, by a proxy before a real API server.
"""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from sightline_kube.errors import NotFoundError
from sightline_kube.kinds import CAMERA, POD, SERVICE, STREAM_SESSION
from sightline_kube.real import RealCluster
from sightline_model import names
from sightline_model.reasons import EndReason
from sightline_model.session import SessionPhase
from tests.helpers.apiserver import NEEDS_APISERVER, Apiserver
from tests.helpers.fault_proxy import Call, FaultProxy, proxied
from tests.helpers.operator_objects import camera, connected, default_class, is_ready, new_namespace, session
from tests.helpers.operator_process import Mortal, until
from tests.helpers.played_node import addresses, played_node

pytestmark = NEEDS_APISERVER

STATUS_WRITES = 4
"""Of a camera until it is Ready: at first sight, pod without address, agent not heard yet, Ready."""
EVENTS = 2
"""Of a camera until it is Ready; a session has none."""
SESSION_STATUS_WRITES = 3
SESSION_BYTES = 2048
_ADDRESSES = addresses(83)


async def test_what_a_camera_and_a_session_cost(apiserver: Apiserver, tmp_path: Path) -> None:
    async with connected(apiserver) as cluster:
        await default_class(cluster)
        namespace = await new_namespace(cluster, "budget")
        async with proxied(apiserver, tmp_path) as proxy, played_node(cluster, namespace, _ADDRESSES) as node:
            operator = Mortal(proxy, tmp_path)
            await operator.start()
            try:
                await cluster.create(camera(namespace))
                await until(lambda: is_ready(cluster, namespace))
                await operator.at_rest()
                _assert_cost_of_a_camera(_cost(proxy.calls, namespace))

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
                assert cost["update streamsessions/status"] <= SESSION_STATUS_WRITES
                assert cost["delete streamsessions"] == 1
                written = [call for call in proxy.calls if call.resource == "streamsessions/status"]
                assert max(_stored(call) for call in written) < SESSION_BYTES

                # Whatever is looked at again, and whoever starts anew: nothing is written. How many watched may have
                # been written late; that nobody does any more is written ten seconds after.
                await until(lambda: _viewers(cluster, namespace, 0))
                await operator.at_rest(4)
                await until(lambda: _viewers(cluster, namespace, 0))
                await operator.at_rest()
                proxy.calls.clear()
                await operator.swept(2)
                assert _cost(proxy.calls, namespace) == {}, _bodies(proxy)
                await operator.end()
                await operator.start()
                await operator.swept(3)
                assert _cost(proxy.calls, namespace) == {}, _bodies(proxy)
            finally:
                await operator.end()


async def test_what_others_wrote_stays_and_drift_of_ours_does_not(apiserver: Apiserver, tmp_path: Path) -> None:
    async with connected(apiserver) as cluster:
        await default_class(cluster)
        namespace = await new_namespace(cluster, "drift")
        async with proxied(apiserver, tmp_path) as proxy, played_node(cluster, namespace, _ADDRESSES):
            operator = Mortal(proxy, tmp_path)
            await operator.start()
            try:
                await cluster.create(camera(namespace))
                await until(lambda: is_ready(cluster, namespace))
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


def _assert_cost_of_a_camera(cost: Counter[str]) -> None:
    """Until it is Ready."""
    assert cost.pop("update cameras/status") <= STATUS_WRITES
    assert cost.pop("create events", 0) + cost.pop("patch events", 0) <= EVENTS
    # The namespace's disruption budget comes with its first camera.
    assert cost == {"patch secrets": 1, "patch services": 1, "patch pods": 1, "patch poddisruptionbudgets": 1}


def _cost(calls: Sequence[Call], namespace: str) -> Counter[str]:
    """Writes in the namespace, by verb and resource."""
    return Counter(f"{call.verb} {call.resource}" for call in calls if call.writes and call.namespace == namespace)


def _bodies(proxy: FaultProxy) -> list[str]:
    return [call.body.decode() for call in proxy.calls if call.writes and call.body]


def _stored(call: Call) -> int:
    """Bytes of the object as it was written, as they are stored (compact, without what the server notes)."""
    obj = json.loads(call.body)
    obj["metadata"].pop("managedFields", None)
    return len(json.dumps(obj, separators=(",", ":")))


async def _viewers(cluster: RealCluster, namespace: str, count: int) -> bool:
    found = await cluster.get(CAMERA, namespace, "gate")
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
