"""The chart's RBAC against what the operator really calls, read off the wire: each call has a rule, each rule a call.

A proxy before a real API server writes the calls down; the operator's process runs with a token that has the chart's
rights and no others. Some calls are made only after a failure, so the proxy lets some writes meet a conflict.
"""

import asyncio
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import pytest

from sightline_kube.cluster import Obj
from sightline_kube.errors import NotFoundError
from sightline_kube.kinds import CAMERA, CAMERA_CLASS, POD, POD_DISRUPTION_BUDGET, SERVICE, STREAM_SESSION
from sightline_kube.real import RealCluster
from sightline_model.session import SessionPhase
from tests.helpers.apiserver import NEEDS_APISERVER, ROOT, Apiserver, running_apiserver
from tests.helpers.fault_proxy import Call, Fault, FaultProxy, proxied
from tests.helpers.operator_objects import (
    camera,
    connected,
    default_class,
    is_ready,
    new_namespace,
    phase_of,
    session,
)
from tests.helpers.operator_process import end, start_operator, until
from tests.helpers.played_node import PlayedNode, addresses, played_node
from tests.helpers.rights import Rights, granted, rights, token_with, unruly

pytestmark = NEEDS_APISERVER

LEASE_NAME = "sightline-operator"
NOT_CALLED = {
    ("sightline.dev", "cameras/finalizers", "update"): "asked for by admission (OwnerReferencesPermissionEnforcement)",
    ("", "services", "delete"): "a former camera's, or those of single pods where the network mode changed",
    ("", "events", "patch"): "an Event that comes again",
}
"""Rights that no call of this life needs: who asks for them. Tests of the parts do."""
_ADDRESSES = addresses(84)


@pytest.fixture(scope="module")
def apiserver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Apiserver]:
    directory = tmp_path_factory.mktemp("apiserver")
    with running_apiserver(directory, with_controller_manager=True, crds=ROOT / "crds") as server:
        yield server


class Conflicts:
    """The first write of each status meets a conflict, so that its object is read again."""

    def __init__(self) -> None:
        self._met: set[str] = set()

    def __call__(self, call: Call) -> Fault | None:
        if call.verb != "update" or not call.resource.endswith("/status") or call.resource in self._met:
            return None
        self._met.add(call.resource)
        return Fault(status=409)


@pytest.mark.parametrize("scope", ["everywhere", "one namespace"])
async def test_each_call_has_a_rule_and_each_rule_a_call(apiserver: Apiserver, tmp_path: Path, scope: str) -> None:
    async with connected(apiserver) as cluster:
        await default_class(cluster)
        namespace, own = await new_namespace(cluster, "rbac"), await new_namespace(cluster, "own")
        served = [namespace] if scope == "one namespace" else []
        given = rights("operator", served)
        token = await token_with(apiserver, given, namespace, own)
        async with proxied(apiserver, tmp_path) as proxy, played_node(cluster, namespace, _ADDRESSES) as node:
            proxy.plan = Conflicts()
            process, _ = await start_operator(
                Apiserver(proxy.kubeconfig_for(token, "operator"), ""),
                tmp_path,
                SIGHTLINE_NAMESPACES=",".join(served),
                SIGHTLINE_OWNER_ROLE="sightline-operator",
                SIGHTLINE_LEASE_NAME=LEASE_NAME,
                SIGHTLINE_LEASE_NAMESPACE=own,
            )
            try:
                await _life(cluster, namespace, node)
                await _replaced(cluster, namespace)
                await cluster.delete(CAMERA, namespace, "gate")
                await until(lambda: _without_budget(cluster, namespace))
                await until(lambda: _has_used(proxy, given))
                process.terminate()
                await asyncio.wait_for(process.wait(), 30)
            finally:
                await end(process)
    calls = [call for call in proxy.calls if not call.resource.startswith("/")]
    assert unruly(calls, given) == []
    assert _unused(calls, given) <= set(NOT_CALLED)
    _stays_in(calls, given, {namespace, own} if served else set())


async def _life(cluster: RealCluster, namespace: str, node: PlayedNode) -> None:
    """A camera, a viewer, a revoked one, an edit, another image, the end of the first viewer's retention."""
    await cluster.create(camera(namespace))
    await until(lambda: is_ready(cluster, namespace))
    for sid in ("s-one", "s-two"):
        await cluster.create(session(namespace, sid))
        node.of("gate")[0].set_session(sid, SessionPhase.STREAMING)
        await until(partial(_streams, cluster, namespace, sid))
    await cluster.delete(STREAM_SESSION, namespace, "s-two")
    await until(lambda: _revoked(node))
    image = {"spec": {"agent": {"image": f"agent:{namespace}"}}}
    await cluster.merge_patch(CAMERA_CLASS, None, "default", image)
    await until(lambda: _runs(cluster, namespace, f"agent:{namespace}"))
    await until(lambda: is_ready(cluster, namespace))


async def _replaced(cluster: RealCluster, namespace: str) -> None:
    """The camera goes and comes back at once, while what the old one owned may still be there."""
    (old,) = (await cluster.list(POD, namespace)).items
    await cluster.delete(CAMERA, namespace, "gate")
    await cluster.create(camera(namespace))
    await until(lambda: _has_another_pod(cluster, namespace, old))


def _stays_in(calls: Sequence[Call], given: Rights, namespaces: set[str]) -> None:
    """With Roles alone nothing of a namespace is asked for outside of it."""
    wide = granted(given.cluster_wide)
    for call in calls:
        assert not namespaces or call.namespace in namespaces or (call.group, call.resource, call.verb) in wide
        assert not (call.resource == "secrets" and call.verb in {"get", "list", "watch", "delete"}), call


async def _streams(cluster: RealCluster, namespace: str, sid: str) -> bool:
    return await phase_of(cluster, namespace, sid) == "Streaming"


async def _revoked(node: PlayedNode) -> bool:
    return any("s-two" in agent.ended for agent in node.of("gate"))


async def _runs(cluster: RealCluster, namespace: str, image: str) -> bool:
    return [pod["spec"]["containers"][0]["image"] for pod in (await cluster.list(POD, namespace)).items] == [image]


async def _has_another_pod(cluster: RealCluster, namespace: str, old: Obj) -> bool:
    uids = [pod["metadata"]["uid"] for pod in (await cluster.list(POD, namespace)).items]
    try:
        service = await cluster.get(SERVICE, namespace, "camera-gate")
    except NotFoundError:
        return False
    mine = (await cluster.get(CAMERA, namespace, "gate"))["metadata"]["uid"]
    ours = service["metadata"]["ownerReferences"][0]["uid"] == mine
    return ours and bool(uids) and old["metadata"]["uid"] not in uids


async def _without_budget(cluster: RealCluster, namespace: str) -> bool:
    return not (await cluster.list(POD_DISRUPTION_BUDGET, namespace)).items


async def _has_used(proxy: FaultProxy, given: Rights) -> bool:
    """Whether every right has been used that this life needs: a renewal, an Event, the end of a retention come late."""
    return _unused(proxy.calls, given) <= set(NOT_CALLED)


def _unused(calls: Sequence[Call], given: Rights) -> set[tuple[str, str, str]]:
    used = {(call.group, call.resource, call.verb) for call in calls}
    # Server-side apply of what is not there is a create, too.
    used |= {(call.group, call.resource, "create") for call in calls if call.verb == "patch" and call.status == 201}
    return granted(given.all) - used
