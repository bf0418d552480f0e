"""Background processes that can be found again, and ended without hitting anybody else's.

A process is remembered by number, start time and boot, so a number that the kernel gave to somebody else
since is never signalled. `Supervisor` is the only place that starts or ends a part of the cluster.
"""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from hack.cluster.errors import ClusterError

POLL_SECONDS = 0.05
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True)
class ProcessRecord:
    """What identifies a process over the life of a machine."""

    pid: int
    started: int
    boot: str


def process_start(pid: int) -> int | None:
    """Start time of a running process in clock ticks since boot; None when gone or a zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in {"Z", "X"} else int(fields[19])


def wait_until(done: Callable[[], bool], timeout: float) -> bool:
    """Poll until `done` holds; False when it does not within `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not done():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_SECONDS)
    return True


class Supervisor:
    """Starts named processes with a log file each, and ends exactly those."""

    def __init__(self, directory: Path) -> None:
        self._records = directory / "run"
        self._logs = directory / "log"
        self._children: dict[int, subprocess.Popen[bytes]] = {}

    def start(self, name: str, command: Sequence[str | Path], environment: Mapping[str, str] | None = None) -> None:
        """Start `command` detached from this terminal, unless it runs already."""
        if self.is_running(name):
            return
        self._records.mkdir(parents=True, exist_ok=True)
        self._logs.mkdir(parents=True, exist_ok=True)
        with self.log(name).open("ab") as log:
            child = subprocess.Popen(
                [str(part) for part in command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env={**os.environ, **(environment or {})},
            )
        self._children[child.pid] = child
        started = process_start(child.pid)
        record = ProcessRecord(child.pid, started if started is not None else -1, BOOT_ID.read_text().strip())
        self._record_file(name).write_text(json.dumps(asdict(record)))

    def names(self) -> list[str]:
        """Names of all processes that were started and not yet stopped."""
        return sorted(path.stem for path in self._records.glob("*.json"))

    def is_running(self, name: str) -> bool:
        """True while the very process that was started under this name lives."""
        return self._pid(name) is not None

    def log(self, name: str) -> Path:
        """The log file of a process."""
        return self._logs / f"{name}.log"

    def tail(self, name: str, lines: int = 15) -> str:
        """The last lines of a log, for an error message."""
        try:
            text = self.log(name).read_text(errors="replace")
        except FileNotFoundError:
            return ""
        return "\n".join(text.splitlines()[-lines:])

    def require(self, name: str, ready: Callable[[], bool], timeout: float) -> None:
        """Wait until `ready` holds; raise with the end of the log when the process dies or takes too long."""

        def settled() -> bool:
            return not self.is_running(name) or ready()

        if not wait_until(settled, timeout) or not self.is_running(name):
            why = f"not ready after {timeout:.0f} s" if self.is_running(name) else "ended"
            raise ClusterError(f"{name} {why}; the end of {self.log(name)}:\n{self.tail(name)}")

    def stop(self, name: str, grace: float = 0.0) -> None:
        """End a process: SIGTERM and up to `grace` seconds, then SIGKILL; back when it is gone."""
        pid = self._pid(name)
        if pid is not None:
            self._signal(pid, signal.SIGTERM if grace else signal.SIGKILL)
            if not wait_until(lambda: self._pid(name) is None, grace or 10):
                self._signal(pid, signal.SIGKILL)
                if not wait_until(lambda: self._pid(name) is None, 10):
                    raise ClusterError(f"{name} (process {pid}) does not end after SIGKILL")
            if (child := self._children.pop(pid, None)) is not None:
                child.wait()  # it may have ended just after the last look, and nobody else will reap it
        self._record_file(name).unlink(missing_ok=True)

    def _record_file(self, name: str) -> Path:
        return self._records / f"{name}.json"

    def _pid(self, name: str) -> int | None:
        try:
            record = ProcessRecord(**json.loads(self._record_file(name).read_text()))
        except FileNotFoundError:
            return None
        if (child := self._children.get(record.pid)) is not None:
            child.poll()  # reaps our own child, so that it does not stay a zombie
        if record.boot != BOOT_ID.read_text().strip() or process_start(record.pid) != record.started:
            return None
        return record.pid

    @staticmethod
    def _signal(pid: int, number: signal.Signals) -> None:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            return
