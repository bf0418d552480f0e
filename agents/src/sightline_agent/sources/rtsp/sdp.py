"""The video track in a camera's session description (RFC 8866, RFC 6184 section 8). Pure and bounded."""

import re
from dataclasses import dataclass, field

from sightline_agent.media import h264

MAX_LINES = 500
_RTPMAP = re.compile(r"(\d{1,3}) ([A-Za-z0-9._-]+)/(\d{1,9})")
_CODECS = frozenset({"H264", "H265", "HEVC", "MP4V-ES", "JPEG", "VP8", "VP9", "AV1", "MPV"})
_STATIC = {26: "JPEG", 32: "MPV"}


@dataclass(frozen=True, slots=True)
class VideoTrack:
    """One video track."""

    codec: str
    """As the camera names it, in capitals."""
    payload_type: int
    control: str
    parameter_sets: tuple[bytes, ...] = ()
    interleaved: bool = False
    """packetization-mode=2: NAL units out of order, which browsers do not play."""


@dataclass(frozen=True, slots=True)
class Description:
    """What a camera offers."""

    control: str
    """Of the session: what PLAY is sent to."""
    videos: tuple[VideoTrack, ...]

    @property
    def h264(self) -> VideoTrack | None:
        """The first track that can be shown."""
        return next((track for track in self.videos if track.codec == "H264" and not track.interleaved), None)


@dataclass(slots=True)
class _Section:
    media: str
    formats: list[int]
    control: str = ""
    codecs: dict[int, str] = field(default_factory=dict)
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
    return Description(control, videos)


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
    elif name == "fmtp":
        number, _, parameters = text.partition(" ")
        if number.isascii() and number.isdigit() and len(number) <= 3:
            section.parameters[int(number)] = _parameters(parameters)


def _parameters(text: str) -> dict[str, str]:
    pairs = (part.strip().partition("=") for part in text.split(";"))
    return {name.lower(): value.strip() for name, _, value in pairs if name}


def _track(section: _Section) -> VideoTrack:
    """The format of a section that can be shown, else its first."""
    payload_type = next((number for number in section.formats if _codec(section, number) == "H264"), None)
    if payload_type is None:
        payload_type = section.formats[0]
    parameters = section.parameters.get(payload_type, {})
    return VideoTrack(
        codec=_codec(section, payload_type),
        payload_type=payload_type,
        control=section.control,
        parameter_sets=tuple(h264.parse_parameter_sets(parameters.get("sprop-parameter-sets", ""))),
        interleaved=parameters.get("packetization-mode") == "2",
    )


def _codec(section: _Section, payload_type: int) -> str:
    name = section.codecs.get(payload_type) or _STATIC.get(payload_type, "")
    if name == "HEVC":
        return "H265"
    return name if name in _CODECS else "unknown"
