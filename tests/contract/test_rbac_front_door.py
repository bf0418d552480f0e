"""The chart's RBAC against what the front door really calls, read off the wire: each call has a rule, each rule a call.

Its process runs before a real API server with a token that has the chart's rights and no others; who calls it has those
of the chart's roles for people, by a token of the cluster.
"""

import asyncio
import os
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Awaitable, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import httpx2
import pytest
from helm_python import Chart

from sightline_kube.kinds import CAMERA
from sightline_kube.real import RealCluster
from sightline_model.tokens import generate_private_key_pem
from tests.api.world import OFFER, SDP, FakeAgent
from tests.helpers.apiserver import NEEDS_APISERVER, ROOT, Apiserver, running_apiserver
from tests.helpers.chart import CHART, pick, render
from tests.helpers.fault_proxy import proxied
from tests.helpers.operator_objects import URL, connected, new_namespace
from tests.helpers.operator_process import end, until
from tests.helpers.ports import free_port
from tests.helpers.rights import Rights, granted, rights, token_with, unruly

pytestmark = NEEDS_APISERVER

AUDIENCE = "sightline"
SPEC = {"source": {"rtsp": {"url": URL}}}


@pytest.fixture(scope="module")
def apiserver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Apiserver]:
    with running_apiserver(tmp_path_factory.mktemp("apiserver"), crds=ROOT / "crds") as server:
        yield server


@pytest.mark.parametrize("scope", ["everywhere", "one namespace"])
async def test_each_call_has_a_rule_and_each_rule_a_call(apiserver: Apiserver, tmp_path: Path, scope: str) -> None:
    async with connected(apiserver) as cluster, proxied(apiserver, tmp_path) as proxy:
        namespace, own, home = [await new_namespace(cluster, title) for title in ("served", "own", "people")]
        served = [namespace] if scope == "one namespace" else []
        given = rights("api", served)
        token = await token_with(apiserver, given, namespace, own)
        person = await token_with(apiserver, Rights([], [], people()), home, home, [AUDIENCE])
        kubeconfig = proxy.kubeconfig_for(token, "front-door")
        async with front_door(kubeconfig, tmp_path, served, person) as http, FakeAgent().running() as agent:
            await cameras(http, namespace)
            await sessions(http, cluster, agent, namespace)
            await answered(204, http.delete(f"/v1/namespaces/{namespace}/cameras/gate"))
    calls = [call for call in proxy.calls if not call.resource.startswith("/")]
    assert unruly(calls, given) == []
    assert granted(given.all) - {(call.group, call.resource, call.verb) for call in calls} == set()
    wide = granted(given.cluster_wide)
    outside = [call for call in calls if (call.group, call.resource, call.verb) not in wide]
    assert [call for call in outside if served and call.namespace != namespace] == []


def people() -> Sequence[dict[str, object]]:
    """What the chart's roles for people allow."""
    with Chart.load(CHART) as chart:
        objects = render(chart)
    return [rule for part in ("view", "edit") for rule in pick(objects, "ClusterRole", f"sightline-{part}")["rules"]]


@asynccontextmanager
async def front_door(
    kubeconfig: Path, directory: Path, namespaces: Sequence[str], token: str
) -> AsyncIterator[httpx2.AsyncClient]:
    """The process as its image runs it, ready, and a client of somebody with this token."""
    key, port = directory / "signing.pem", free_port()
    key.write_bytes(generate_private_key_pem())
    named = ",".join(f'"{namespace}"' for namespace in namespaces)
    environment = {
        **os.environ,
        "KUBECONFIG": str(kubeconfig),
        "SIGHTLINE_API_SIGNING_KEY_FILE": str(key),
        "SIGHTLINE_API_HOST": "127.0.0.1",
        "SIGHTLINE_API_PORT": str(port),
        "SIGHTLINE_API_NAMESPACES": f"[{named}]",
        "SIGHTLINE_API_SHUTDOWN_DELAY": "0",
    }
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "sightline_api", env=environment)
    headers = {"Authorization": f"Bearer {token}"}
    try:
        async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=60) as http:
            await until(lambda: is_ready(process, http))
            yield http
        process.terminate()
        assert await asyncio.wait_for(process.wait(), 60) == 0
    finally:
        await end(process)


async def is_ready(process: Process, http: httpx2.AsyncClient) -> bool:
    assert process.returncode is None, "the front door has ended"
    try:
        return (await http.get("/readyz")).status_code == 200
    except httpx2.TransportError:
        return False


async def cameras(http: httpx2.AsyncClient, namespace: str) -> None:
    """One is made, seen, replaced and patched."""
    place = f"/v1/namespaces/{namespace}/cameras"
    await answered(201, http.post(place, json={"name": "gate", "spec": SPEC}))
    await until(lambda: shown(http, f"{place}/gate"))
    await answered(200, http.get("/v1/cameras"))
    await answered(200, http.put(f"{place}/gate", json={"spec": SPEC, "labels": {"floor": "1"}}))
    merge = {"Content-Type": "application/merge-patch+json"}
    await answered(200, http.patch(f"{place}/gate", content=b'{"labels": {"floor": "2"}}', headers=merge))


async def sessions(http: httpx2.AsyncClient, cluster: RealCluster, agent: FakeAgent, namespace: str) -> None:
    """Somebody watches, hangs up, and makes a session that nobody opens."""
    found = await cluster.get(CAMERA, namespace, "gate")
    await cluster.replace_status({**found, "status": {"agent": {"address": agent.address, "port": agent.port}}})
    watch = f"/v1/namespaces/{namespace}/cameras/gate/whep"
    await until(lambda: let_in(http, watch))
    made = await answered(201, http.post("/v1/sessions", json={"namespace": namespace, "camera": "gate"}))
    one = f"/v1/sessions/{namespace}/{made.json()['id']}"
    await answered(200, http.get("/v1/sessions"))
    await answered(200, http.get(one))
    await answered(204, http.delete(one))


async def shown(http: httpx2.AsyncClient, path: str) -> bool:
    return (await http.get(path)).status_code == 200


async def let_in(http: httpx2.AsyncClient, path: str) -> bool:
    return (await http.post(path, content=OFFER, headers=SDP)).status_code == 201


async def answered(status: int, request: Awaitable[httpx2.Response]) -> httpx2.Response:
    response = await request
    assert response.status_code == status, response.text
    return response
