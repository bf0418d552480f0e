"""The pure half of the process kubelet: what a pod's manifest means for a local process, and what its status says."""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from sightline_kube.cluster import Obj
from sightline_model import agent as messages

RESTART_BASE_SECONDS = 0.5
RESTART_LIMIT_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Mount:
    """One Secret as a folder."""

    secret: str
    path: str
    optional: bool


@dataclass(frozen=True, slots=True)
class Attempt:
    """What happened to a pod's process so far."""

    running: bool = False
    ready: bool = False
    restarts: int = 0
    started_at: datetime | None = None
    waiting: str = ""
    message: str = ""


def mounts(pod: Obj) -> list[Mount]:
    """The Secret volumes that the pod's first container mounts."""
    volumes = {volume["name"]: volume["secret"] for volume in pod["spec"].get("volumes", []) if "secret" in volume}
    mounted = pod["spec"]["containers"][0].get("volumeMounts", [])
    return [
        Mount(volumes[entry["name"]]["secretName"], entry["mountPath"], volumes[entry["name"]].get("optional", False))
        for entry in mounted
        if entry["name"] in volumes
    ]


def environment(pod: Obj, address: str) -> dict[str, str]:
    """The container's variables; the only field reference that agents use is their pod's IP."""
    found = {}
    for variable in pod["spec"]["containers"][0].get("env", []):
        reference = variable.get("valueFrom", {}).get("fieldRef", {}).get("fieldPath")
        found[variable["name"]] = address if reference == "status.podIP" else str(variable.get("value", ""))
    return found


def arguments(root: Path) -> list[str]:
    """The agent's command line with the mounts found under `root` instead of /."""
    return [
        "--config",
        str(root / messages.CONFIG_DIRECTORY.lstrip("/")),
        "--credentials",
        str(root / messages.CREDENTIALS_DIRECTORY.lstrip("/")),
    ]


def restart_delay(restarts: int) -> float:
    """Seconds to wait before the next start: at once the first time, then doubling, as a kubelet does."""
    return 0.0 if restarts <= 1 else min(RESTART_LIMIT_SECONDS, RESTART_BASE_SECONDS * 2.0 ** min(restarts, 10))


def status(pod: Obj, attempt: Attempt, address: str, now: datetime) -> dict[str, Any]:
    """The `status` of a pod whose process is in that state."""
    stamp = now.isoformat(timespec="seconds").replace("+00:00", "Z")
    ready = "True" if attempt.ready else "False"
    state: dict[str, Any]
    if attempt.running:
        started = (attempt.started_at or now).isoformat(timespec="seconds").replace("+00:00", "Z")
        state = {"running": {"startedAt": started}}
    else:
        state = {"waiting": {"reason": attempt.waiting or "ContainerCreating", "message": attempt.message}}
    return {
        "phase": "Running" if attempt.running or attempt.restarts else "Pending",
        "podIP": address,
        "podIPs": [{"ip": address}],
        "hostIP": "127.0.0.1",
        "startTime": pod.get("status", {}).get("startTime", stamp),
        "conditions": [
            {"type": "PodScheduled", "status": "True", "lastTransitionTime": stamp},
            {"type": "Ready", "status": ready, "lastTransitionTime": stamp},
        ],
        "containerStatuses": [
            {
                "name": pod["spec"]["containers"][0]["name"],
                "ready": attempt.ready,
                "restartCount": attempt.restarts,
                "image": pod["spec"]["containers"][0].get("image", ""),
                "state": state,
            }
        ],
    }
