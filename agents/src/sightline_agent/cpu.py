"""How much CPU this process may use, and how much it has used: what the kernel says.

The budget is the least of the cores that we may run on and the quotas of our control group and those above it,
version 2 (`cpu.max`) or 1 (`cpu.cfs_quota_us`). In a container the mount shows our own group at its root; outside, the
path in /proc/self/cgroup leads to it. What cannot be read does not limit.
"""

import os
import time
from collections.abc import Iterator
from pathlib import Path

CGROUP_MOUNT = Path("/sys/fs/cgroup")
SELF = Path("/proc/self")
_V1_MOUNTS = ("cpu,cpuacct", "cpu")
_TICKS = os.sysconf("SC_CLK_TCK")


def cpu_budget(mount: Path = CGROUP_MOUNT, cgroups: Path = SELF / "cgroup", cores: int = 0) -> float:
    """In cores."""
    found = [float(cores or len(os.sched_getaffinity(0)))]
    for folder in _groups(mount, _text(cgroups)):
        found += _quota(folder)
    return min(found)


def _groups(mount: Path, cgroups: str) -> Iterator[Path]:
    """Our group and those above it, in both versions."""
    for line in cgroups.splitlines():
        hierarchy, controllers, path = [*line.split(":", 2), "", ""][:3]
        if hierarchy == "0" and not controllers:
            roots = [mount]
        elif "cpu" in controllers.split(","):
            roots = [mount / name for name in _V1_MOUNTS]
        else:
            continue
        parts = [part for part in path.split("/") if part not in ("", "..")]
        for root in roots:
            for depth in range(len(parts) + 1):
                yield root.joinpath(*parts[:depth])


def _quota(folder: Path) -> list[float]:
    quota, _, period = _text(folder / "cpu.max").partition(" ")
    if not quota:
        quota, period = _text(folder / "cpu.cfs_quota_us"), _text(folder / "cpu.cfs_period_us")
    try:
        limit = int(quota) / int(period)
    except (ValueError, ZeroDivisionError):  # `max`, or nothing there
        return []
    return [limit] if limit > 0 else []


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def process_seconds() -> float:
    """CPU seconds of this process, and of its children that run now (a transcoder)."""
    children = _text(SELF / "task" / str(os.getpid()) / "children").split()
    return time.process_time() + sum(_seconds_of(pid) for pid in children)


def _seconds_of(pid: str) -> float:
    fields = _text(Path("/proc") / pid / "stat").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS if len(fields) > 12 else 0.0
