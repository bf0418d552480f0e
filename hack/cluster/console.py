"""How the scripts talk and run programs: say what is done, show the end of the output when it fails."""

import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from hack.cluster.errors import ClusterError

TAIL_LINES = 25


def say(message: str) -> None:
    """One line to the person; standard output stays free for results such as `export KUBECONFIG=...`."""
    print(message, file=sys.stderr, flush=True)


def run(
    command: Sequence[str | Path],
    *,
    given: str | None = None,
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> str:
    """Run a program to its end and return what it printed; raise with its last words when it fails."""
    parts = [str(part) for part in command]
    try:
        done = subprocess.run(
            parts, input=given, env=environment, cwd=folder, capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        raise ClusterError(f"{parts[0]} is not installed") from None
    if done.returncode:
        output = (done.stdout + done.stderr).splitlines()[-TAIL_LINES:]
        raise ClusterError(f"`{' '.join(parts)}` failed ({done.returncode}):\n" + "\n".join(output))
    return done.stdout


def succeeds(command: Sequence[str | Path]) -> bool:
    """True when a program is there and ends with 0; what it prints is dropped."""
    try:
        done = subprocess.run([str(part) for part in command], capture_output=True, check=False)
    except FileNotFoundError:
        return False
    return done.returncode == 0


def exit_code(command: Callable[[], None]) -> int:
    """Run a command to its end: what may go wrong on somebody's machine is one message, and no traceback."""
    try:
        command()
    except (ClusterError, OSError) as error:  # a full disc, a folder of root's
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted: what runs already goes on, and the same command continues", file=sys.stderr)
        return 130
    return 0


class Stopwatch:
    """Seconds since it was made, for "done in 12 s"."""

    def __init__(self) -> None:
        self._began = time.monotonic()

    def __str__(self) -> str:
        return f"{self.seconds:.0f} s"

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._began
