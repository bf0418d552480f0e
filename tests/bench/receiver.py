"""The native receiver: builds `receiver.c`, loads it, and speaks with it."""

import asyncio
import ctypes
import os
import shutil
import socket
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

from tests.bench.latency import Arrival

SOURCE = Path(__file__).with_name("receiver.c")
RING = 1024
_HEAD = struct.Struct("=I4sHH")
_CONTROL_BUFFER = 4 << 20
_BUFFER = 8 << 20
_SO_RCVBUFFORCE = 33

Deliver = Callable[[bytes, tuple[str, int]], None]


class ReceiverError(Exception):
    """It cannot be built or does not take a socket."""


class Stats(ctypes.Structure):
    """`struct stats`."""

    packets: int
    bytes: int
    missing: int
    late: int
    frames: int
    other: int
    control: int
    refused: int
    ssrc: int
    highest: int
    _fields_ = [
        *((name, ctypes.c_uint64) for name in ("packets", "bytes", "missing", "late", "frames")),
        *((name, ctypes.c_uint64) for name in ("other", "control", "refused")),
        *((name, ctypes.c_uint32) for name in ("ssrc", "highest")),
    ]


class _Frame(ctypes.Structure):
    ns: int
    timestamp: int
    bytes: int
    _fields_ = [("ns", ctypes.c_int64), ("timestamp", ctypes.c_uint32), ("bytes", ctypes.c_uint32)]


def build(source: Path, target: Path) -> Path:
    """Compile a C file to a shared library, unless that is there and newer."""
    if target.exists() and target.stat().st_mtime > source.stat().st_mtime:
        return target
    compiler = shutil.which("cc")
    if compiler is None:
        raise ReceiverError("make bench needs a C compiler (apt-get install gcc libc6-dev)")
    target.parent.mkdir(parents=True, exist_ok=True)
    options = ["-O2", "-Wall", "-Wextra", "-shared", "-fPIC", "-pthread"]
    done = subprocess.run(
        [compiler, *options, "-o", str(target), str(source), "-ldl"], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise ReceiverError(f"{source.name} does not compile:\n{done.stderr}")
    return target


class Receiver:
    """All cheap viewers of this process."""

    def __init__(self, library: Path) -> None:
        self._library = ctypes.CDLL(str(library))
        self._library.rx_stats.restype = ctypes.POINTER(Stats)
        self._library.rx_frames.restype = ctypes.POINTER(_Frame)
        self._deliver: dict[int, Deliver] = {}
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _CONTROL_BUFFER)
        ours.setblocking(False)
        self._ours, self._theirs = ours, theirs
        asyncio.get_running_loop().add_reader(ours, self._control)
        if self._library.rx_start(theirs.fileno()):
            raise ReceiverError("the receiver's thread does not start")

    def add(self, sock: socket.socket, deliver: Deliver) -> int:
        """Take over the reading of a connected viewer's socket; what is not RTP is delivered."""
        widen(sock)
        index: int = self._library.rx_add(sock.fileno())
        if index < 0:
            raise ReceiverError(f"the receiver does not take a socket: {os.strerror(ctypes.get_errno())}")
        self._deliver[index] = deliver
        return index

    def stats(self, index: int) -> Stats:
        """A copy of a viewer's counters."""
        return Stats.from_buffer_copy(self._library.rx_stats(index).contents)

    def arrivals(self, index: int, first: int, last: int) -> list[Arrival]:
        """Frames number `first` to `last` (exclusive), as far as they are remembered."""
        frames = self._library.rx_frames(index)
        found = []
        for number in range(max(first, last - RING + 1), last):
            frame = frames[number % RING]
            found.append(Arrival(frame.ns, frame.timestamp, frame.bytes))
        return found

    def _control(self) -> None:
        for _ in range(256):
            try:
                datagram = self._ours.recv(2048)
            except BlockingIOError:
                return
            viewer, address, port, _unused = _HEAD.unpack_from(datagram)
            self._deliver[viewer](datagram[_HEAD.size :], (socket.inet_ntoa(address), port))


def widen(sock: socket.socket) -> None:
    """A receive buffer in which whole key frames find room; past the system's limit only as root."""
    try:
        sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER)
    except PermissionError:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
