"""Where in the stream a viewer who joins now may begin: at the key frame of the group of pictures under way.

The fan-out's ring holds the packets, once for all; this holds what the ring does not know: at which packet the
newest group begins, how long it is, and whether it is still worth sending. It is bounded in seconds, bytes and
packets. A group that outgrows a bound is dropped as a whole (part of one cannot be decoded), which is counted by
its cause; who joins then waits for the next key frame. Pure.
"""

from collections import Counter
from dataclasses import dataclass
from enum import StrEnum

from sightline_agent.media.frames import CLOCK_RATE, Chunk

_MODULUS = 1 << 32


class GopDrop(StrEnum):
    """Why a whole group was dropped."""

    TOO_LONG = "too-long"
    TOO_LARGE = "too-large"


@dataclass(frozen=True, slots=True)
class GopBounds:
    """What a group may have; packets and bytes must be less than the ring keeps."""

    seconds: float = 12.0
    """By timestamps. A viewer decodes some eight seconds of 1080p30 in one: longer groups start late."""
    octets: int = 10 * 1024 * 1024
    packets: int = 7168


class GopCache:
    """Fed with every chunk, in order."""

    def __init__(self, bounds: GopBounds | None = None) -> None:
        self._bounds = bounds or GopBounds()
        self._next = 0
        self._octets = 0
        self._timestamp = 0
        self.start: int | None = None
        """Index of the first packet of the group under way; None: there is nothing to begin with."""
        self.seconds = 0.0
        """How much there is of it, by timestamps."""
        self.dropped: Counter[GopDrop] = Counter()

    def add(self, chunk: Chunk) -> None:
        """The next chunk; packets are counted from 0, as the ring does."""
        first = self._next
        self._next += len(chunk.payloads)
        if chunk.key:
            self.start, self.seconds = first, 0.0
            self._octets, self._timestamp = 0, chunk.timestamp
        if self.start is None:
            return
        self._octets += sum(map(len, chunk.payloads))
        elapsed = (chunk.timestamp - self._timestamp) % _MODULUS
        if elapsed < _MODULUS // 2:  # else it is one from before the key frame, in the order of decoding
            self.seconds = max(self.seconds, elapsed / CLOCK_RATE)
        bounds = self._bounds
        if self.seconds > bounds.seconds:
            self._drop(GopDrop.TOO_LONG)
        elif self._octets > bounds.octets or self._next - self.start > bounds.packets:
            self._drop(GopDrop.TOO_LARGE)

    def clear(self) -> None:
        """What has come so far is no beginning any more: the source was stopped or replaced."""
        self.start, self.seconds = None, 0.0

    def _drop(self, why: GopDrop) -> None:
        self.dropped[why] += 1
        self.clear()
