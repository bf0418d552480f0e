"""Nodes and pods without a kubelet on a test's API server: the real scheduler binds pods, KWOK says that they run.

KWOK gives pods their addresses, on the loopback of this machine; `played_node` without addresses of its own puts agents
there. Both programs end with the context, and with the test run when that is killed.
"""

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import yaml

from hack.cluster import toolchain
from hack.cluster.paths import kube_binary
from sightline_kube.cluster import Cluster
from sightline_kube.kinds import NODE
from tests.bench.scale_world import node, stages
from tests.helpers.apiserver import Apiserver

_STOP_SECONDS = 60


async def add_nodes(cluster: Cluster, count: int) -> None:
    """Nodes that take pods at once."""
    for number in range(count):
        made = await cluster.create(node(number))
        # Admission marks every new node as not ready; the controller that takes that away does not run here.
        await cluster.merge_patch(NODE, None, made["metadata"]["name"], {"spec": {"taints": None}})


@contextmanager
def kwok(server: Apiserver, directory: Path, network: str) -> Iterator[None]:
    """Scheduler and KWOK while the context lasts; pods get addresses of `network`."""
    config = f"--kubeconfig={server.kubeconfig}"
    rules = directory / "stages.yaml"
    rules.write_text(yaml.safe_dump_all(stages()))
    rates = ["--kube-api-qps=1000", "--kube-api-burst=2000"]
    scheduler: list[str | Path] = [
        kube_binary(),
        "kube-scheduler",
        config,
        "--leader-elect=false",
        "--secure-port=0",
        *rates,
    ]
    player: list[str | Path] = [
        toolchain.kwok(),
        config,
        "--manage-all-nodes",
        f"--cidr={network}",
        f"--config={rules}",
    ]
    running = [_start(scheduler, directory), _start(player, directory)]
    try:
        yield
    finally:
        for process in running:
            process.kill()
            process.wait(_STOP_SECONDS)


def _start(command: Sequence[str | Path], directory: Path) -> subprocess.Popen[bytes]:
    with (directory / f"{Path(command[0]).name}.log").open("ab") as log:
        return subprocess.Popen(["setpriv", "--pdeathsig", "KILL", *command], stdout=log, stderr=log)
