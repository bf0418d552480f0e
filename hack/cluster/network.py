"""The node's network: one bridge that pods hang on, made before the kubelet starts.

The bridge's address is the node's address: a kubelet refuses a loopback one silently, and the machine's own
may change. Pods are reachable from this machine by their own addresses, and reach out through masquerading.
"""

import ipaddress
import json
import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hack.cluster.console import run, succeeds
from hack.cluster.errors import ClusterError

BRIDGE = "sightline0"
CNI_NETWORK = "sightline"
DEFAULT_PODS = "10.244.0.0/24"
FORWARDING = Path("/proc/sys/net/ipv4/ip_forward")

# What the portmap plugin leaves in the nat table when its last pod is gone.
PORTMAP_CHAINS = ("CNI-HOSTPORT-DNAT", "CNI-HOSTPORT-MASQ", "CNI-HOSTPORT-SETMARK", "CNI-DN-", "CNI-SN-")


@dataclass(frozen=True)
class PodNetwork:
    """The addresses of the node and its pods."""

    pods: ipaddress.IPv4Network

    @classmethod
    def configured(cls) -> "PodNetwork":
        """SIGHTLINE_POD_NETWORK moves it when the usual range is taken."""
        text = os.environ.get("SIGHTLINE_POD_NETWORK", DEFAULT_PODS)
        try:
            return cls(ipaddress.IPv4Network(text))
        except ValueError:
            raise ClusterError(f"SIGHTLINE_POD_NETWORK={text} is no network such as {DEFAULT_PODS}") from None

    @property
    def gateway(self) -> str:
        """The bridge's address, which is the node's."""
        return str(self.pods.network_address + 1)


def bridge_exists() -> bool:
    """True while a local node is up on this machine."""
    return succeeds(["ip", "link", "show", BRIDGE])


def make_bridge(network: PodNetwork) -> None:
    """Make the bridge and let the machine forward; raise when somebody else has these addresses."""
    if not bridge_exists():
        for link in json.loads(run(["ip", "-json", "-4", "address"])):
            for address in link["addr_info"]:
                taken = ipaddress.IPv4Interface(f"{address['local']}/{address['prefixlen']}").network
                if taken.overlaps(network.pods):
                    raise ClusterError(
                        f"{network.pods} is taken by {link['ifname']}: set SIGHTLINE_POD_NETWORK to another"
                    )
        run(["ip", "link", "add", BRIDGE, "type", "bridge"])
        run(["ip", "address", "add", f"{network.gateway}/{network.pods.prefixlen}", "dev", BRIDGE])
        run(["ip", "link", "set", BRIDGE, "up"])
    FORWARDING.write_text("1")


def write_cni(network: PodNetwork, folder: Path, leases: Path) -> None:
    """The configuration by which the container runtime connects a pod."""
    ipam = {
        "type": "host-local",
        "dataDir": str(leases),
        "ranges": [[{"subnet": str(network.pods), "gateway": network.gateway}]],
        "routes": [{"dst": "0.0.0.0/0"}],
    }
    bridge = {
        "type": "bridge",
        "bridge": BRIDGE,
        "isGateway": True,
        "ipMasq": True,
        "hairpinMode": True,
        "ipam": ipam,
    }
    portmap = {"type": "portmap", "capabilities": {"portMappings": True}}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "10-sightline.conflist").write_text(
        json.dumps({"cniVersion": "1.0.0", "name": CNI_NETWORK, "plugins": [bridge, portmap]}, indent=2)
    )


def nat_rules() -> list[str]:
    """The nat table as `iptables -S` prints it; remembered before the first pod, so that `down` can tell."""
    return run(["iptables", "-w", "-t", "nat", "-S"]).splitlines()


def remove_network(earlier_rules: Sequence[str], forwarding: str) -> None:
    """Take the bridge, the port mapping chains and kube-proxy's table away again."""
    if bridge_exists():
        run(["ip", "link", "delete", BRIDGE])
    for table in ("ip", "ip6"):
        succeeds(["nft", "delete", "table", table, "kube-proxy"])
    ours = [rule for rule in nat_rules() if rule not in earlier_rules and any(c in rule for c in PORTMAP_CHAINS)]
    # Rules go before the chains they jump to, and a chain is emptied before it goes.
    for rule in ours:
        if rule.startswith("-A"):
            run(["iptables", "-w", "-t", "nat", "-D", *shlex.split(rule)[1:]])
    for rule in ours:
        if rule.startswith("-N"):
            run(["iptables", "-w", "-t", "nat", "-X", rule.split()[1]])
    FORWARDING.write_text(forwarding)
