"""Ends the local node and takes back what it changed on the machine: exactly that."""

import contextlib
import os
import shutil
import signal
from pathlib import Path

from hack.cluster.console import Stopwatch, run, say
from hack.cluster.errors import ClusterError
from hack.cluster.mounts import unmount_below
from hack.cluster.network import remove_network
from hack.cluster.node import DEVICE_PLUGINS, State
from hack.cluster.paths import kube_binary
from hack.cluster.processes import Supervisor, process_start, wait_until
from hack.cluster.runtime import Runtime

CGROUPS = Path("/sys/fs/cgroup")
CONTAINER_LOGS = Path("/var/log/containers")


def remove(directory: Path) -> None:
    """End every part, remove pods, network and mounts, then the node's folder."""
    state = State.load(directory)
    if state is None:
        say("no local node was started here")
        return
    if os.geteuid() != 0:
        raise ClusterError("the local node was started by root: take it down as root")
    watch, supervisor, runtime = Stopwatch(), Supervisor(directory), Runtime(directory)
    # The kubelet first, or it would start the pods again that are removed next.
    supervisor.stop("kubelet", grace=5)
    if not supervisor.is_running("containerd"):
        runtime.start(supervisor)
    try:
        run([kube_binary(), "remove-pods", runtime.socket])
    except ClusterError as error:
        say(f"not every pod was removed in order: {error}")
    for name in ("kube-proxy", "kube-scheduler", "kube-controller-manager", "kube-apiserver", "etcd"):
        supervisor.stop(name)
    supervisor.stop("containerd", grace=5)
    _end_shims(runtime.socket)
    unmount_below(directory)
    remove_network(state.nat_rules, state.forwarding)
    _remove_cgroups()
    _remove_log_links(directory)
    for folder in state.absent_folders:
        if folder == DEVICE_PLUGINS:
            shutil.rmtree(folder, ignore_errors=True)  # holds the kubelet's socket and its notes
        with contextlib.suppress(OSError):  # not made this time, or somebody has put something in
            Path(folder).rmdir()
    shutil.rmtree(directory)
    say(f"the local node is gone after {watch}")


def _end_shims(socket: Path) -> None:
    """End the shims that containerd left: processes whose command line names this very socket."""
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            arguments = (entry / "cmdline").read_bytes().split(b"\0")
        except (FileNotFoundError, ProcessLookupError):
            continue
        if b"containerd-shim" in arguments[0] and str(socket).encode() in arguments:
            pid = int(entry.name)
            os.kill(pid, signal.SIGKILL)
            wait_until(lambda pid=pid: process_start(pid) is None, 5)  # type: ignore[misc]


def _remove_cgroups() -> None:
    """Remove the kubelet's groups where nothing lives in them any more."""
    for root in [*CGROUPS.glob("kubepods"), *CGROUPS.glob("*/kubepods")]:
        for folder, _, _ in os.walk(root, topdown=False):
            try:
                Path(folder).rmdir()
            except OSError:
                continue  # another kubelet's pods are in there


def _remove_log_links(directory: Path) -> None:
    if CONTAINER_LOGS.is_dir():
        for link in CONTAINER_LOGS.iterdir():
            if link.is_symlink() and link.readlink().is_relative_to(directory):
                link.unlink()
