"""The local node with Sightline on it, as `make demo CLUSTER=local` leaves it, and the hands that break parts of it."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.helpers.kubectl import Kubectl
from tests.helpers.rtsp_camera import RtspCamera
from tests.helpers.rtsp_server import Habits, serve

ROOT = Path(__file__).resolve().parents[2]
NAMESPACE = "sightline-system"
PROGRAMS = {"operator": "sightline-operator", "api": "sightline-api", "agent": "sightline-agent"}


@dataclass(frozen=True)
class Demo:
    """A running installation."""

    kubectl: Kubectl
    url: str
    token: str
    host: str
    """This machine's address as pods see it."""
    namespace: str = NAMESPACE

    def kill(self, component: str) -> None:
        """SIGKILL the process of the operator or the api, as a crash would."""
        pods = self.kubectl.list("pods", f"app.kubernetes.io/component={component}", self.namespace)
        for pod in pods:
            _kill_container(pod["metadata"]["uid"], PROGRAMS[component])

    def kill_agent(self, camera: str) -> None:
        """SIGKILL a camera's agent."""
        for pod in self.kubectl.list("pods", f"sightline.dev/camera={camera}"):
            _kill_container(pod["metadata"]["uid"], PROGRAMS["agent"])

    def helm(self, *arguments: str) -> str:
        """Run helm on the cluster, in the release's namespace; what it prints."""
        program = _hack("tools", "helm").stdout.strip().splitlines()[-1]
        places = [f"--namespace={self.namespace}", f"--kubeconfig={self.kubectl.kubeconfig}"]
        return subprocess.run([program, *arguments, *places], check=True, stdout=subprocess.PIPE, text=True).stdout

    def helm_set(self, *settings: str) -> None:
        """Upgrade the release with further values, and wait until its pods run."""
        options = [f"--set={setting}" for setting in settings]
        upgrade = ("upgrade", "sightline", str(ROOT / "charts/sightline"), "--reset-then-reuse-values")
        self.helm(*upgrade, "--wait", "--timeout=240s", *options)

    def helm_rollback(self) -> None:
        """Go back to the revision before, and wait until its pods run."""
        self.helm("rollback", "sightline", "--wait", "--timeout=240s")

    def service_account_token(self, name: str, audience: str) -> str:
        """A token of a ServiceAccount in the namespace `default`."""
        return self.kubectl("create", "token", name, f"--audience={audience}").strip()

    def logs(self, camera: str) -> str:
        """What operator, api and the camera's agent have logged, and the camera's Events."""
        texts = [
            self.kubectl("logs", f"--namespace={self.namespace}", f"deployment/sightline-{component}", "--tail=-1")
            for component in ("operator", "api")
        ]
        texts += [
            self.kubectl("logs", pod["metadata"]["name"], "--tail=-1")
            for pod in self.kubectl.list("pods", f"sightline.dev/camera={camera}")
        ]
        return "\n".join([*texts, self.kubectl("get", "events", "-o", "yaml")])

    @asynccontextmanager
    async def source(self, camera: AbstractAsyncContextManager[RtspCamera] | None, kind: str) -> AsyncIterator[str]:
        """The address of a camera that fails in the way `kind` says."""
        if camera is not None:
            async with camera as running:
                yield running.url
        elif kind == "no-frames":
            async with serve(Habits(silent=True), self.host) as silent:
                yield silent.url
        else:
            yield f"rtsp://{self.host}:9/cam"


def _kill_container(pod_uid: str, program: str) -> None:
    """End the processes of a pod that run `program`: found by the pod's cgroup, so that nothing else can be hit."""
    marks = (pod_uid, pod_uid.replace("-", "_"))
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            cgroup = (folder / "cgroup").read_text()
            command = (folder / "cmdline").read_bytes().decode()
        except OSError:
            continue
        if program in command and any(mark in cgroup for mark in marks):
            os.kill(int(folder.name), signal.SIGKILL)


@contextmanager
def running_demo() -> Iterator[Demo]:
    """Make the demo, or bring the one that runs up to date; a node that was not there before is taken away again."""
    was_there = _hack("status").returncode == 0
    try:
        made = subprocess.run(
            [sys.executable, "-m", "hack.demo", "--cluster", "local"],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        ).stdout
        found = {
            key: match.group(1)
            for key, pattern in {
                "kubeconfig": r"^export KUBECONFIG=(\S+)$",
                "url": r"^page:\s+(\S+?)/?$",
                "token": r"^token:\s+(\S+)$",
            }.items()
            if (match := re.search(pattern, made, re.MULTILINE))
        }
        program = _hack("tools", "kubectl").stdout.strip().splitlines()[-1]
        kubectl = Kubectl(Path(program), Path(found["kubeconfig"]))
        node = kubectl("get", "nodes", "-o", "jsonpath={.items[0].status.addresses[0].address}")
        yield Demo(kubectl, found["url"], found["token"], node)
    finally:
        if not was_there:
            _hack("down")


def _hack(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "hack.cluster", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
