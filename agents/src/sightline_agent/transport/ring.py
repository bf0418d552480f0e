"""The last packets as plaintext, kept once for all viewers: what NACKs are answered from.

Bounded in packets and in bytes; the oldest go first. Packets have an absolute index that only grows; viewers translate
their sequence numbers into it.
"""

from typing import NamedTuple

MAX_PACKETS = 8192
"""Some 18 s of 4 Mbit/s, 2 s of 40 Mbit/s: the group of pictures under way, and what is needed for repair. A quarter of
the sequence numbers at most, so that none is mistaken for another."""
MAX_BYTES = 12 * 1024 * 1024


class Kept(NamedTuple):
    """What is needed to make the packet again for any viewer."""

    payload: bytes
    timestamp: int
    marker: bool


class PacketRing:
    """Index -> packet for the newest packets."""

    def __init__(self, max_packets: int = MAX_PACKETS, max_bytes: int = MAX_BYTES) -> None:
        self._slots: list[Kept | None] = [None] * max_packets
        self._size = max_packets
        self._max_bytes = max_bytes
        self._bytes = 0
        self._first = 0
        self.next_index = 0
        """Index of the packet that is appended next."""

    def append(self, payload: bytes, timestamp: int, marker: bool) -> None:
        """Keep one more."""
        if self.next_index - self._first == self._size:
            self._drop_first()
        self._slots[self.next_index % self._size] = Kept(payload, timestamp, marker)
        self.next_index += 1
        self._bytes += len(payload)
        while self._bytes > self._max_bytes and self._first < self.next_index - 1:
            self._drop_first()

    def get(self, index: int) -> Kept | None:
        """A packet, or None when it is gone or was never there."""
        return self._slots[index % self._size] if self._first <= index < self.next_index else None

    def _drop_first(self) -> None:
        slot = self._first % self._size
        kept = self._slots[slot]
        self._slots[slot] = None
        self._first += 1
        self._bytes -= len(kept.payload) if kept else 0
