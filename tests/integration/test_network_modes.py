"""What network modes ask of a real API server: its own books of node ports, and Pod Security.

The operator's core runs in the test; nobody plays the kubelet, so pods stay pending.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from sightline_kube.cache import Cache, Feed
from sightline_kube.cluster import Obj
from sightline_kube.errors import NotFoundError
from sightline_kube.kinds import CAMERA, CAMERA_CLASS, POD, SERVICE, UDP_ROUTE
from sightline_kube.real import RealCluster
from sightline_model import names
from sightline_model.base import API_VERSION
from sightline_model.cameraclass import NetworkMode
from sightline_model.tokens import Signer, generate_private_key_pem
from sightline_operator import network
from sightline_operator.agents import HttpAgentLinks
from sightline_operator.core import KINDS, Operator
from sightline_operator.facts import Options
from tests.helpers.apiserver import NEEDS_APISERVER, ROOT, Apiserver, running_apiserver
from tests.helpers.operator_objects import connected
from tests.helpers.operator_process import until

pytestmark = NEEDS_APISERVER

MODES: dict[str, dict[str, Any]] = {mode.value: {} for mode in NetworkMode} | {
    "Relay": {"turn": {"urls": ["turn:turn.example"], "secretRef": "coturn"}},
    "NodePort": {"portRange": {"first": 30100, "last": 30102}},
}
UDP_ROUTES = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "udproutes.stunner.l7mp.io"},
    "spec": {
        "group": "stunner.l7mp.io",
        "scope": "Namespaced",
        "names": {"plural": "udproutes", "singular": "udproute", "kind": "UDPRoute", "listKind": "UDPRouteList"},
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "schema": {
                    "openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
                },
            }
        ],
    },
}
"""STUNner's kind, as far as an API server needs it."""
PRIVILEGED = {"HostPort", "HostNetwork"}


@pytest.fixture(scope="module")
def apiserver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Apiserver]:
    crds = tmp_path_factory.mktemp("crds")
    for path in (ROOT / "crds").glob("*.yaml"):
        (crds / path.name).write_text(path.read_text())
    (crds / "udproutes.yaml").write_text(json.dumps(UDP_ROUTES))
    with running_apiserver(tmp_path_factory.mktemp("apiserver"), crds=crds) as server:
        yield server


@asynccontextmanager
async def working(apiserver: Apiserver) -> AsyncIterator[RealCluster]:
    """An operator at work on that server."""
    cache = Cache(KINDS)
    links = HttpAgentLinks(Signer.from_pem(generate_private_key_pem()))
    async with connected(apiserver) as cluster:
        operator = Operator(cluster, cache, links, Options(agent_image="agent:1"))
        async with Feed(cluster, cache, KINDS):
            task = asyncio.create_task(operator.run())
            try:
                yield cluster
                assert not task.done()
            finally:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task


async def make(cluster: RealCluster, mode: str, namespace: str, settings: dict[str, Any] | None = None) -> None:
    """A class of that mode, and a camera of the class."""
    name = mode.lower()
    made: list[Obj] = [
        {
            "apiVersion": API_VERSION,
            "kind": "CameraClass",
            "metadata": {"name": name},
            "spec": {"network": {"mode": mode, **(settings or MODES[mode])}},
        },
        {
            "apiVersion": API_VERSION,
            "kind": "Camera",
            "metadata": {"name": name, "namespace": namespace},
            "spec": {"className": name, "source": {"testPattern": {}}},
        },
    ]
    for obj in made:
        await cluster.create(obj)


async def pods_of(cluster: RealCluster, camera: str, namespace: str) -> list[Obj]:
    return list((await cluster.list(POD, namespace, labels={names.CAMERA_LABEL: camera})).items)


async def add_namespace(cluster: RealCluster, name: str, level: str) -> None:
    """A namespace where Pod Security lets in pods of that level."""
    labels = {"pod-security.kubernetes.io/enforce": level}
    await cluster.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})


async def test_every_mode_passes_the_pod_security_that_it_says(apiserver: Apiserver) -> None:
    """`restricted` takes four of the modes; the other two are refused, with what to do."""
    async with working(apiserver) as cluster:
        await add_namespace(cluster, "strict", "restricted")
        for mode in MODES:
            await make(cluster, mode, "strict")
        for mode in MODES.keys() - PRIVILEGED:

            async def has_pod(camera: str = mode.lower()) -> bool:
                return bool(await pods_of(cluster, camera, "strict"))

            await until(has_pod)
        for mode in sorted(PRIVILEGED):

            async def is_refused(camera: str = mode.lower()) -> bool:
                status = (await cluster.get(CAMERA, "strict", camera)).get("status") or {}
                found = {item["type"]: item for item in status.get("conditions") or []}.get("AgentReady", {})
                return found.get("reason") == "PodRefused" and "enforce=privileged" in found["message"]

            await until(is_refused)
            assert await pods_of(cluster, mode.lower(), "strict") == []
        for mode in MODES:
            await cluster.delete(CAMERA, "strict", mode.lower())
            await cluster.delete(CAMERA_CLASS, "", mode.lower())


async def test_privileged_namespaces_take_every_mode(apiserver: Apiserver) -> None:
    async with working(apiserver) as cluster:
        await add_namespace(cluster, "open", "privileged")
        for mode in sorted(PRIVILEGED):
            await make(cluster, mode, "open")

            async def has_pod(camera: str = mode.lower()) -> bool:
                return bool(await pods_of(cluster, camera, "open"))

            await until(has_pod)
            [pod] = await pods_of(cluster, mode.lower(), "open")
            assert network.leased(pod)
            await cluster.delete(CAMERA, "open", mode.lower())
            await cluster.delete(CAMERA_CLASS, "", mode.lower())


async def test_a_node_port_that_somebody_else_has_is_passed_over(apiserver: Apiserver) -> None:
    foreign = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "foreign", "namespace": "ports"},
        "spec": {
            "type": "NodePort",
            "selector": {"app": "other"},
            "ports": [{"port": 80, "protocol": "UDP", "nodePort": 30110}],
        },
    }
    async with working(apiserver) as cluster:
        await add_namespace(cluster, "ports", "restricted")
        await cluster.create(foreign)
        await make(cluster, "NodePort", "ports", {"portRange": {"first": 30110, "last": 30112}})

        async def has_pod() -> bool:
            return bool(await pods_of(cluster, "nodeport", "ports"))

        await until(has_pod)
        [pod] = await pods_of(cluster, "nodeport", "ports")
        port = network.leased(pod)
        assert port in {30111, 30112}
        service = await cluster.get(SERVICE, "ports", pod["metadata"]["name"])
        assert service["spec"]["ports"][0]["nodePort"] == port
        assert service["spec"]["externalTrafficPolicy"] == "Local"


async def test_a_route_of_stunner_comes_and_goes_with_the_gateway(apiserver: Apiserver) -> None:
    turn = {"urls": ["turn:turn.example"], "secretRef": "coturn", "gatewayRef": {"namespace": "stunner", "name": "udp"}}
    async with working(apiserver) as cluster:
        await add_namespace(cluster, "relayed", "restricted")
        await make(cluster, "Relay", "relayed", {"turn": turn})

        async def has_route() -> bool:
            try:
                return bool(await cluster.get(UDP_ROUTE, "relayed", "camera-relay"))
            except NotFoundError:
                return False

        await until(has_route)
        route = await cluster.get(UDP_ROUTE, "relayed", "camera-relay")
        assert route["spec"]["parentRefs"] == [{"namespace": "stunner", "name": "udp"}]
        assert route["metadata"]["ownerReferences"][0]["kind"] == "Camera"
        await cluster.merge_patch(CAMERA_CLASS, "", "relay", {"spec": {"network": {"turn": {"gatewayRef": None}}}})

        async def has_none() -> bool:
            return not await has_route()

        await until(has_none)
        await cluster.delete(CAMERA, "relayed", "relay")
        await cluster.delete(CAMERA_CLASS, "", "relay")
