"""Debian packages that the node and the image builds need, installed where that may be done."""

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from hack.cluster.console import run, say
from hack.cluster.errors import ClusterError

# Program (or file) to look for -> Debian package.
NODE = {
    "containerd": "containerd",
    "ctr": "containerd",
    "runc": "runc",
    "nft": "nftables",
    "conntrack": "conntrack",
    "iptables": "iptables",
    "ip": "iproute2",
    "mount": "mount",
    "/usr/lib/cni/bridge": "containernetworking-plugins",
}
IMAGES = {
    "buildah": "buildah",
    "debootstrap": "debootstrap",
    "/usr/share/keyrings/debian-archive-keyring.gpg": "debian-archive-keyring",
}

SEARCH_PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"


def ensure(*needed: dict[str, str]) -> None:
    """Install what is missing with apt-get, or say which packages a person has to install."""
    missing = sorted(set(_missing(needed)))
    if not missing:
        return
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise ClusterError(f"these Debian packages are missing, or what is in them: {' '.join(missing)}")
    say(f"installing Debian packages: {' '.join(missing)}")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    # The packages' own services stay off: the node starts a containerd of its own.
    run(["apt-get", "update", "-q"], environment=environment)
    install = ["apt-get", "install", "-q", "-y", "--no-install-recommends"]
    run([*install, *missing], environment=environment)


def cni_plugins() -> Path:
    """The folder of the network plugins."""
    for folder in (Path("/usr/lib/cni"), Path("/opt/cni/bin")):
        if (folder / "bridge").exists():
            return folder
    raise ClusterError("the network plugins (bridge, host-local, portmap) are neither in /usr/lib/cni nor /opt/cni/bin")


def _on_path(program: str) -> bool:
    return shutil.which(program, path=SEARCH_PATH) is not None


def _missing(needed: Iterable[dict[str, str]]) -> Iterable[str]:
    for programs in needed:
        for program, package in programs.items():
            found = os.path.exists if program.startswith("/") else _on_path
            if not found(program):
                yield package
