"""How viewers reach an agent, mode by mode: what its pod and Services look like, and which addresses it names.

Pure. One number is used everywhere: the process listens on the very port that viewers dial, so agents need not know
where they are. HostPort, HostNetwork and NodePort lease that port from the class's range, one for each pod (`ports`);
the others use the fixed one. Addresses come from the Node, the load balancer or the class, never from STUN.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

from sightline_kube.cluster import Obj
from sightline_model import names
from sightline_model.agent import CONTROL_PORT, MEDIA_PORT
from sightline_model.cameraclass import Network, NetworkMode, PortRange

LEASING = frozenset({NetworkMode.HOST_PORT, NetworkMode.HOST_NETWORK, NetworkMode.NODE_PORT})
_BY_NODE = LEASING
_DEFAULT_RANGE = PortRange(first=20000, last=29999)
"""Below Linux's ephemeral ports (32768) and Kubernetes' node ports."""
_NODE_PORTS = PortRange(first=30000, last=32767)
"""What API servers allow for node ports by default."""
_NODE_ADDRESSES = ("ExternalIP", "InternalIP")
NOBODY = "none"
"""Selects no pod: none has this name."""
_PRIVILEGED = "PodSecurity"


@dataclass(frozen=True, slots=True)
class Reach:
    """Where viewers find one agent."""

    addresses: tuple[str, ...] = ()
    """IP addresses for the agent to name, best first."""
    own: bool = True
    """Whether the pod's own addresses are among them."""
    port: int = MEDIA_PORT
    probe: str = ""
    """The address that can be asked from inside the cluster; empty: none can, or the control link proves enough."""


def port_range(network: Network) -> PortRange | None:
    """The range that the mode's ports are leased from; None for a mode that leases none."""
    if network.mode not in LEASING:
        return None
    default = _NODE_PORTS if network.mode is NetworkMode.NODE_PORT else _DEFAULT_RANGE
    return network.port_range or default


def leased(obj: Obj) -> int | None:
    """The port of the nodes that a pod or a Service of ours holds."""
    spec = obj.get("spec") or {}
    if "containers" not in spec:
        return next((int(port["nodePort"]) for port in _media_ports(spec) if port.get("nodePort")), None)
    port = listens(obj, "media")
    return port if port and port != MEDIA_PORT else None


def listens(pod: Obj, name: str) -> int:
    """The port of that name (control, media) of an agent's pod; 0 where there is none."""
    containers = (pod.get("spec") or {}).get("containers") or []
    ports = (port for container in containers for port in container.get("ports") or [])
    return next((int(port["containerPort"]) for port in ports if port.get("name") == name), 0)


def effective(network: Network, pod: Obj | None) -> Network:
    """The settings as they hold for this pod, which may have been made before its class was changed."""
    mode = _mode_of(pod, network.mode) if pod is not None else network.mode
    return network if mode is network.mode else network.model_copy(update={"mode": mode})


def _mode_of(pod: Obj, wanted: NetworkMode) -> NetworkMode:
    """Pods without a port of their own are alike, so they are of whatever such mode the class wants."""
    spec = pod.get("spec") or {}
    if spec.get("hostNetwork"):
        return NetworkMode.HOST_NETWORK
    ports = [port for container in spec.get("containers") or [] for port in container.get("ports") or []]
    if any(port.get("hostPort") for port in ports):
        return NetworkMode.HOST_PORT
    if leased(pod):
        return NetworkMode.NODE_PORT
    return NetworkMode.POD_IP if wanted in LEASING else wanted


def dress(spec: dict[str, Any], mode: NetworkMode, port: int) -> dict[str, Any]:
    """The pod's spec for the mode; with port 0, what of it is the same for every pod (its hash)."""
    if mode not in LEASING:
        return spec
    host_network = mode is NetworkMode.HOST_NETWORK
    control = port if host_network else CONTROL_PORT
    ports = [
        {"name": "control", "containerPort": control, "protocol": "TCP"},
        {"name": "media", "containerPort": port, "protocol": "UDP"},
    ]
    if host_network:
        ports[0]["hostPort"] = control
    if mode is not NetworkMode.NODE_PORT:
        ports[1]["hostPort"] = port
    env = [{"name": "SIGHTLINE_AGENT_MEDIA_PORT", "value": str(port)}]
    if host_network:
        env.append({"name": "SIGHTLINE_AGENT_CONTROL_PORT", "value": str(control)})
    container, *others = spec["containers"]
    dressed = {**container, "ports": ports, "env": [*container["env"], *env]}
    host = {"hostNetwork": True, "dnsPolicy": "ClusterFirstWithHostNet"} if host_network else {}
    return {**spec, "containers": [dressed, *others], **host}


def service_spec(mode: NetworkMode, pod: str, port: int) -> dict[str, Any]:
    """The Service by which viewers reach one pod, in the modes that need one: it must never lead to a second pod."""
    media = {"name": "media", "port": port, "targetPort": "media", "protocol": "UDP"}
    spec: dict[str, Any] = {
        "type": mode.value,
        "selector": {names.AGENT_LABEL: pod or NOBODY},
        # The agent answers a second before the kubelet calls it ready, and as long as it says goodbye.
        "publishNotReadyAddresses": True,
        "ipFamilyPolicy": "PreferDualStack",
        "ports": [media],
    }
    if mode is NetworkMode.NODE_PORT:
        media["nodePort"] = port
        # No second hop, and the viewer's own address; so only the pod's node is named.
        spec["externalTrafficPolicy"] = "Local"
    return spec


def reach(network: Network, pod: Obj | None, node: Obj | None, balancer: Obj | None) -> Reach:
    """Where viewers find the agent in this pod, as far as it is known."""
    if network.mode in _BY_NODE:
        outside, inside = _node_addresses(pod, node)
        addresses = _joined(network.advertise, [*outside, *inside])
        return Reach(addresses, False, listens(pod or {}, "media"), next(iter(inside), ""))
    if network.mode is NetworkMode.LOAD_BALANCER:
        found = _ingress(balancer, "ip")
        return Reach(_joined(network.advertise, found), False, MEDIA_PORT, next(iter(found), ""))
    own = _address(pod)
    return Reach(_joined(network.advertise, [own] if own else []))


def missing(network: Network, pod: Obj | None, balancer: Obj | None) -> str:
    """Why nobody can reach the agent yet, in words; empty when somebody can."""
    if not _address(pod):
        return "The agent's pod has no address yet."
    if network.mode is not NetworkMode.LOAD_BALANCER or network.advertise or _ingress(balancer, "ip"):
        return ""
    named = _ingress(balancer, "hostname")
    if named:
        return f"The load balancer is called {named[0]}, but viewers need an IP address: name it in network.advertise."
    return "The load balancer has no address yet: check that the cluster has a provider of load balancers."


def scope(address: str) -> str:
    """wan for an address of the internet, else lan."""
    try:
        return "wan" if ip_address(address).is_global else "lan"
    except ValueError:
        return "lan"


def explained(refusal: str, mode: NetworkMode) -> str:
    """The API server's refusal, with what to do where the network mode is what Pod Security forbids."""
    if _PRIVILEGED not in refusal or mode not in (NetworkMode.HOST_PORT, NetworkMode.HOST_NETWORK):
        return refusal
    return (
        f"{refusal} Network mode {mode.value} needs a namespace with the label "
        "pod-security.kubernetes.io/enforce=privileged; NodePort, LoadBalancer, Relay and PodIP do without."
    )


def port_taken(refusal: str) -> bool:
    """Whether somebody else has the node port that was asked for."""
    return "provided port is already allocated" in refusal


def _media_ports(spec: dict[str, Any]) -> Iterable[dict[str, Any]]:
    return (port for port in spec.get("ports") or [] if port.get("name") == "media")


def _node_addresses(pod: Obj | None, node: Obj | None) -> tuple[list[str], list[str]]:
    """The node's addresses of the internet, and those inside; what the kubelet wrote on the pod where the Node is not
    known. Only of families that the pod has: the others lead to nobody."""
    listed = ((node or {}).get("status") or {}).get("addresses") or []
    status = (pod or {}).get("status") or {}
    families = {":" in str(item.get("ip")) for item in status.get("podIPs") or [{"ip": status.get("podIP")}]}
    outside, inside = (
        [str(item.get("address")) for item in listed if item.get("type") == type_] for type_ in _NODE_ADDRESSES
    )
    hosts = [str(item.get("ip") or "") for item in status.get("hostIPs") or [{"ip": status.get("hostIP")}]]
    return (
        [address for address in outside if (":" in address) in families],
        [address for address in inside or hosts if address and (":" in address) in families],
    )


def _address(pod: Obj | None) -> str:
    return str(((pod or {}).get("status") or {}).get("podIP") or "")


def _ingress(balancer: Obj | None, key: str) -> list[str]:
    ingress = (((balancer or {}).get("status") or {}).get("loadBalancer") or {}).get("ingress") or []
    return [str(item[key]) for item in ingress if item.get(key)]


def _joined(first: Sequence[str], then: Sequence[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys([*first, *then]))
