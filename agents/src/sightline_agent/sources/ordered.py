"""Packets of a network source in order, with bounded patience for a missing one.

The RTSP stream and the WHEP reception put what they receive through this: the pure `Reorderer` decides, this adds the
clock. Whoever takes a batch of packets calls `settle` once at its end, so that the timer moves once per batch.
"""

import asyncio
from collections.abc import Callable

from sightline_agent.media.rtp import Reorderer, RtpPacket

Push = Callable[[RtpPacket, bool], None]
"""The next packet in order, empty ones included, and whether something is missing before it."""


class OrderedPackets:
    """Hands packets to `push` in order; after `patience` seconds without the missing one it goes on without it. Each
    that is missing has its own patience: on a link that loses many there is always one that is waited for.

    `deliver` is called with the loop's time when packets went on because the patience was over, and only then.
    """

    def __init__(self, window: int, patience: float, push: Push, deliver: Callable[[float], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._reorderer = Reorderer(window, clock=self._loop.time)
        self._seconds = patience
        self._push = push
        self._deliver = deliver
        self._timer: asyncio.TimerHandle | None = None
        self.passes = self._reorderer.passes
        """True where so many packets are the next ones and nothing waits: the caller hands them on itself."""

    @property
    def waiting(self) -> bool:
        """True while packets are held back for one that is missing."""
        return self._reorderer.waiting

    @property
    def lost(self) -> int:
        """Packets given up."""
        return self._reorderer.lost

    @property
    def late(self) -> int:
        """Packets that came twice, or after they had been given up."""
        return self._reorderer.late

    def take(self, packet: RtpPacket) -> None:
        """Digest one packet."""
        self._hand_on(self._reorderer.push(packet))

    def settle(self) -> None:
        """Start to wait for what is missing, or stop when nothing is."""
        since = self._reorderer.since
        if since is None:
            self.close()
        elif self._timer is None or self._timer.when() != since + self._seconds:
            self.close()
            self._timer = self._loop.call_at(since + self._seconds, self._go_on)

    def close(self) -> None:
        """Wait for nothing more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _go_on(self) -> None:
        """The missing packet does not come any more, nor do others that are waited for as long."""
        self._timer = None
        now = self._loop.time()
        first = True
        while (since := self._reorderer.since) is not None and (first or now >= since + self._seconds):
            self._hand_on(self._reorderer.give_up())
            first = False
        self.settle()
        self._deliver(now)

    def _hand_on(self, packets: list[tuple[RtpPacket, bool]]) -> None:
        for packet, gap in packets:
            self._push(packet, gap)
