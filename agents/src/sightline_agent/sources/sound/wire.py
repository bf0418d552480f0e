"""What the agent and the process that encodes its sound say to one another, over the two ends of a pipe. Pure.

A record is a time in samples at 48 kHz, a length, and the bytes: coded sound in one direction, Opus in the other.
"""

from dataclasses import dataclass
from struct import Struct

MAX_RECORD_BYTES = 64 * 1024
_HEAD = Struct("!qI")
HEAD_BYTES = _HEAD.size


class WireError(ValueError):
    """Bytes that are no record."""


@dataclass(frozen=True, slots=True)
class Coding:
    """What comes: FFmpeg's name of the codec, samples per second, channels, and what its decoder starts from."""

    codec: str
    rate: int
    channels: int
    configuration: bytes = b""

    def arguments(self) -> list[str]:
        """For the command line."""
        return [self.codec, str(self.rate), str(self.channels), self.configuration.hex()]

    @classmethod
    def of(cls, arguments: list[str]) -> "Coding":
        """From the command line; ValueError."""
        codec, rate, channels, configuration = arguments
        return cls(codec, int(rate), int(channels), bytes.fromhex(configuration))


def write(at: int, data: bytes) -> bytes:
    """One record."""
    return _HEAD.pack(at, len(data)) + data


def read_head(head: bytes) -> tuple[int, int]:
    """Time and length of the record whose first bytes these are; WireError."""
    at, length = _HEAD.unpack(head)
    if length > MAX_RECORD_BYTES:
        raise WireError("a record of impossible length")
    return at, length
