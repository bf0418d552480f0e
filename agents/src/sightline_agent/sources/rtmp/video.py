"""H.264 in RTMP's video messages (the body of an FLV video tag; enhanced RTMP with its four letters too). Pure."""

from dataclasses import dataclass

from sightline_agent.sources.base import SourceError
from sightline_model.reasons import SourceReason

_AVC = 7
_CODECS = {2: "H263", 3: "SCREEN VIDEO", 4: "VP6", 5: "VP6", 6: "SCREEN VIDEO", 12: "HEVC", 13: "AV1"}
_FOURCC = {b"hvc1": "HEVC", b"av01": "AV1", b"vp09": "VP9", b"vp08": "VP8", b"vvc1": "VVC"}
_COMMAND_FRAME = 5
_CONFIGURATION, _CODED, _END, _CODED_AT_ONCE = range(4)


class VideoError(ValueError):
    """A video message that makes no sense."""


@dataclass(frozen=True, slots=True)
class Configuration:
    """Parameter sets, and how many bytes tell the length of a NAL unit."""

    parameter_sets: tuple[bytes, ...]
    length_bytes: int


@dataclass(frozen=True, slots=True)
class Coded:
    """One access unit, its NAL units behind their lengths."""

    data: bytes
    delay: int
    """Milliseconds from decoding to showing."""


def parse(body: bytes) -> Configuration | Coded | None:
    """What the message holds; None for nothing of interest; VideoError; SourceError for a codec that is no H.264."""
    if not body:
        return None
    if body[0] & 0x80:
        return _enhanced(body)
    if body[0] >> 4 == _COMMAND_FRAME:
        return None
    codec = body[0] & 0x0F
    if codec != _AVC:
        raise _unsupported(_CODECS.get(codec, f"codec {codec}"))
    if len(body) < 5:
        raise VideoError("cut")
    return _content(body[1], body[2:])


def nals(data: bytes, length_bytes: int) -> list[bytes]:
    """The NAL units behind their lengths; VideoError."""
    found, at = [], 0
    while at + length_bytes <= len(data):
        size = int.from_bytes(data[at : at + length_bytes], "big")
        at += length_bytes
        if at + size > len(data):
            raise VideoError("a NAL unit is longer than its message")
        if size:
            found.append(data[at : at + size])
        at += size
    return found


def _enhanced(body: bytes) -> Configuration | Coded | None:
    if body[0] >> 4 & 0x07 == _COMMAND_FRAME:
        return None
    kind, name = body[0] & 0x0F, body[1:5]
    if name != b"avc1":
        raise _unsupported(_FOURCC.get(name, "an unknown codec"))
    if kind == _CODED_AT_ONCE:
        return Coded(body[5:], 0)
    return _content(kind, body[5:])


def _content(kind: int, data: bytes) -> Configuration | Coded | None:
    if kind == _CONFIGURATION:
        # Before AVC's decoder configuration the old form has a time that means nothing.
        return _configuration(data if data[:1] == b"\1" else data[3:])
    if kind == _CODED:
        if len(data) < 3:
            raise VideoError("cut")
        return Coded(data[3:], int.from_bytes(data[:3], "big", signed=True))
    return None


def _configuration(data: bytes) -> Configuration:
    """AVCDecoderConfigurationRecord (ISO 14496-15 section 5.3.3.1)."""
    if len(data) < 7 or data[0] != 1:
        raise VideoError("no decoder configuration")
    sets: list[bytes] = []
    at = 5
    for mask in (0x1F, 0xFF):
        if at >= len(data):
            break
        count = data[at] & mask
        at += 1
        for _ in range(count):
            size = int.from_bytes(data[at : at + 2], "big")
            nal = data[at + 2 : at + 2 + size]
            if len(nal) < size or not size:
                raise VideoError("a parameter set is cut")
            sets.append(nal)
            at += 2 + size
    return Configuration(tuple(sets), (data[4] & 0x03) + 1)


def _unsupported(name: str) -> SourceError:
    return SourceError(SourceReason.CODEC_UNSUPPORTED, f"the RTMP stream's video is {name}; only H264 can be played")
