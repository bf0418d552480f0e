"""The local Kubernetes node: control plane, container runtime, kubelet, scheduler and kube-proxy.

`start` brings up what is not running, so it repairs a node whose parts were killed: pods keep running under
their shims meanwhile. What `start` changes outside the node's folder (bridge, forwarding, nat chains) is
noted in `state.json`, for `teardown.py` to undo.
"""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

import yaml

from hack.cluster import packages
from hack.cluster.console import Stopwatch, say
from hack.cluster.controlplane import ControlPlane, Ports, free_ports, is_port_free
from hack.cluster.errors import ClusterError
from hack.cluster.network import BRIDGE, FORWARDING, PodNetwork, bridge_exists, make_bridge, nat_rules, write_cni
from hack.cluster.paths import kube_binary, node_dir
from hack.cluster.pki import CLIENTS, Client
from hack.cluster.processes import Supervisor, wait_until
from hack.cluster.runtime import Runtime
from hack.cluster.toolchain import build_kube

NODE_NAME = "sightline-local"
DEFAULT_API_PORT = 6443
SOCKET_PATH_LIMIT = 107  # bytes of a Unix socket's path
READY_TIMEOUT = 180.0

# Folders that the kubelet and the network plugins make whatever their settings say; children first.
DEVICE_PLUGINS = "/var/lib/kubelet/device-plugins"
FIXED_FOLDERS = (
    DEVICE_PLUGINS,
    "/var/lib/kubelet",
    "/var/log/containers",
    "/var/lib/cni/results",
    "/var/lib/cni",
    "/run/containerd/runc/k8s.io",
    "/run/containerd/runc",
    "/run/containerd/s",
    "/run/containerd",
)
NODE_CLIENT = Client("node", f"system:node:{NODE_NAME}", "system:nodes")

# One node gets no address range of its own to hand out: the bridge's plugin does that.
CONTROLLERS = "*,-node-ipam-controller"


@dataclass(frozen=True)
class State:
    """What has to be known again by a later call: ports, and how the machine was before."""

    ports: Ports
    nat_rules: list[str]
    forwarding: str
    absent_folders: list[str]

    def save(self, directory: Path) -> None:
        """Write it beside everything else of the node."""
        (directory / "state.json").write_text(json.dumps(asdict(self), indent=2))

    @classmethod
    def load(cls, directory: Path) -> "State | None":
        """None when no node was started in this folder."""
        try:
            stored = json.loads((directory / "state.json").read_text())
        except FileNotFoundError:
            return None
        return cls(ports=Ports(**stored.pop("ports")), **stored)


def start(api_port: int | None) -> ControlPlane:
    """Start the node, or the parts of it that are not running; back when it is Ready."""
    if os.geteuid() != 0:
        raise ClusterError("the local node needs root (containers, a bridge, nat rules); `make dev` does not")
    directory, network = node_dir(), PodNetwork.configured()
    if len(f"{directory}/kubelet/device-plugins/kubelet.sock") > SOCKET_PATH_LIMIT:
        raise ClusterError(f"{directory} is too long a path for sockets: set SIGHTLINE_BUILD to a shorter one")
    packages.ensure(packages.NODE)
    build_kube()
    supervisor, watch = Supervisor(directory), Stopwatch()
    state = _state(directory, api_port)
    plane = ControlPlane(directory, state.ports, network.gateway, (*CLIENTS, NODE_CLIENT))
    if _all_running(supervisor) and plane.is_ready() and _is_node_ready(plane):
        say("the local node is running already")
        return plane
    _start_parts(plane, network, supervisor)
    say(f"the local node is Ready after {watch}")
    return plane


def running(directory: Path) -> ControlPlane | None:
    """The control plane of a started node."""
    state = State.load(directory)
    if state is None or not _all_running(Supervisor(directory)):
        return None
    return ControlPlane(directory, state.ports, PodNetwork.configured().gateway, (*CLIENTS, NODE_CLIENT))


PARTS = (
    "containerd",
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kubelet",
    "kube-proxy",
)


def _all_running(supervisor: Supervisor) -> bool:
    return all(supervisor.is_running(name) for name in PARTS)


def _state(directory: Path, api_port: int | None) -> State:
    state = State.load(directory)
    if state is not None:
        if api_port not in (None, state.ports.api):
            raise ClusterError(f"the node was started on port {state.ports.api}: take it down first")
        return state
    port = api_port or _configured_port()
    if not is_port_free(port):
        raise ClusterError(f"port {port} is in use: choose another with --api-port or SIGHTLINE_API_PORT")
    if bridge_exists():
        raise ClusterError(f"the bridge {BRIDGE} is there: a node of another folder is up, take that down first")
    directory.mkdir(parents=True, exist_ok=True)
    state = State(
        free_ports(port),
        nat_rules(),
        FORWARDING.read_text().strip(),
        [folder for folder in FIXED_FOLDERS if not Path(folder).exists()],
    )
    state.save(directory)
    return state


def _configured_port() -> int:
    text = os.environ.get("SIGHTLINE_API_PORT", str(DEFAULT_API_PORT))
    if not text.isdecimal() or not 0 < int(text) < 65536:
        raise ClusterError(f"SIGHTLINE_API_PORT={text} is no port such as {DEFAULT_API_PORT}")
    return int(text)


def _start_parts(plane: ControlPlane, network: PodNetwork, supervisor: Supervisor) -> None:
    directory, runtime = plane.directory, Runtime(plane.directory)
    plane.write_identities()
    make_bridge(network)
    write_cni(network, runtime.cni, runtime.leases)
    runtime.start(supervisor)
    plane.start(supervisor)
    plane.start_controller_manager(supervisor, CONTROLLERS)
    scheduler = [
        f"--kubeconfig={plane.client_config('scheduler')}",
        "--leader-elect=false",
        "--secure-port=0",
    ]
    supervisor.start("kube-scheduler", [kube_binary(), "kube-scheduler", *scheduler])
    (directory / "kubelet.yaml").write_text(yaml.safe_dump(_kubelet_config(plane, runtime)))
    kubelet = [
        f"--config={directory}/kubelet.yaml",
        f"--kubeconfig={plane.client_config('node')}",
        f"--hostname-override={NODE_NAME}",
        f"--node-ip={network.gateway}",
        f"--root-dir={directory}/kubelet",
        f"--cert-dir={directory}/kubelet/pki",
    ]
    supervisor.start("kubelet", [kube_binary(), "kubelet", *kubelet], {"PATH": packages.SEARCH_PATH})
    supervisor.require("kubelet", lambda: _is_node_ready(plane), READY_TIMEOUT)
    # Not earlier: kube-proxy asks once for the node's address and does nothing useful without it.
    proxy = [
        f"--kubeconfig={plane.client_config('proxy')}",
        f"--cluster-cidr={network.pods}",
        f"--hostname-override={NODE_NAME}",
        "--proxy-mode=nftables",
        # Two pods of one bridge answer each other directly, past the node's address translation, unless the
        # call seems to come from the node.
        "--masquerade-all",
        "--healthz-bind-address=127.0.0.1:10256",
        "--conntrack-max-per-core=0",  # the machine's own limits are left alone
    ]
    supervisor.start("kube-proxy", [kube_binary(), "kube-proxy", *proxy], {"PATH": packages.SEARCH_PATH})
    if not wait_until(lambda: _default_account_exists(plane), READY_TIMEOUT):
        raise ClusterError("the controllers made no default service account: see kube-controller-manager.log")


def _kubelet_config(plane: ControlPlane, runtime: Runtime) -> dict[str, object]:
    resolved = Path("/run/systemd/resolve/resolv.conf")  # the plain file names a loopback resolver then
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(plane.authority.path("ca.crt"))},
        },
        "authorization": {"mode": "Webhook"},
        "containerRuntimeEndpoint": f"unix://{runtime.socket}",
        "cgroupDriver": "cgroupfs",
        "failSwapOn": False,
        "failCgroupV1": False,
        "evictionHard": {},  # a full disk of the machine is not the node's business
        "localStorageCapacityIsolation": False,
        "makeIPTablesUtilChains": False,
        "healthzPort": 0,
        "podLogsDir": f"{plane.directory}/pod-logs",
        "volumePluginDir": f"{plane.directory}/volume-plugins",
        "resolvConf": str(resolved if resolved.exists() else Path("/etc/resolv.conf")),
        "imageGCHighThresholdPercent": 100,  # the images were built here and come from nowhere else
    }


def _is_node_ready(plane: ControlPlane) -> bool:
    try:
        node = json.loads(plane.request("GET", f"/api/v1/nodes/{NODE_NAME}"))
    except (OSError, ClusterError):
        return False
    conditions = node["status"].get("conditions", [])
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


def _default_account_exists(plane: ControlPlane) -> bool:
    try:
        plane.request("GET", "/api/v1/namespaces/default/serviceaccounts/default")
    except (OSError, ClusterError):
        return False
    return True
