"""etcd, kube-apiserver and, on request, kube-controller-manager, all in one folder.

Used twice: as the whole of a test's cluster (Pods stay objects there, nothing runs them) and as the lower
half of the local node (`node.py`). Several run side by side, each with its own folder and ports.
"""

import json
import socket
import ssl
import urllib.error
import urllib.request
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from hack.cluster.errors import ClusterError
from hack.cluster.paths import kube_binary
from hack.cluster.pki import CLIENTS, Authority, Client
from hack.cluster.processes import Supervisor

SERVICE_NETWORK = "10.96.0.0/16"
SERVICE_ADDRESS = "10.96.0.1"
READY_TIMEOUT = 120.0

# What a cluster without a kubelet needs of the controllers: deletion that follows owners and namespaces, and evictions
# that ask budgets.
TEST_CONTROLLERS = "disruption-controller,garbage-collector-controller,namespace-controller,serviceaccount-controller"


@dataclass(frozen=True)
class Ports:
    """Ports on this machine."""

    api: int
    etcd: int
    etcd_peer: int


def free_ports(api: int | None = None) -> Ports:
    """Ports nobody listens on just now; they are held together, so that they differ."""
    with ExitStack() as held:
        numbers = []
        for _ in range(3):
            listener = held.enter_context(socket.socket())
            listener.bind(("127.0.0.1", 0))
            numbers.append(int(listener.getsockname()[1]))
    return Ports(api or numbers[0], numbers[1], numbers[2])


def is_port_free(port: int) -> bool:
    """True when nobody listens on the port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError:
            return False
    return True


@dataclass(frozen=True)
class ControlPlane:
    """One control plane. `node_address` is set when a kubelet and pods will use it as well."""

    directory: Path
    ports: Ports
    node_address: str | None = None
    clients: Sequence[Client] = CLIENTS

    @property
    def url(self) -> str:
        """Address of the API server as seen from this machine."""
        return f"https://127.0.0.1:{self.ports.api}"

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig."""
        return self.directory / "kubeconfig"

    @property
    def authority(self) -> Authority:
        """The folder of certificates."""
        return Authority(self.directory / "pki")

    @property
    def supervisor(self) -> Supervisor:
        """Starts and ends this folder's processes."""
        return Supervisor(self.directory)

    def client_config(self, client: str) -> Path:
        """A part's own kubeconfig."""
        return self.directory / f"{client}.kubeconfig"

    def write_identities(self) -> None:
        """Certificates and kubeconfigs of all parts."""
        names = ["127.0.0.1", "localhost", SERVICE_ADDRESS, "kubernetes", "kubernetes.default.svc"]
        self.authority.ensure([*names, self.node_address] if self.node_address else names, self.clients)
        self.authority.write_kubeconfig(self.kubeconfig, "admin", self.url)
        for client in self.clients:
            self.authority.write_kubeconfig(self.client_config(client.name), client.name, self.url)

    def start(self, supervisor: Supervisor) -> None:
        """Start etcd and the API server; back when the API server is ready."""
        if not kube_binary().exists():
            raise ClusterError(f"{kube_binary()} is missing: run `make cluster-build` (once, some minutes)")
        supervisor.start("etcd", self._etcd())
        supervisor.start("kube-apiserver", self._apiserver())
        supervisor.require("kube-apiserver", self.is_ready, READY_TIMEOUT)

    def start_controller_manager(self, supervisor: Supervisor, controllers: str = TEST_CONTROLLERS) -> None:
        """Start the controllers; with the default list only those that a cluster without nodes needs."""
        pki = self.authority
        flags = [
            f"--kubeconfig={self.client_config('controller-manager')}",
            f"--controllers={controllers}",
            f"--service-account-private-key-file={pki.path('sa.key')}",
            f"--root-ca-file={pki.path('ca.crt')}",
            f"--flex-volume-plugin-dir={self.directory}/volume-plugins",
            "--use-service-account-credentials",
            "--leader-elect=false",
            "--secure-port=0",
        ]
        supervisor.start("kube-controller-manager", [kube_binary(), "kube-controller-manager", *flags])

    def is_ready(self) -> bool:
        """True when the API server calls itself ready and has made its first namespace."""
        return self._is_there("/readyz") and self._is_there("/api/v1/namespaces/default")

    def _is_there(self, path: str) -> bool:
        try:
            self.request("GET", path)
        except (OSError, ClusterError):
            return False
        return True

    def request(self, method: str, path: str, body: bytes | None = None) -> bytes:
        """One call as administrator; a YAML body is taken as it is."""
        context = ssl.create_default_context(cafile=str(self.authority.path("ca.crt")))
        context.load_cert_chain(self.authority.path("admin.crt"), self.authority.path("admin.key"))
        call = urllib.request.Request(  # noqa: S310 - the scheme is ours
            self.url + path, body, {"Content-Type": "application/yaml"}, method=method
        )
        opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
        )
        try:
            with opener.open(call, timeout=30) as answer:
                content: bytes = answer.read()
                return content
        except urllib.error.HTTPError as refused:
            with refused:
                text = refused.read().decode(errors="replace")
            raise ClusterError(f"{method} {path}: {refused.code} {text}") from None

    def create_crds(self, folder: Path) -> None:
        """Create the CustomResourceDefinitions of a folder and wait until they are served."""
        path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
        specs = [json.loads(self.request("POST", path, file.read_bytes()))["spec"] for file in folder.glob("*.yaml")]
        # One that is called established is served some moments later.
        lists = [f"/apis/{spec['group']}/{spec['versions'][0]['name']}/{spec['names']['plural']}" for spec in specs]
        self.supervisor.require("kube-apiserver", lambda: all(map(self._is_there, lists)), READY_TIMEOUT)

    def _etcd(self) -> list[str | Path]:
        client = f"http://127.0.0.1:{self.ports.etcd}"
        peer = f"http://127.0.0.1:{self.ports.etcd_peer}"
        return [
            kube_binary(),
            "etcd",
            f"--data-dir={self.directory}/etcd",
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=default={peer}",
            "--unsafe-no-fsync",  # a lost machine loses the cluster; a lost process does not
            "--log-level=warn",
        ]

    def _apiserver(self) -> list[str | Path]:
        pki = self.authority
        flags = [
            f"--etcd-servers=http://127.0.0.1:{self.ports.etcd}",
            f"--secure-port={self.ports.api}",
            f"--service-cluster-ip-range={SERVICE_NETWORK}",
            f"--tls-cert-file={pki.path('apiserver.crt')}",
            f"--tls-private-key-file={pki.path('apiserver.key')}",
            f"--client-ca-file={pki.path('ca.crt')}",
            f"--service-account-key-file={pki.path('sa.pub')}",
            f"--service-account-signing-key-file={pki.path('sa.key')}",
            "--service-account-issuer=https://kubernetes.default.svc",
            "--authorization-mode=Node,RBAC",
            "--allow-privileged=true",
        ]
        if self.node_address:
            flags += [
                "--bind-address=0.0.0.0",
                f"--advertise-address={self.node_address}",
                f"--kubelet-client-certificate={pki.path('admin.crt')}",
                f"--kubelet-client-key={pki.path('admin.key')}",
                "--kubelet-preferred-address-types=InternalIP",  # or logs and exec look the node up in DNS
                "--enable-admission-plugins=NodeRestriction",
            ]
        else:
            flags += [
                "--bind-address=127.0.0.1",
                "--advertise-address=127.0.0.1",
                "--endpoint-reconciler-type=none",  # a loopback address may not be an endpoint
                "--disable-admission-plugins=ServiceAccount",  # nobody makes the default account at once
            ]
        return [kube_binary(), "kube-apiserver", *flags]
