"""The operator's process, with kopf, against a real API server. The kubelet and the agents are played by the test."""

import asyncio
import base64
import itertools
import json
import os
import re
import signal
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from helm_python import Chart
from kubernetes.aio import client as kubernetes
from kubernetes.aio import config

from sightline_kube.cluster import Obj
from sightline_kube.errors import AlreadyExistsError, NotFoundError
from sightline_kube.kinds import CAMERA, CAMERA_CLASS, POD, SECRET, SERVICE, STREAM_SESSION
from sightline_kube.real import RealCluster
from sightline_model import names
from sightline_model.agent import (
    CONFIG_FILE,
    CONTROL_PORT,
    AgentConfig,
    AgentEvent,
    AgentReport,
    SessionEvent,
    SessionReport,
    SnapshotEvent,
    SourceReport,
)
from sightline_model.base import API_VERSION
from sightline_model.reasons import EndReason, SourceReason
from sightline_model.session import SessionPhase
from sightline_model.tokens import generate_private_key_pem, verify
from tests.helpers.apiserver import ROOT, Apiserver, kube_binary, running_apiserver
from tests.helpers.chart import CHART, pick, render

pytestmark = [
    pytest.mark.apiserver,
    pytest.mark.skipif(not kube_binary().exists(), reason="the API server was not built: make cluster-build"),
]

_ADDRESSES = (f"127.78.{number // 250}.{number % 250 + 2}" for number in itertools.count())


@pytest.fixture(scope="module")
def apiserver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Apiserver]:
    directory = tmp_path_factory.mktemp("apiserver")
    with running_apiserver(directory, with_controller_manager=True, crds=ROOT / "crds") as server:
        yield server


@dataclass
class Agent:
    """An agent's control port, served by the test at an address of its own."""

    address: str
    config: AgentConfig
    source: SourceReport = field(default_factory=lambda: SourceReport(reason=SourceReason.IDLE, verified=True))
    sessions: dict[str, SessionReport] = field(default_factory=dict)
    configs: list[str] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)
    streams: list[asyncio.Queue[AgentEvent]] = field(default_factory=list)

    def report(self) -> AgentReport:
        return AgentReport(
            camera=self.config.camera,
            version="test",
            instance="one",
            revision=self.config.revision,
            started_at=datetime.now(UTC),
            source=self.source,
            sessions=list(self.sessions.values()),
        )

    def tell(self, event: AgentEvent) -> None:
        for stream in self.streams:
            stream.put_nowait(event)

    def set_session(self, sid: str, phase: SessionPhase, end: EndReason | None = None) -> None:
        now = datetime.now(UTC)
        report = SessionReport(id=sid, user="alice", phase=phase, end_reason=end, requested_at=now, answered_at=now)
        self.sessions[sid] = report
        self.tell(SessionEvent(session=report))

    def app(self) -> web.Application:
        app = web.Application()
        app.add_routes(
            [
                web.get("/v1/events", self._events),
                web.get("/v1/status", self._status),
                web.put("/v1/config", self._configure),
                web.delete("/v1/sessions/{sid}", self._end),
            ]
        )
        return app

    def _check(self, request: web.Request) -> None:
        token = request.headers["Authorization"].removeprefix("Bearer ")
        claims = verify(token, self.config.token_keys, self.config.camera.audience, datetime.now(UTC))
        assert claims.role == "Control"

    async def _events(self, request: web.Request) -> web.StreamResponse:
        self._check(request)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        stream: asyncio.Queue[AgentEvent] = asyncio.Queue()
        stream.put_nowait(SnapshotEvent(report=self.report()))
        self.streams.append(stream)
        try:
            while True:
                event = await stream.get()
                body = event.model_dump_json(exclude_none=True)
                await response.write(f"event: {event.type}\ndata: {body}\n\n".encode())
        except ConnectionError:
            return response  # the operator is gone
        finally:
            self.streams.remove(stream)

    async def _status(self, request: web.Request) -> web.Response:
        self._check(request)
        return web.Response(text=self.report().model_dump_json(exclude_none=True))

    async def _configure(self, request: web.Request) -> web.Response:
        self._check(request)
        self.config = AgentConfig.model_validate(await request.json())
        self.configs.append(self.config.revision)
        return await self._status(request)

    async def _end(self, request: web.Request) -> web.Response:
        self._check(request)
        sid = request.match_info["sid"]
        self.ended.append(sid)
        self.set_session(sid, SessionPhase.ENDED, EndReason(request.query["reason"]))
        return web.Response(status=204)


@dataclass
class Stage:
    """What a test works with."""

    cluster: RealCluster
    namespace: str
    process: asyncio.subprocess.Process
    port: int
    agents: dict[str, Agent] = field(default_factory=dict)
    runners: list[web.AppRunner] = field(default_factory=list)

    async def add_camera(self, name: str = "gate") -> Obj:
        return await self.cluster.create(
            {
                "apiVersion": API_VERSION,
                "kind": "Camera",
                "metadata": {"name": name, "namespace": self.namespace},
                "spec": {"source": {"rtsp": {"url": "rtsp://camera.example/one"}}},
            }
        )

    async def pods(self, camera: str = "gate") -> list[Obj]:
        listing = await self.cluster.list(POD, self.namespace, labels={names.CAMERA_LABEL: camera})
        return listing.items

    async def run_pod(self, camera: str = "gate") -> Agent:
        """Play kubelet: give the pod an address, and let an agent listen there."""
        await until(lambda: self._has_pod(camera))
        (pod,) = await self.pods(camera)
        secret = await self.cluster.get(SECRET, self.namespace, names.agent_secret(camera))
        config = AgentConfig.model_validate_json(base64.b64decode(secret["data"][CONFIG_FILE]))
        agent = Agent(next(_ADDRESSES), config)
        runner = web.AppRunner(agent.app(), access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, agent.address, CONTROL_PORT).start()
        self.runners.append(runner)
        moment = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        status = {
            "phase": "Running",
            "podIP": agent.address,
            "podIPs": [{"ip": agent.address}],
            "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": moment}],
        }
        await self.cluster.replace_status({**pod, "status": status})
        return agent

    async def _has_pod(self, camera: str) -> bool:
        return bool(await self.pods(camera))

    async def condition(self, type_: str, name: str = "gate") -> tuple[str, str]:
        camera = await self.cluster.get(CAMERA, self.namespace, name)
        for item in (camera.get("status") or {}).get("conditions") or []:
            if item["type"] == type_:
                return item["status"], item["reason"]
        return "", ""

    async def ready(self, name: str = "gate") -> None:
        async def is_ready() -> bool:
            return (await self.condition("Ready", name))[0] == "True"

        await until(is_ready)

    async def phase(self, sid: str) -> str:
        try:
            session = await self.cluster.get(STREAM_SESSION, self.namespace, sid)
        except NotFoundError:
            return "absent"
        return str(session["status"]["phase"])


async def until(condition: Callable[[], Awaitable[bool]], seconds: float = 30.0) -> None:
    async with asyncio.timeout(seconds):
        while not await condition():
            await asyncio.sleep(0.02)


@asynccontextmanager
async def stage(apiserver: Apiserver, directory: Path, **more: str) -> AsyncIterator[Stage]:
    """A namespace, a default class and a running operator."""
    cluster = await RealCluster.from_kubeconfig(str(apiserver.kubeconfig))
    namespace = f"test-{names.random_suffix(6)}"
    await cluster.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
    with suppress(AlreadyExistsError):
        await cluster.create(
            {
                "apiVersion": API_VERSION,
                "kind": CAMERA_CLASS.kind,
                "metadata": {"name": "default", "annotations": {names.DEFAULT_CLASS_ANNOTATION: "true"}},
                "spec": {"sessions": {"retention": "2s"}},
            }
        )
    here: Stage | None = None
    process, port = await start_operator(apiserver, directory, **more)
    try:
        here = Stage(cluster, namespace, process, port)
        yield here
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        for runner in here.runners if here else []:
            await runner.cleanup()
        await cluster.close()


async def start_operator(apiserver: Apiserver, directory: Path, **more: str) -> tuple[asyncio.subprocess.Process, int]:
    """`python -m sightline_operator`, as in its image; ready when this returns."""
    key = directory / "signing.pem"
    if not key.exists():
        key.write_bytes(generate_private_key_pem())
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = int(free.getsockname()[1])
    environment = {
        **os.environ,
        "KUBECONFIG": str(apiserver.kubeconfig),
        "SIGHTLINE_AGENT_IMAGE": "sightline-agent:test",
        "SIGHTLINE_SIGNING_KEY_FILE": str(key),
        "SIGHTLINE_HOST": "127.0.0.1",
        "SIGHTLINE_PORT": str(port),
        **more,
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "sightline_operator", env=environment, cwd=directory
    )

    async def is_ready() -> bool:
        assert process.returncode is None, "the operator has ended"
        try:
            return (await page(port, "/readyz"))[0] == 200
        except aiohttp.ClientError:
            return False

    await until(is_ready, 40)
    return process, port


async def page(port: int, path: str) -> tuple[int, str]:
    async with aiohttp.ClientSession() as http, http.get(f"http://127.0.0.1:{port}{path}") as response:
        return response.status, await response.text()


async def test_camera_session_edit_and_delete(apiserver: Apiserver, tmp_path: Path) -> None:
    async with stage(apiserver, tmp_path) as here:
        camera = await here.add_camera()
        agent = await here.run_pod()
        await here.ready()
        # Nothing is left of kopf on the object, and what was made is owned by the camera.
        stored = await here.cluster.get(CAMERA, here.namespace, "gate")
        assert not stored["metadata"].get("finalizers")
        assert not stored["metadata"].get("annotations")
        (pod,) = await here.pods()
        service = await here.cluster.get(SERVICE, here.namespace, "camera-gate")
        for child in (pod, service):
            assert child["metadata"]["ownerReferences"][0]["uid"] == camera["metadata"]["uid"]

        await here.cluster.create(
            {
                "apiVersion": API_VERSION,
                "kind": "StreamSession",
                "metadata": {"name": "s-one", "namespace": here.namespace},
                "spec": {"cameraRef": {"name": "gate"}, "user": "alice"},
            }
        )
        agent.set_session("s-one", SessionPhase.STREAMING)
        await until(lambda: _phase(here, "s-one", "Streaming"))

        url = "rtsp://camera.example/two"
        await here.cluster.merge_patch(CAMERA, here.namespace, "gate", {"spec": {"source": {"rtsp": {"url": url}}}})
        await until(lambda: _true(bool(agent.configs)))
        assert agent.config.source.rtsp
        assert agent.config.source.rtsp.url == url
        await here.ready()
        assert [item["metadata"]["uid"] for item in await here.pods()] == [pod["metadata"]["uid"]]

        await here.cluster.delete(CAMERA, here.namespace, "gate")
        await until(lambda: _phase(here, "s-one", "absent"))
        await until(lambda: _gone(here, "camera-gate"))


async def test_idle_writes_nothing_and_metrics_tell(apiserver: Apiserver, tmp_path: Path) -> None:
    async with stage(apiserver, tmp_path, SIGHTLINE_SWEEP_INTERVAL="1") as here:
        await here.add_camera()
        await here.run_pod()
        await here.ready()
        await until(lambda: _lists(here, 30))
        before = await here.cluster.get(CAMERA, here.namespace, "gate")
        (pod_before,) = await here.pods()
        await until(lambda: _lists(here, 50))  # four sweeps later
        after = await here.cluster.get(CAMERA, here.namespace, "gate")
        (pod_after,) = await here.pods()
        assert before["metadata"]["resourceVersion"] == after["metadata"]["resourceVersion"]
        assert pod_before["metadata"]["resourceVersion"] == pod_after["metadata"]["resourceVersion"]
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
        here.process.kill()
        await here.process.wait()
        await here.cluster.create(
            {
                "apiVersion": API_VERSION,
                "kind": "StreamSession",
                "metadata": {"name": "s-two", "namespace": here.namespace},
                "spec": {"cameraRef": {"name": "gate"}, "user": "alice"},
            }
        )
        agent.set_session("s-two", SessionPhase.STREAMING)
        here.process, here.port = await start_operator(apiserver, tmp_path)
        try:
            await until(lambda: _phase(here, "s-two", "Streaming"))
            assert [item["metadata"]["uid"] for item in await here.pods()] == [pod["metadata"]["uid"]]
            await here.cluster.delete(STREAM_SESSION, here.namespace, "s-two")
            await until(lambda: _true("s-two" in agent.ended))
            here.process.send_signal(signal.SIGTERM)
            async with asyncio.timeout(10):
                assert await here.process.wait() == 0
        finally:
            if here.process.returncode is None:
                here.process.kill()
                await here.process.wait()


def rules(namespace: str) -> tuple[list[Obj], list[Obj]]:
    """What the chart lets the operator do: in a namespace that it serves and where its Lease is, and besides."""
    with Chart.load(CHART) as chart:
        objects = render(chart, {"watchNamespaces": [namespace]})
    work, lease = (pick(objects, "Role", name)["rules"] for name in ("sightline-operator", "sightline-leader"))
    return work + lease, pick(objects, "ClusterRole", "sightline-operator")["rules"]


async def test_one_namespace_with_no_more_rights_than_needed(apiserver: Apiserver, tmp_path: Path) -> None:
    async with stage(apiserver, tmp_path) as everywhere:
        # The first operator only made the stage; the second one is the one with few rights.
        everywhere.process.kill()
        await everywhere.process.wait()
        few = await _kubeconfig_with_few_rights(apiserver, everywhere.namespace, tmp_path)
        here = everywhere
        here.process, here.port = await start_operator(
            apiserver,
            tmp_path,
            KUBECONFIG=str(few),
            SIGHTLINE_NAMESPACES=here.namespace,
            SIGHTLINE_LEASE_NAME="sightline-operator",
            SIGHTLINE_LEASE_NAMESPACE=here.namespace,
        )
        try:
            await here.add_camera()
            agent = await here.run_pod()
            await here.ready()
            await here.cluster.merge_patch(
                CAMERA, here.namespace, "gate", {"spec": {"source": {"rtsp": {"url": "rtsp://camera.example/two"}}}}
            )
            await until(lambda: _true(bool(agent.configs)))
            await here.cluster.merge_patch(
                CAMERA_CLASS, None, "default", {"spec": {"agent": {"image": f"agent:{here.namespace}"}}}
            )
            await until(lambda: _pods(here, 2))
            await here.cluster.delete(CAMERA, here.namespace, "gate")
            await until(lambda: _gone(here, "camera-gate"))
            _, text = await page(here.port, "/metrics")
            assert 'code="403"' not in text
        finally:
            here.process.kill()
            await here.process.wait()


async def _kubeconfig_with_few_rights(apiserver: Apiserver, namespace: str, directory: Path) -> Path:
    """A kubeconfig with the token of a service account that has exactly the rules of the chart."""
    configuration = kubernetes.Configuration()
    await config.load_kube_config(  # type: ignore[no-untyped-call]
        str(apiserver.kubeconfig), client_configuration=configuration, persist_config=False
    )
    admin = kubernetes.ApiClient(configuration)
    try:
        namespaced, cluster_wide = rules(namespace)
        core, rbac = kubernetes.CoreV1Api(admin), kubernetes.RbacAuthorizationV1Api(admin)
        named = {"metadata": {"name": f"operator-{namespace}"}}
        subjects = [{"kind": "ServiceAccount", "name": f"operator-{namespace}", "namespace": namespace}]

        def reference(kind: str) -> dict[str, str]:
            return {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": f"operator-{namespace}"}

        await core.create_namespaced_service_account(namespace, kubernetes.V1ServiceAccount.model_validate(named))
        await rbac.create_namespaced_role(namespace, kubernetes.V1Role.model_validate({**named, "rules": namespaced}))
        await rbac.create_namespaced_role_binding(
            namespace,
            kubernetes.V1RoleBinding.model_validate({**named, "roleRef": reference("Role"), "subjects": subjects}),
        )
        await rbac.create_cluster_role(kubernetes.V1ClusterRole.model_validate({**named, "rules": cluster_wide}))
        await rbac.create_cluster_role_binding(
            kubernetes.V1ClusterRoleBinding.model_validate(
                {**named, "roleRef": reference("ClusterRole"), "subjects": subjects}
            )
        )
        request = kubernetes.AuthenticationV1TokenRequest.model_validate({"spec": {"audiences": []}})
        answer = await core.create_namespaced_service_account_token(f"operator-{namespace}", namespace, request)
        assert answer.status
        token = str(answer.status.token)
    finally:
        await admin.close()  # type: ignore[no-untyped-call]
    cluster = {"server": configuration.host, "certificate-authority": configuration.ssl_ca_cert}
    path = directory / "few-rights.json"
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "test", "cluster": cluster}],
        "users": [{"name": "operator", "user": {"token": token}}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "operator"}}],
        "current-context": "test",
    }
    path.write_text(json.dumps(content))
    return path


async def _pods(here: Stage, count: int) -> bool:
    return len(await here.pods()) == count


async def _phase(here: Stage, sid: str, phase: str) -> bool:
    return await here.phase(sid) == phase


async def _lists(here: Stage, count: int) -> bool:
    """Whether the operator has asked the API server for so many lists: five are one sweep."""
    _, text = await page(here.port, "/metrics")
    found = re.search(r'rest_client_requests_total\{code="200",method="list"\} (\S+)', text)
    return found is not None and float(found[1]) >= count


async def _true(value: bool) -> bool:
    return value


async def _gone(here: Stage, name: str) -> bool:
    for kind in (SECRET, SERVICE):
        try:
            await here.cluster.get(kind, here.namespace, name)
        except NotFoundError:
            continue
        return False
    return not [pod for pod in await here.pods() if not pod["metadata"].get("deletionTimestamp")]
