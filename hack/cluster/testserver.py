"""A control plane for tests, in a folder of its own and on free ports."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from hack.cluster.controlplane import ControlPlane, free_ports
from hack.cluster.errors import ClusterError
from hack.cluster.processes import Supervisor

ATTEMPTS = 3  # a free port may be taken between the look and the bind
PORT_TAKEN = "address already in use"


@dataclass(frozen=True)
class TestServer:
    """What to start: where, on which port, with which kinds, with or without controllers."""

    directory: Path
    api_port: int | None = None
    crds: Path | None = None
    with_controller_manager: bool = False


def start(wanted: TestServer, supervisor: Supervisor) -> ControlPlane:
    """Start a control plane; nothing stays behind when that fails."""
    if any(supervisor.is_running(name) for name in supervisor.names()):
        raise ClusterError(f"a control plane runs in {wanted.directory} already: `down --directory` ends it")
    for attempt in range(1, ATTEMPTS + 1):
        plane = ControlPlane(wanted.directory, free_ports(wanted.api_port))
        plane.write_identities()
        try:
            plane.start(supervisor)
            if wanted.crds:
                plane.create_crds(wanted.crds)
            if wanted.with_controller_manager:
                plane.start_controller_manager(supervisor)
        except ClusterError:
            taken = any(PORT_TAKEN in supervisor.tail(name, 50) for name in ("etcd", "kube-apiserver"))
            stop(wanted.directory, supervisor)
            if not taken or attempt == ATTEMPTS:
                raise
        except BaseException:
            stop(wanted.directory, supervisor)
            raise
        else:
            return plane
    raise ClusterError("no free port was found")


def stop(directory: Path, supervisor: Supervisor) -> None:
    """End the processes at once and forget the data; logs stay for whoever wants to read them."""
    for name in ("kube-controller-manager", "kube-apiserver", "etcd"):
        supervisor.stop(name)
    shutil.rmtree(directory / "etcd", ignore_errors=True)
