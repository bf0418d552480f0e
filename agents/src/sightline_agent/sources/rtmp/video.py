"""H.264 and H.265 in RTMP's video messages: FLV video tags, and enhanced RTMP with its four letters. Pure."""

from dataclasses import dataclass

from sightline_agent.media.grammar import H264, H265
from sightline_agent.sources.base import SourceError
from sightline_model.reasons import SourceReason

_PASSED_ON: dict[int | bytes, str] = {7: H264, 12: H265, b"avc1": H264, b"hvc1": H265}
"""By the old number (H.265's is not of the specification but in use) and by the four letters."""
_CODECS = {2: "H263", 3: "SCREEN VIDEO", 4: "VP6", 5: "VP6", 6: "SCREEN VIDEO", 13: "AV1"}
_FOURCC = {b"av01": "AV1", b"vp09": "VP9", b"vp08": "VP8", b"vvc1": "VVC"}
_COMMAND_FRAME = 5
_CONFIGURATION, _CODED, _END, _CODED_AT_ONCE = range(4)


class VideoError(ValueError):
    """A video message that makes no sense."""


@dataclass(frozen=True, slots=True)
class Configuration:
    """Parameter sets, and how many bytes tell the length of a NAL unit."""

    parameter_sets: tuple[bytes, ...]
    length_bytes: int
    codec: str = H264


@dataclass(frozen=True, slots=True)
class Coded:
    """One access unit, its NAL units behind their lengths."""

    data: bytes
    delay: int
    """Milliseconds from decoding to showing."""


def parse(body: bytes) -> Configuration | Coded | None:
    """What the message holds; None for nothing of interest; VideoError; SourceError for another codec."""
    if not body:
        return None
    if body[0] & 0x80:
        return _enhanced(body)
    if body[0] >> 4 == _COMMAND_FRAME:
        return None
    number = body[0] & 0x0F
    codec = _PASSED_ON.get(number)
    if codec is None:
        raise _unsupported(_CODECS.get(number, f"codec {number}"))
    if len(body) < 5:
        raise VideoError("cut")
    return _content(codec, body[1], body[2:])


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
    codec = _PASSED_ON.get(name)
    if codec is None:
        raise _unsupported(_FOURCC.get(name, "an unknown codec"))
    if kind == _CODED_AT_ONCE:
        return Coded(body[5:], 0)
    return _content(codec, kind, body[5:])


def _content(codec: str, kind: int, data: bytes) -> Configuration | Coded | None:
    if kind == _CONFIGURATION:
        # Before the decoder configuration the old form has a time that means nothing.
        record = data if data[:1] == b"\1" else data[3:]
        return _configuration(record) if codec == H264 else _configuration_of_h265(record)
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
        found, at = _sets(data, at + 1, data[at] & mask)
        sets += found
    return Configuration(tuple(sets), (data[4] & 0x03) + 1)


def _configuration_of_h265(data: bytes) -> Configuration:
    """HEVCDecoderConfigurationRecord (ISO 14496-15 section 8.3.3.1)."""
    if len(data) < 23 or data[0] != 1:
        raise VideoError("no decoder configuration")
    sets: list[bytes] = []
    at = 23
    for _ in range(data[22]):
        found, at = _sets(data, at + 3, int.from_bytes(data[at + 1 : at + 3], "big"))
        sets += found
    return Configuration(tuple(sets), (data[21] & 0x03) + 1, H265)


def _sets(data: bytes, at: int, count: int) -> tuple[list[bytes], int]:
    """So many parameter sets behind their lengths, and where they end."""
    sets = []
    for _ in range(count):
        size = int.from_bytes(data[at : at + 2], "big")
        nal = data[at + 2 : at + 2 + size]
        if len(nal) < size or not size:
            raise VideoError("a parameter set is cut")
        sets.append(nal)
        at += 2 + size
    return sets, at


def _unsupported(name: str) -> SourceError:
    text = f"the RTMP stream's video is {name}; only H264 and H265 can be played"
    return SourceError(SourceReason.CODEC_UNSUPPORTED, text)
