"""The unit that travels from a source to the viewers: RTP payloads of one frame, or of a part of one; and its format.

A source makes chunks as bytes arrive and never waits for a frame to be complete (that would add a frame of
delay); the hub hands each chunk to the fan-out, which adds headers per viewer. Payloads are at most
`MAX_PAYLOAD` bytes, so that a packet with SRTP, UDP and IPv6 headers fits the 1280 bytes that every IPv6 link
carries (RFC 8200 section 5).
"""

from dataclasses import dataclass
from typing import NamedTuple

MAX_PAYLOAD = 1200
CLOCK_RATE = 90_000


class Chunk(NamedTuple):
    """Consecutive RTP payloads of one frame of pictures (RFC 6184, RFC 7798), or one payload of sound. A tuple, because
    two are made for each frame: a third of the cost of a frozen dataclass.

    `timestamp` is the source's RTP timestamp in the codec's clock (90 kHz for pictures), modulo 2**32. `last`: the
    frame ends with this chunk (its last packet gets the marker bit). `key`: the chunk begins an access unit from which
    a decoder can start; parameter sets are in it. Any chunk of sound is one.
    """

    payloads: tuple[bytes, ...]
    timestamp: int
    last: bool
    key: bool


@dataclass(frozen=True, slots=True)
class VideoFormat:
    """The pictures that a source sends."""

    codec: str
    """`H264` or `H265`."""
    profile_level_id: str = ""
    """Of H.264: six hex digits (RFC 6184 section 8.1). Of H.265: profile, tier and level with dots between them."""
    width: int = 0
    height: int = 0
    b_frames: bool = False
    """Coded in another order than shown, which WebRTC players do not undo."""
    interlaced: bool = False


@dataclass(frozen=True, slots=True)
class AudioFormat:
    """The sound that a source sends."""

    codec: str
    """`OPUS`, `PCMU` or `PCMA`."""
    clock_rate: int
    channels: int = 1


@dataclass(frozen=True, slots=True)
class MediaFormat:
    """What a source sends, known before its first chunk."""

    video: VideoFormat
    audio: AudioFormat | None = None
    audio_problem: str = ""
    """Why there is no sound, in words, where the source has some that cannot be carried."""
