"""What the kernel knows of processes, cores and sockets. Reads /proc; holds nothing."""

import os
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_SCHED_CLOCK = 2


def family(pid: int) -> list[int]:
    """A process and what it started."""
    found = [pid]
    for one in found:
        for task in _listed(f"/proc/{one}/task"):
            try:
                children = Path(f"/proc/{one}/task/{task}/children").read_text().split()
            except OSError:
                continue
            found += [int(child) for child in children if int(child) not in found]
    return found


def cpu_seconds(pids: Iterable[int]) -> float:
    """User and system time of all threads, those that ended included, to the nanosecond.

    The kernel's CPU clock of a process (clock_getcpuclockid(3)); what a process that ended had used is not in it.
    """
    total = 0.0
    for pid in pids:
        try:
            total += time.clock_gettime(~pid << 3 | _SCHED_CLOCK)
        except OSError:
            continue
    return total


def memory_mb(pids: Iterable[int]) -> float:
    """Resident memory."""
    total = 0
    for pid in pids:
        try:
            status = Path(f"/proc/{pid}/status").read_text()
        except OSError:
            continue
        total += sum(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS:"))
    return total / 1024


@dataclass(frozen=True, slots=True)
class CoreTime:
    """Seconds since boot."""

    busy: float
    stolen: float


def core_time(core: int) -> CoreTime:
    """What a core did, by the kernel's own account: the cross-check of `cpu_seconds`."""
    for line in Path("/proc/stat").read_text().splitlines():
        if line.startswith(f"cpu{core} "):
            user, nice, system, _idle, _wait, hard, soft, stolen = (int(part) / _TICKS for part in line.split()[1:9])
            return CoreTime(user + nice + system + hard + soft, stolen)
    raise ValueError(f"there is no core {core}")


def udp_drops() -> dict[int, int]:
    """Datagrams that the kernel threw away because a socket's buffer was full, by local port."""
    found: dict[int, int] = {}
    for name in ("/proc/net/udp", "/proc/net/udp6"):
        for line in Path(name).read_text().splitlines()[1:] if os.path.exists(name) else []:
            parts = line.split()
            port = int(parts[1].rpartition(":")[2], 16)
            found[port] = found.get(port, 0) + int(parts[-1])
    return found


def _listed(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []
