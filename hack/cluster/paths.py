"""Where things are: the repository, and the folder that holds everything generated."""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def build_dir() -> Path:
    """The git-ignored folder of everything generated; SIGHTLINE_BUILD names another one."""
    return Path(os.environ.get("SIGHTLINE_BUILD", ROOT / ".build")).resolve()


def kube_binary() -> Path:
    """The multi-call binary of etcd, the control plane, the kubelet and kubectl."""
    return build_dir() / "kube"


def tools_dir() -> Path:
    """Tools that were built or fetched because the machine lacks them."""
    return build_dir() / "bin"


def node_dir() -> Path:
    """State of the local node."""
    return build_dir() / "node"
