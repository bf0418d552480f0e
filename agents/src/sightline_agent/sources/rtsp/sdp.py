"""The tracks in a camera's session description (RFC 8866, RFC 6184 section 8, RFC 7798 section 7). Pure and bounded."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from sightline_agent.media import h264, h265
from sightline_agent.media.grammar import GRAMMARS, H264, H265

MAX_LINES = 500
_RTPMAP = re.compile(r"(\d{1,3}) ([A-Za-z0-9._-]+)/(\d{1,9})(?:/(\d{1,3}))?")
_CODECS = frozenset({"H264", "H265", "HEVC", "MP4V-ES", "JPEG", "VP8", "VP9", "AV1", "MPV"})
_STATIC = {26: "JPEG", 32: "MPV"}
_STATIC_RATE = 8000
_STATIC_SOUND = {0: "PCMU", 3: "GSM", 8: "PCMA", 9: "G722", 10: "L16", 11: "L16", 14: "MPA"}


@dataclass(frozen=True, slots=True)
class VideoTrack:
    """One video track."""

    codec: str
    """As the camera names it, in capitals."""
    payload_type: int
    control: str
    parameter_sets: tuple[bytes, ...] = ()
    interleaved: bool = False
    """NAL units out of order (packetization-mode=2, sprop-max-don-diff), which is not undone here."""


@dataclass(frozen=True, slots=True)
class SoundTrack:
    """One track of sound."""

    codec: str
    """As the camera names it, in capitals; `unknown` where that is no name."""
    payload_type: int
    control: str
    clock_rate: int
    channels: int
    parameters: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Description:
    """What a camera offers."""

    control: str
    """Of the session: what PLAY is sent to."""
    videos: tuple[VideoTrack, ...]
    sounds: tuple[SoundTrack, ...] = ()

    @property
    def best(self) -> VideoTrack | None:
        """The first track of H.264, which every browser plays, else of H.265."""
        usable = [track for track in self.videos if track.codec in GRAMMARS and not track.interleaved]
        return min(usable, key=lambda track: track.codec != H264, default=None)


@dataclass(slots=True)
class _Section:
    media: str
    formats: list[int]
    control: str = ""
    codecs: dict[int, str] = field(default_factory=dict)
    clocks: dict[int, tuple[int, int]] = field(default_factory=dict)
    """Clock rate and channels."""
    parameters: dict[int, dict[str, str]] = field(default_factory=dict)


def parse(text: str) -> Description:
    """The description; lines that make no sense are passed over."""
    control, sections = "", list[_Section]()
    for raw in text.splitlines()[:MAX_LINES]:
        kind, equals, value = raw.strip().partition("=")
        if not equals:
            continue
        if kind == "m":
            sections.append(_section(value))
        elif kind == "a" and sections:
            _attribute(sections[-1], value)
        elif kind == "a" and value.startswith("control:"):
            control = value.removeprefix("control:").strip()
    videos = tuple(_track(section) for section in sections if section.media == "video" and section.formats)
    sounds = tuple(_sound(section) for section in sections if section.media == "audio" and section.formats)
    return Description(control, videos, sounds)


def _section(value: str) -> _Section:
    words = value.split()
    formats = [
        int(word) for word in words[3:] if word.isascii() and word.isdigit() and len(word) <= 3 and int(word) < 128
    ]
    return _Section(words[0].lower() if words else "", formats)


def _attribute(section: _Section, value: str) -> None:
    name, _, text = value.partition(":")
    text = text.strip()
    if name == "control":
        section.control = text
    elif name == "rtpmap" and (match := _RTPMAP.match(text)):
        section.codecs[int(match[1])] = match[2].upper()
        section.clocks[int(match[1])] = (int(match[3]), int(match[4] or 1))
    elif name == "fmtp":
        number, _, parameters = text.partition(" ")
        if number.isascii() and number.isdigit() and len(number) <= 3:
            section.parameters[int(number)] = _parameters(parameters)


def _parameters(text: str) -> dict[str, str]:
    pairs = (part.strip().partition("=") for part in text.split(";"))
    return {name.lower(): value.strip() for name, _, value in pairs if name}


def _track(section: _Section) -> VideoTrack:
    """The format of a section that can be shown, else its first."""
    found = {_codec(section, number): number for number in reversed(section.formats)}
    payload_type = found.get(H264, found.get(H265, section.formats[0]))
    parameters = section.parameters.get(payload_type, {})
    return VideoTrack(
        codec=_codec(section, payload_type),
        payload_type=payload_type,
        control=section.control,
        parameter_sets=tuple(_parameter_sets(parameters)),
        interleaved=parameters.get("packetization-mode") == "2"
        or parameters.get("sprop-max-don-diff", "0") != "0"
        or parameters.get("tx-mode", "SRST") != "SRST",
    )


def _parameter_sets(parameters: Mapping[str, str]) -> list[bytes]:
    """Of either codec; a section has those of its own."""
    of_h265 = [parameters.get(f"sprop-{name}", "") for name in ("vps", "sps", "pps")]
    return h264.parse_parameter_sets(parameters.get("sprop-parameter-sets", "")) + h265.parse_parameter_sets(*of_h265)


def _sound(section: _Section) -> SoundTrack:
    """The first format of a section of sound."""
    payload_type = section.formats[0]
    rate, channels = section.clocks.get(payload_type, (_STATIC_RATE, 1))
    return SoundTrack(
        codec=section.codecs.get(payload_type) or _STATIC_SOUND.get(payload_type, "unknown"),
        payload_type=payload_type,
        control=section.control,
        clock_rate=rate,
        channels=channels,
        parameters=section.parameters.get(payload_type, {}),
    )


def _codec(section: _Section, payload_type: int) -> str:
    name = section.codecs.get(payload_type) or _STATIC.get(payload_type, "")
    if name == "HEVC":
        return "H265"
    return name if name in _CODECS else "unknown"
