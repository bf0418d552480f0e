"""The unit that travels from a source to the viewers: RTP payloads of one frame, or of a part of one.

A source makes chunks as bytes arrive and never waits for a frame to be complete (that would add a frame of
delay); the hub hands each chunk to the fan-out, which adds headers per viewer. Payloads are at most
`MAX_PAYLOAD` bytes, so that a packet with SRTP, UDP and IPv6 headers fits the 1280 bytes that every IPv6 link
carries (RFC 8200 section 5).
"""

from dataclasses import dataclass

MAX_PAYLOAD = 1200
CLOCK_RATE = 90_000


@dataclass(frozen=True, slots=True)
class Chunk:
    """Consecutive RTP payloads (RFC 6184) of one frame.

    `timestamp` is the source's RTP timestamp at 90 kHz, modulo 2**32. `last`: the frame ends with this chunk
    (its last packet gets the marker bit). `key`: the chunk begins an access unit from which a decoder can
    start; parameter sets are in it.
    """

    payloads: tuple[bytes, ...]
    timestamp: int
    last: bool
    key: bool


@dataclass(frozen=True, slots=True)
class VideoFormat:
    """What a source sends, known before its first chunk."""

    codec: str
    """`H264`; others are refused for now."""
    profile_level_id: str = ""
    """Six hex digits of RFC 6184 section 8.1."""
    width: int = 0
    height: int = 0
