"""The world of `make bench-scale`: control plane, scheduler, KWOK's nodes, and the operator's process.

All of it is on this machine, in a network namespace of its own, and shares the cores with what is measured.
"""

import asyncio
import json
import os
import re
import resource
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import yaml

from hack.cluster import toolchain
from hack.cluster.controlplane import ControlPlane, free_ports
from hack.cluster.paths import ROOT, kube_binary
from hack.cluster.processes import Supervisor
from sightline_kube.cluster import Obj
from sightline_model.tokens import generate_private_key_pem

ACCOUNTS = "default"
"""The namespace of the service accounts."""
PODS_PER_NODE = 1000
POD_NETWORK = "127.128.0.0/9"
"""Addresses of pods: loopback, so that one process can be all agents."""
LEASE = "sightline-operator"
_TICKS = os.sysconf("SC_CLK_TCK")
_READY_SECONDS = 60.0
_WRITES = ("POST", "PUT", "PATCH", "APPLY", "DELETE")


@contextmanager
def control_plane(directory: Path) -> Iterator[tuple[ControlPlane, Supervisor]]:
    """etcd, API server, scheduler and KWOK while the context lasts."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    plane, supervisor = ControlPlane(directory, free_ports()), Supervisor(directory)
    plane.write_identities()
    try:
        plane.start(supervisor)
        plane.create_crds(ROOT / "crds")
        scheduler = ["--leader-elect=false", "--secure-port=0", "--kube-api-qps=1000", "--kube-api-burst=2000"]
        config = f"--kubeconfig={plane.client_config('scheduler')}"
        supervisor.start("kube-scheduler", [kube_binary(), "kube-scheduler", config, *scheduler])
        rules = directory / "stages.yaml"
        rules.write_text(yaml.safe_dump_all(stages()))
        kwok = ["--manage-all-nodes", f"--cidr={POD_NETWORK}", f"--config={rules}", f"--kubeconfig={plane.kubeconfig}"]
        supervisor.start("kwok", [toolchain.kwok(), *kwok])
        yield plane, supervisor
    finally:
        for name in ("kwok", "kube-scheduler", "kube-apiserver", "etcd"):
            supervisor.stop(name)


def account(plane: ControlPlane, name: str) -> Path:
    """The kubeconfig of a service account that may do everything: with a token, as pods have it. For a client
    certificate the API server would check signatures at each request, a fifteenth of its work here."""
    path = plane.directory / f"{name}.kubeconfig"
    if path.exists():
        return path
    core, rbac = f"/api/v1/namespaces/{ACCOUNTS}/serviceaccounts", "rbac.authorization.k8s.io"
    made = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}}
    plane.request("POST", core, json.dumps(made).encode())
    binding = {
        "apiVersion": f"{rbac}/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": name},
        "roleRef": {"apiGroup": rbac, "kind": "ClusterRole", "name": "cluster-admin"},
        "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": ACCOUNTS}],
    }
    plane.request("POST", f"/apis/{rbac}/v1/clusterrolebindings", json.dumps(binding).encode())
    asked = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 86400}}
    token = json.loads(plane.request("POST", f"{core}/{name}/token", json.dumps(asked).encode()))["status"]["token"]
    config = yaml.safe_load(plane.kubeconfig.read_text())
    config["users"][0]["user"] = {"token": token}
    path.touch(mode=0o600)
    path.write_text(yaml.safe_dump(config))
    return path


def node(number: int) -> Obj:
    """A node of KWOK's, with room for many pods."""
    size = {"cpu": "10000", "memory": "100Ti", "pods": str(PODS_PER_NODE)}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": f"node-{number}"},
        "status": {
            "allocatable": size,
            "capacity": size,
            "addresses": [{"type": "InternalIP", "address": f"127.1.0.{number + 1}"}],
        },
    }


def stages() -> Iterator[Obj]:
    """What KWOK does: nodes are ready, a pod that was bound runs at once, one that is to be deleted is gone at once."""
    ready = '.status.conditions.[] | select( .type == "Ready" ) | .status'
    unready = {"key": ready, "operator": "NotIn", "values": ["True"]}
    status = 'conditions:\n- {type: Ready, status: "True", reason: Played, lastTransitionTime: {{ Now | Quote }}}\n'
    yield _stage("Node", "node-ready", [unready], {"statusTemplate": status})
    fresh = {"key": ".metadata.deletionTimestamp", "operator": "DoesNotExist"}
    pending = {"key": ".status.phase", "operator": "In", "values": ["Pending"]}
    template = """
{{ $now := Now }}
{{ $pod := .metadata }}
{{ $address := PodIPWith .spec.nodeName false $pod.uid $pod.name $pod.namespace }}
phase: Running
podIP: {{ $address | Quote }}
podIPs: [{ip: {{ $address | Quote }}}]
startTime: {{ $now | Quote }}
conditions:
- {type: Ready, status: "True", lastTransitionTime: {{ $now | Quote }}}
containerStatuses:
{{ range .spec.containers }}
- name: {{ .name | Quote }}
  image: {{ .image | Quote }}
  ready: true
  restartCount: 0
  state: {running: {startedAt: {{ $now | Quote }}}}
{{ end }}
"""
    yield _stage("Pod", "pod-runs", [fresh, pending], {"statusTemplate": template})
    gone = {"key": ".metadata.deletionTimestamp", "operator": "Exists"}
    yield _stage("Pod", "pod-gone", [gone], {"finalizers": {"empty": True}, "delete": True})


def _stage(kind: str, name: str, expressions: list[Obj], following: Obj) -> Obj:
    return {
        "apiVersion": "kwok.x-k8s.io/v1alpha1",
        "kind": "Stage",
        "metadata": {"name": name},
        "spec": {
            "resourceRef": {"apiGroup": "v1", "kind": kind},
            "selector": {"matchExpressions": expressions},
            "next": following,
        },
    }


@dataclass(frozen=True)
class Usage:
    """What a process has taken so far."""

    cpu_seconds: float
    memory_mb: float
    peak_mb: float


class OperatorProcess:
    """`python -m sightline_operator`, as in its image, with a Lease."""

    def __init__(self, plane: ControlPlane, directory: Path, port: int) -> None:
        self._directory = directory
        self._port = port
        key = directory / "signing.pem"
        if not key.exists():
            key.write_bytes(generate_private_key_pem())
        # As in the image, its byte-code is there when it starts again.
        self._environment = {
            **{name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"},
            "PYTHONPYCACHEPREFIX": str(directory / "bytecode"),
            "KUBECONFIG": str(account(plane, "operator")),
            "SIGHTLINE_AGENT_IMAGE": "sightline-agent:bench",
            "SIGHTLINE_SIGNING_KEY_FILE": str(key),
            "SIGHTLINE_HOST": "127.0.0.1",
            "SIGHTLINE_PORT": str(port),
            "SIGHTLINE_LEASE_NAME": LEASE,
            "SIGHTLINE_LOG_LEVEL": "WARNING",
        }
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Back when the process runs, which is long before it is ready."""
        with (self._directory / "operator.log").open("ab") as log:
            command = [sys.executable, "-m", "sightline_operator"]
            self._process = await asyncio.create_subprocess_exec(
                *command, env=self._environment, cwd=self._directory, stdout=log, stderr=log
            )

    def runs(self) -> bool:
        """Whether there is a process."""
        return self._process is not None and self._process.returncode is None

    async def kill(self) -> None:
        """SIGKILL."""
        if self._process is not None and self.runs():
            self._process.kill()
            await self._process.wait()

    async def figures(self) -> dict[str, float]:
        """Its metrics by name and labels, as they stand on the page; empty while it does not answer."""
        try:
            page = f"http://127.0.0.1:{self._port}/metrics"
            async with aiohttp.ClientSession() as http, http.get(page) as answer:
                return _figures(await answer.text())
        except aiohttp.ClientError:
            assert self._process is not None
            assert self._process.returncode is None, "the operator has ended: see operator.log"
            return {}

    def usage(self) -> Usage:
        """Of the process."""
        assert self._process is not None
        lines = Path(f"/proc/{self._process.pid}/status").read_text().splitlines()
        status = dict(line.split(":", 1) for line in lines if ":" in line)
        return Usage(
            _cpu_seconds(self._process.pid),
            int(status["VmRSS"].split()[0]) / 1024,
            int(status["VmHWM"].split()[0]) / 1024,
        )


def spent(plane: ControlPlane) -> dict[str, float]:
    """Seconds of CPU that each part of the control plane has taken so far."""
    records = sorted((plane.directory / "run").glob("*.json"))
    return {record.stem: _cpu_seconds(json.loads(record.read_text())["pid"]) for record in records}


def writes(plane: ControlPlane) -> Counter[str]:
    """Writes that the API server has answered, by resource: its own books, whoever wrote."""
    text = plane.request("GET", "/metrics").decode()
    found: Counter[str] = Counter()
    for labels, value in re.findall(r"^apiserver_request_total\{(.*)\} (\S+)$", text, re.MULTILINE):
        named = dict(re.findall(r'(\w+)="([^"]*)"', labels))
        if named["verb"] in _WRITES:
            found["/".join(filter(None, (named["resource"], named["subresource"])))] += int(float(value))
    return found


async def until(condition: Callable[[], Awaitable[bool]], seconds: float, what: str, pause: float) -> None:
    """Back when the condition holds; TimeoutError if it does not in time, with `what` was waited for."""
    try:
        async with asyncio.timeout(seconds):
            while not await condition():
                await asyncio.sleep(pause)
    except TimeoutError:
        raise TimeoutError(f"not within {seconds:.0f} s: {what}") from None


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def _figures(page: str) -> dict[str, float]:
    lines = (line.rpartition(" ") for line in page.splitlines() if line and not line.startswith("#"))
    return {name: float(value) for name, _, value in lines}
