"""Processes of this machine. One may end while a test looks at it; then it is simply not there."""

from pathlib import Path


def children(pid: int) -> list[int]:
    """Process ids of its children."""
    return [int(child) for child in _read(f"/proc/{pid}/task/{pid}/children").split()]


def children_that_run(pid: int, program: str) -> list[int]:
    """Those of its children that have a word in their command line."""
    return [child for child in children(pid) if program.encode() in _read(f"/proc/{child}/cmdline")]


def _read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""
