"""containerd with everything of its own in the node's folder, and the image that holds pods open."""

import hashlib
import io
import json
import platform
import tarfile
from collections.abc import Sequence
from pathlib import Path

from hack.cluster.console import run, succeeds
from hack.cluster.errors import ClusterError
from hack.cluster.packages import SEARCH_PATH, cni_plugins
from hack.cluster.paths import build_dir
from hack.cluster.processes import Supervisor

PAUSE_IMAGE = "docker.io/sightline/pause:1"
NAMESPACE = "k8s.io"  # where the kubelet's images and containers live
CAP_SYS_RESOURCE = 1 << 24
START_TIMEOUT = 30.0
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


class Runtime:
    """The node's container runtime."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.socket = directory / "containerd.sock"
        self.cni = directory / "cni"
        self.leases = directory / "cni-leases"

    def start(self, supervisor: Supervisor) -> None:
        """Start containerd and make sure that the pause image is there."""
        config = self._directory / "containerd.toml"
        config.write_text(self._config())
        supervisor.start("containerd", ["containerd", "--config", config], {"PATH": SEARCH_PATH})
        supervisor.require("containerd", lambda: succeeds([*self._ctr(), "version"]), START_TIMEOUT)
        if PAUSE_IMAGE not in self.images():
            archive = self._directory / "pause.tar"
            archive.write_bytes(pause_archive((build_dir() / "pause").read_bytes()))
            self.load(archive)

    def images(self) -> list[str]:
        """Names of the images that pods can use."""
        return run([*self._ctr(), "images", "ls", "-q"]).split()

    def load(self, archive: Path) -> None:
        """Import an image archive."""
        run([*self._ctr(), "images", "import", archive])

    def tag(self, image: str, name: str) -> None:
        """Give an image a further name."""
        run([*self._ctr(), "images", "tag", "--force", image, name])

    def forget(self, images: Sequence[str]) -> None:
        """Drop names of images; what no other name holds is freed."""
        if images:
            run([*self._ctr(), "images", "rm", *images])

    def _ctr(self) -> list[str | Path]:
        return ["ctr", "-a", self.socket, "-n", NAMESPACE]

    def _config(self) -> str:
        # A kernel that does not let us lower a process' OOM score fails every pod with the misleading
        # "can't get final child's PID from pipe: EOF"; containerd can do without.
        restricted = "false" if _may_raise_limits() else "true"
        return f"""version = 2
root = "{self._directory}/containerd"
state = "{self._directory}/containerd-run"
disabled_plugins = ["io.containerd.internal.v1.opt"]
[grpc]
address = "{self.socket}"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{PAUSE_IMAGE}"
restrict_oom_score_adj = {restricted}
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "{cni_plugins()}"
conf_dir = "{self.cni}"
"""


def pause_archive(program: bytes) -> bytes:
    """A one-file image in Docker's archive format, made without any image tool."""
    architecture = ARCHITECTURES.get(platform.machine())
    if architecture is None:
        raise ClusterError(f"the local node knows no image architecture for {platform.machine()}")
    layer = _tar({"pause": program}, mode=0o755)
    config = {
        "architecture": architecture,
        "os": "linux",
        "config": {"Entrypoint": ["/pause"], "User": "65535:65535"},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
    }
    manifest = [{"Config": "config.json", "RepoTags": [PAUSE_IMAGE], "Layers": ["layer.tar"]}]
    return _tar(
        {
            "config.json": json.dumps(config).encode(),
            "layer.tar": layer,
            "manifest.json": json.dumps(manifest).encode(),
        }
    )


def _tar(files: dict[str, bytes], mode: int = 0o644) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), mode
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def _may_raise_limits() -> bool:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapEff:"):
            return bool(int(line.split()[1], 16) & CAP_SYS_RESOURCE)
    return False
