"""RTP as a camera sends it (RFC 3550): the header, and the order of packets.

Pure. `parse` gives the payload of one packet; `Reorderer` puts packets in order within a small window, so
that what follows may rely on consecutive sequence numbers and sees a loss as a loss.
"""

from collections.abc import Callable
from struct import Struct
from typing import NamedTuple

FIXED_HEADER = 12
_HEADER = Struct("!BBHII")
SEQUENCE_MODULUS = 1 << 16


class RtpError(ValueError):
    """Bytes that are no RTP packet."""


class RtpPacket(NamedTuple):
    """What is needed of one packet. A tuple, because one is made for each: half the cost of a dataclass."""

    payload_type: int
    marker: bool
    sequence: int
    timestamp: int
    ssrc: int
    payload: bytes


def parse(data: bytes) -> RtpPacket:
    """The packet in `data`; CSRC list, header extension and padding are skipped; RtpError if it is none."""
    if len(data) < FIXED_HEADER:
        raise RtpError("shorter than an RTP header")
    first, second, sequence, timestamp, ssrc = _HEADER.unpack_from(data)
    if first >> 6 != 2:
        raise RtpError("not RTP version 2")
    start = FIXED_HEADER + 4 * (first & 0x0F)
    if first & 0x10:
        if len(data) < start + 4:
            raise RtpError("cut in the header extension")
        start += 4 + 4 * int.from_bytes(data[start + 2 : start + 4], "big")
    end = len(data)
    if first & 0x20:
        padding = data[-1]
        if padding == 0:
            raise RtpError("padding of no length")
        end -= padding
    if start > end:
        raise RtpError("header and padding are longer than the packet")
    return RtpPacket(second & 0x7F, bool(second & 0x80), sequence, timestamp, ssrc, data[start:end])


def ahead(sequence: int, expected: int) -> int:
    """How far `sequence` is ahead of `expected` on the circle of 16 bits: -32768 to 32767."""
    return (sequence - expected + 0x8000) % SEQUENCE_MODULUS - 0x8000


class Reorderer:
    """Delivers packets in order; waits for a missing one until `window` later ones have come, or `give_up`.

    `lost` counts packets given up, `late` those that came twice or after they had been given up. Another SSRC, which
    numbers its packets for itself, and a jump further than `jump` in either direction (the camera restarted its
    numbering) begin anew.
    """

    def __init__(self, window: int = 16, jump: int = 1000, clock: Callable[[], float] = lambda: 0.0) -> None:
        """`clock`: any seconds, for `since`."""
        self._window = window
        self._jump = jump
        self._clock = clock
        self._expected: int | None = None
        self._ssrc = 0
        self._waiting: dict[int, tuple[RtpPacket, float]] = {}
        """In the order in which they came, with the time."""
        self.lost = 0
        self.late = 0

    @property
    def waiting(self) -> bool:
        """True while packets are held back for one that is missing."""
        return bool(self._waiting)

    @property
    def since(self) -> float | None:
        """Since when the packet that is missing now is waited for. What waits came after it, and what waited for one
        that was missing before has gone on: so the eldest that waits tells."""
        return next(iter(self._waiting.values()))[1] if self._waiting else None

    def give_up(self) -> list[tuple[RtpPacket, bool]]:
        """The missing packet has been waited for long enough: what comes after it, up to the next one missing."""
        return self._skip() if self._waiting else []

    def push(self, packet: RtpPacket) -> list[tuple[RtpPacket, bool]]:
        """Packets now in order; True beside one before which something is missing."""
        if self._expected is None:
            self._expected, self._ssrc = packet.sequence, packet.ssrc
        distance = ahead(packet.sequence, self._expected)
        if packet.ssrc != self._ssrc:
            distance, self._ssrc = self._jump + 1, packet.ssrc
        if distance == 0 and not self._waiting:  # the everyday case
            self._expected = (packet.sequence + 1) % SEQUENCE_MODULUS
            return [(packet, False)]
        if abs(distance) > self._jump:
            self._waiting.clear()
            self._expected = (packet.sequence + 1) % SEQUENCE_MODULUS
            return [(packet, True)]
        if distance < 0 or packet.sequence in self._waiting:
            self.late += 1
            return []
        self._waiting[packet.sequence] = packet, self._clock()
        ready = self._run()
        if len(self._waiting) > self._window:
            ready += self._skip()
        return ready

    def passes(self, sequence: int, ssrc: int, count: int) -> bool:
        """True where so many packets from this number on are just the next ones; they count as delivered."""
        if sequence != self._expected or ssrc != self._ssrc or self._waiting:
            return False
        self._expected = (sequence + count) % SEQUENCE_MODULUS
        return True

    def _run(self) -> list[tuple[RtpPacket, bool]]:
        ready = []
        while self._expected in self._waiting:
            ready.append((self._waiting.pop(self._expected)[0], False))
            self._expected = (self._expected + 1) % SEQUENCE_MODULUS
        return ready

    def _skip(self) -> list[tuple[RtpPacket, bool]]:
        expected = self._expected or 0
        nearest = min(self._waiting, key=lambda sequence: ahead(sequence, expected))
        self.lost += ahead(nearest, expected)
        self._expected = nearest
        ready = self._run()
        return [(packet, index == 0) for index, (packet, _) in enumerate(ready)]
