"""The two UDP ports of a stream (RTP and, one above, RTCP), read without a queue in between.

Only datagrams from the camera's address are taken; from the first RTP packet on only those from its port, too. A
firewall or an address translation on the way opens for what answers a packet of ours: `punch` sends one from each
port before the camera begins.
"""

import asyncio
import contextlib
import socket
from collections.abc import Callable

from sightline_agent.sources.base import SourceError
from sightline_model.reasons import SourceReason

RECEIVE_BUFFER = 4 * 1024 * 1024
"""Asked of the kernel, which may give less: a key frame arrives as one burst."""
_ATTEMPTS = 64
_BATCH = 256
"""Datagrams per wake-up, so that a flood does not stop everything else."""
_MAX_DATAGRAM = 65_535
_PUNCH = bytes.fromhex("80000000 00000000 00000000")
"""An RTP packet without content."""

Take = Callable[[list[bytes]], None]


class UdpPair:
    """Use `open_pair`."""

    def __init__(self, rtp: socket.socket, rtcp: socket.socket, host: str) -> None:
        self._rtp, self._rtcp = rtp, rtcp
        self._host = host
        self._far: tuple[int, int] | None = None
        self._port: int | None = None
        self._buffer = bytearray(_MAX_DATAGRAM)
        self._loop = asyncio.get_running_loop()
        self.foreign = 0
        """Datagrams that did not come from the camera."""

    @property
    def ports(self) -> tuple[int, int]:
        """Our RTP and RTCP ports."""
        return self._rtp.getsockname()[1], self._rtcp.getsockname()[1]

    def aim(self, ports: tuple[int, int] | None) -> None:
        """The camera sends from these ports."""
        self._far = ports

    def start(self, on_rtp: Take, on_rtcp: Take) -> None:
        """From now on hand over what arrives, in batches."""
        self._loop.add_reader(self._rtp, lambda: self._read(self._rtp, on_rtp))
        self._loop.add_reader(self._rtcp, lambda: self._read(self._rtcp, on_rtcp))

    def punch(self, report: bytes) -> None:
        """Send something from both ports to the camera's."""
        if self._far is not None:
            self._send(self._rtp, _PUNCH, self._far[0])
        self.send_report(report)

    def send_report(self, report: bytes) -> None:
        """Send RTCP, if the camera has told where to."""
        if self._far is not None:
            self._send(self._rtcp, report, self._far[1])

    def close(self) -> None:
        """Give the ports back."""
        for one in (self._rtp, self._rtcp):
            self._loop.remove_reader(one)
            one.close()

    def _send(self, sender: socket.socket, data: bytes, port: int) -> None:
        with contextlib.suppress(OSError):  # lost, like any datagram
            sender.sendto(data, (self._host, port))

    def _read(self, receiver: socket.socket, take: Take) -> None:
        found: list[bytes] = []
        for _ in range(_BATCH):
            try:
                size, source = receiver.recvfrom_into(self._buffer)
            except OSError:  # nothing more; or the camera's machine refused something of ours
                break
            if source[0] != self._host or (receiver is self._rtp and self._port not in (None, source[1])):
                self.foreign += 1
                continue
            if receiver is self._rtp and size:
                self._port = source[1]
            found.append(bytes(memoryview(self._buffer)[:size]))
        if found:
            take(found)


def open_pair(local: str, remote: str) -> UdpPair:
    """Two neighbouring ports at our end of the RTSP connection, the first one even (RFC 3550 section 11)."""
    family = socket.AF_INET6 if ":" in local else socket.AF_INET
    for _ in range(_ATTEMPTS):
        with contextlib.suppress(OSError):
            return UdpPair(*_bind(family, local), remote)
    raise SourceError(SourceReason.UNREACHABLE, "no two neighbouring UDP ports are free")


def _bind(family: socket.AddressFamily, local: str) -> tuple[socket.socket, socket.socket]:
    with contextlib.ExitStack() as stack:
        rtp = stack.enter_context(socket.socket(family, socket.SOCK_DGRAM))
        rtp.bind((local, 0))
        port = rtp.getsockname()[1]
        if port % 2:
            raise OSError("an odd port")
        rtcp = stack.enter_context(socket.socket(family, socket.SOCK_DGRAM))
        rtcp.bind((local, port + 1))
        for one in (rtp, rtcp):
            one.setblocking(False)
        rtp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
        stack.pop_all()
        return rtp, rtcp
