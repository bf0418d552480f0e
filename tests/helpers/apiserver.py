"""A real API server for tests: etcd and kube-apiserver in a folder of their own, gone when the test run is.

    @pytest.fixture(scope="session")
    def apiserver(tmp_path_factory):
        with running_apiserver(tmp_path_factory.mktemp("apiserver"), crds=CRDS) as server:
            yield server

The server's life hangs on a pipe to this process, so it ends even when the test run is killed.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
STOP_SECONDS = 90


class ApiserverMissingError(Exception):
    """The API server's binary was not built."""


@dataclass(frozen=True)
class Apiserver:
    """A running API server; the kubeconfig is the administrator's."""

    kubeconfig: Path
    url: str


def kube_binary() -> Path:
    """Where the build leaves the control plane; a test that needs it may look first."""
    return Path(os.environ.get("SIGHTLINE_BUILD", ROOT / ".build")).resolve() / "kube"


NEEDS_APISERVER = [
    pytest.mark.apiserver,
    pytest.mark.skipif(not kube_binary().exists(), reason="the API server was not built: make cluster-build"),
    pytest.mark.timeout(900),
]
"""The marks of a module whose tests talk to a real API server; each wait in them is bounded by itself."""


@contextmanager
def running_apiserver(
    directory: Path, with_controller_manager: bool = False, crds: Path | None = None
) -> Iterator[Apiserver]:
    """Run an API server in `directory` on free ports while the context lasts.

    `with_controller_manager` adds the controllers that delete owned objects and the content of namespaces.
    They learn of kinds that appear later only every 30 seconds: give the CRD folder as `crds` instead.
    """
    if not kube_binary().exists():
        raise ApiserverMissingError(f"{kube_binary()} is missing: run make cluster-build")
    command = [sys.executable, "-m", "hack.cluster", "up", "--control-plane-only", "--attached"]
    command += ["--directory", str(directory)]
    if with_controller_manager:
        command.append("--with-controller-manager")
    if crds:
        command += ["--crds", str(crds)]
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        if not line:
            raise RuntimeError(f"the API server did not start (exit code {process.wait(STOP_SECONDS)})")
        said = json.loads(line)
        yield Apiserver(Path(said["kubeconfig"]), said["url"])
    finally:
        process.stdin.close()
        process.wait(STOP_SECONDS)
        process.stdout.close()


def kubeconfig_with(kubeconfig: Path, token: str, path: Path) -> Path:
    """The same server for whoever has this token; written to `path`."""
    content = yaml.safe_load(kubeconfig.read_text())
    content["users"][0]["user"] = {"token": token}
    path.write_text(json.dumps(content))
    return path
