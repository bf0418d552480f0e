"""One HLS segment taken apart: H.264 or H.265 access units in annex B, and packets of sound, with their times.

Blocks for milliseconds; no network.
"""

import io
from dataclasses import dataclass
from typing import Any

from sightline_agent.media.frames import CLOCK_RATE
from sightline_agent.sources.access_units import annex_b, codec_of, video_stream
from sightline_agent.sources.averrors import Row, translated
from sightline_agent.sources.base import SourceError
from sightline_agent.sources.sound.container import coding_of, sound_stream
from sightline_agent.sources.sound.wire import Coding
from sightline_model.reasons import SourceReason

IT = "the HLS stream"
_BROKEN = (Row(("EOFError",), SourceReason.PROTOCOL_ERROR, "{it} is cut"),)
"""There is no connection that could have ended."""
_TS_SYNC = b"\x47"
_BOXES = (b"ftyp", b"styp", b"moov", b"moof", b"sidx", b"emsg", b"prft")


@dataclass(frozen=True, slots=True)
class Unit:
    """One access unit; times at 90 kHz on the segment's own clock."""

    data: bytes
    shown: int
    decoded: int
    codec: str
    """Of the pictures; empty for sound."""


@dataclass(frozen=True, slots=True)
class Taken:
    """What was in a segment, in the order of decoding."""

    units: list[Unit]
    sound: Coding | None


def decrypt(data: bytes, key: bytes, iv: bytes) -> bytes:
    """AES-128 in CBC with PKCS #7 padding (RFC 8216 section 4.3.2.4); ValueError where it cannot be."""
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
    from cryptography.hazmat.primitives.padding import PKCS7

    decryptor = Cipher(algorithms.AES128(key), modes.CBC(iv)).decryptor()
    unpadder = PKCS7(128).unpadder()
    padded = decryptor.update(data) + decryptor.finalize()
    return unpadder.update(padded) + unpadder.finalize()


def take(data: bytes, sound: bool = True) -> Taken:
    """A whole segment, its head before it, taken apart; SourceError. `sound`: whether it is wanted."""
    import av

    format_ = container_format(data)
    try:
        with av.open(io.BytesIO(data), "r", format_) as container:
            stream = video_stream(container, IT)
            codec = codec_of(stream)
            to_annex_b = annex_b(stream)
            beside = sound_stream(container) if sound else None
            coding = coding_of(beside) if beside is not None else None
            found: list[Unit] = []
            for packet in container.demux([stream] if beside is None else [stream, beside]):
                if not packet.size or packet.dts is None:
                    continue
                times = _ticks(packet, packet.pts), _ticks(packet, packet.dts)
                if packet.stream is beside:
                    found.append(Unit(bytes(packet), *times, ""))
                else:
                    found += [Unit(bytes(part), *times, codec) for part in to_annex_b.filter(packet)]
            if beside is not None:
                found.sort(key=lambda unit: unit.decoded)
            return Taken(found, coding)
    except (av.FFmpegError, OSError) as error:
        raise translated(error, f"a segment of {IT}", _BROKEN) from error


def container_format(data: bytes) -> str:
    """FFmpeg's name of what a segment is. Only the two kinds are opened: others may refer to further files."""
    if data[:1] == _TS_SYNC:
        return "mpegts"
    if data[4:8] in _BOXES:
        return "mp4"
    raise SourceError(SourceReason.PROTOCOL_ERROR, f"a segment of {IT} is neither MPEG-TS nor fragmented MP4")


def _ticks(packet: Any, time: int | None) -> int:
    ticks: int = round((packet.dts if time is None else time) * packet.time_base * CLOCK_RATE)
    return ticks
