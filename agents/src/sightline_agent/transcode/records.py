"""What the agent and its transcoder write into each other's pipe: records of a fixed head and bytes. Pure.

Access units travel whole, in annex B, with the time at which they are shown on the 90 kHz clock, unwrapped. Both ends
are ours, yet a length is checked: a transcoder that a camera's stream has driven mad must not fill the agent's memory.
"""

import struct
from collections.abc import Iterator
from enum import IntEnum
from typing import NamedTuple

_HEAD = struct.Struct("!BqdI")
MAX_BODY = 16 * 1024 * 1024
"""A key frame of 8K is below it."""


class Kind(IntEnum):
    """What a record is."""

    UNIT = 1
    """To the transcoder: a coded picture. From it: the same picture as H.264."""
    KEY_FRAME = 2
    """To the transcoder: the next picture shall be one to begin at."""
    CODEC = 3
    """To the transcoder, before what is coded in it: FFmpeg's name of what comes."""
    TALLY = 4
    """From it, now and then: what it left out (`Tally`)."""
    PRELUDE = 5
    """To the transcoder: a coded picture that others refer to but nobody is to see."""


class Record(NamedTuple):
    """One record."""

    kind: Kind
    ticks: int = 0
    """When the picture is shown, at 90 kHz."""
    sent: float = 0.0
    """When the agent handed it over (CLOCK_MONOTONIC, one for all processes of a machine)."""
    body: bytes = b""


class RecordError(ValueError):
    """Bytes that are no record."""


def pack(record: Record) -> bytes:
    """The bytes of one."""
    return _HEAD.pack(record.kind, record.ticks, record.sent, len(record.body)) + record.body


class Splitter:
    """Takes bytes as they come out of a pipe and gives whole records."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[Record]:
        """The records that are whole now; RecordError."""
        self._buffer += data
        at = 0
        try:
            while len(self._buffer) - at >= _HEAD.size:
                kind, ticks, sent, size = _HEAD.unpack_from(self._buffer, at)
                if size > MAX_BODY or kind not in _KINDS:
                    raise RecordError("no record begins here")
                end = at + _HEAD.size + size
                if len(self._buffer) < end:
                    break
                body = bytes(self._buffer[at + _HEAD.size : end])
                at = end
                yield Record(Kind(kind), ticks, sent, body)
        finally:
            del self._buffer[:at]


_KINDS = frozenset(Kind)


class Tally(NamedTuple):
    """What the transcoder did with what it got, since its beginning."""

    encoded: int = 0
    late: int = 0
    """Decoded but not encoded, because they had waited too long."""
    broken: int = 0
    """Access units that the decoder could make nothing of."""

    def pack(self) -> bytes:
        return struct.pack("!3I", *self)

    @classmethod
    def unpack(cls, body: bytes) -> "Tally":
        """RecordError."""
        try:
            return cls(*struct.unpack("!3I", body))
        except struct.error:
            raise RecordError("no tally") from None
