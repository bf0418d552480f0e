"""HLS playlists (RFC 8216) as values. Pure: any text gives a playlist or a PlaylistError.

What matters for one picture stream is read; renditions of sound and subtitles and dates are passed over. Where a
low-latency server publishes parts of its segments and answers requests for the next one when it is there
(draft-pantos-hls-rfc8216bis), the parts stand in place of their segments.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urljoin, urlsplit

MAX_SEGMENTS = 20_000
# Looks behind, so that a long word without a value is tried once and not again from each of its letters.
_ATTRIBUTE = re.compile(r'(?<![A-Z0-9-])([A-Z0-9-]+)=("[^"]*"|[^",]*)(?:,|$)')
_RANGE = re.compile(r"([0-9]{1,18})(?:@([0-9]{1,18}))?")
_H264 = ("avc1", "avc3")
_H265 = ("hvc1", "hev1")
WHOLE = 1_000_000
"""The place of a whole segment, behind any part of it."""
_OTHER_VIDEO = ("hvc1", "hev1", "av01", "vp08", "vp09", "dvh1", "dvhe")


class PlaylistError(ValueError):
    """No playlist, or one that asks for what is not done here; the text holds no address."""


@dataclass(frozen=True, slots=True)
class Part:
    """Bytes at an address: all of them, or `length` bytes from `start` on."""

    url: str
    start: int = 0
    length: int | None = None


@dataclass(frozen=True, slots=True)
class Key:
    """AES-128 key of a segment; without `iv` its number is the initialization vector."""

    url: str
    iv: bytes | None


@dataclass(frozen=True, slots=True)
class Segment:
    """One piece of media."""

    number: int
    part: Part
    seconds: float
    anew: bool
    """Its clock is not that of the one before."""
    head: Part | None
    """What has to be read before it (fragmented MP4)."""
    key: Key | None
    index: int = WHOLE
    """Which part of the segment it is."""
    independent: bool = True
    """Begins with a key frame."""

    @property
    def place(self) -> tuple[int, int]:
        """In the order of playing."""
        return self.number, self.index

    @property
    def before(self) -> tuple[int, int]:
        """A place that this one follows."""
        return (self.number - 1, WHOLE) if self.index == WHOLE else (self.number, self.index - 1)

    def follows(self, last: tuple[int, int]) -> bool:
        """Comes after `last`, and does not repeat parts of it."""
        return self.place > last and not (self.index == WHOLE and self.number == last[0])


@dataclass(frozen=True, slots=True)
class Media:
    """The segments that are there now."""

    segments: tuple[Segment, ...]
    target_seconds: float
    ended: bool
    part_seconds: float = 0.0
    """Of parts, where there are some; then the server answers when the next one is there."""
    hold_back: float = 0.0
    """How far from the end parts are to be played."""
    next_place: tuple[int, int] = (0, 0)
    """What comes after all that is there."""

    def overlaps(self, other: "Media") -> bool:
        """Names a segment that the other one has under the same number: one of them is merely older. Where several
        servers answer, not all of them know the newest."""
        known = {(segment.place, segment.part) for segment in other.segments}
        return any((segment.place, segment.part) in known for segment in self.segments)

    def entry(self, from_end: int) -> tuple[int, int]:
        """The place before the one where a viewer of the live stream begins: so many whole segments before the end, or
        at the last part with a key frame that is not too near to it."""
        if not self.segments:
            return -1, WHOLE
        rest, enough = 0.0, self.hold_back or 3 * self.part_seconds
        for segment in reversed(self.segments) if self.part_seconds else ():
            rest += segment.seconds
            if rest >= enough and segment.independent:
                return segment.before
        return self.segments[-from_end:][0].before


@dataclass(frozen=True, slots=True)
class Variant:
    """One quality."""

    url: str
    bandwidth: int
    codecs: tuple[str, ...]

    @property
    def playable(self) -> bool:
        """H.264, or nothing said."""
        return self._has(_H264) or not self._has(_OTHER_VIDEO)

    @property
    def h265(self) -> bool:
        """H.265, which few browsers play."""
        return self._has(_H265)

    def _has(self, names: tuple[str, ...]) -> bool:
        return any(codec.startswith(names) for codec in self.codecs)


@dataclass(frozen=True, slots=True)
class Master:
    """The qualities that are offered."""

    variants: tuple[Variant, ...]

    def best(self) -> Variant | None:
        """The one with the most bits that every browser plays, else of H.265; None where there is neither."""
        playable = [variant for variant in self.variants if variant.playable]
        playable = playable or [variant for variant in self.variants if variant.h265]
        return max(playable, key=lambda variant: variant.bandwidth, default=None)


def parse(text: str, url: str) -> Master | Media:
    """What the playlist at `url` says; PlaylistError."""
    lines = [line.strip() for line in text.lstrip("\ufeff").splitlines()]
    if not lines or not lines[0].startswith("#EXTM3U"):
        raise PlaylistError("there is no HLS playlist at this address")
    if any(line.startswith("#EXT-X-STREAM-INF:") for line in lines):
        return Master(tuple(_variants(lines, url)))
    return _Reader(url).read(lines)


def _variants(lines: list[str], url: str) -> Iterator[Variant]:
    pending: dict[str, str] | None = None
    for line in lines:
        if line.startswith("#EXT-X-STREAM-INF:"):
            pending = _attributes(line)
        elif line and not line.startswith("#") and pending is not None:
            codecs = tuple(codec.strip().lower() for codec in pending.get("CODECS", "").split(",") if codec.strip())
            yield Variant(_resolve(url, line), int(_number(pending.get("BANDWIDTH", ""))), codecs)
            pending = None


class _Reader:
    """State between the lines of a media playlist."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._target = 0.0
        self._number = 0
        self._ended = False
        self._anew = False
        self._seconds = 0.0
        self._range: tuple[int, int | None] | None = None
        self._behind: dict[str, int] = {}
        """Where the last byte range of each address ended."""
        self._head: Part | None = None
        self._key: Key | None = None
        self._segments: list[Segment] = []
        self._blocking = False
        self._hold_back = self._part_seconds = 0.0
        self._parts: list[Segment] = []
        """Of the segment that comes next."""
        self._had_parts = False

    def read(self, lines: list[str]) -> Media:
        for line in lines:
            if line.startswith("#EXT"):
                self._tag(line)
            elif line and not line.startswith("#"):
                self._segment(line)
        self._segments += self._parts
        if not self._target and not self._segments:
            raise PlaylistError("the HLS playlist names no segments")
        target = self._target or max(segment.seconds for segment in self._segments)
        part_seconds = self._part_seconds if self._had_parts and not self._ended else 0.0
        return Media(
            tuple(self._segments), target, self._ended, part_seconds, self._hold_back, (self._number, len(self._parts))
        )

    def _tag(self, line: str) -> None:
        name, _, value = line.partition(":")
        match name:
            case "#EXT-X-TARGETDURATION":
                self._target = _number(value)
            case "#EXT-X-MEDIA-SEQUENCE":
                self._number = int(_number(value))
            case "#EXT-X-ENDLIST":
                self._ended = True
            case "#EXT-X-DISCONTINUITY":
                self._anew = True
            case "#EXTINF":
                self._seconds = _number(value.partition(",")[0])
            case "#EXT-X-BYTERANGE":
                self._range = _range(value)
            case "#EXT-X-MAP":
                self._head = self._map(_attributes(line))
            case "#EXT-X-KEY":
                self._key = self._encryption(_attributes(line))
            case "#EXT-X-SERVER-CONTROL":
                control = _attributes(line)
                self._blocking = control.get("CAN-BLOCK-RELOAD") == "YES"
                self._hold_back = _number(control.get("PART-HOLD-BACK", ""))
            case "#EXT-X-PART-INF":
                self._part_seconds = _number(_attributes(line).get("PART-TARGET", ""))
            case "#EXT-X-PART":
                self._part(_attributes(line))

    def _map(self, attributes: dict[str, str]) -> Part:
        url = _resolve(self._url, attributes.get("URI", ""))
        if "BYTERANGE" not in attributes:
            return Part(url)
        length, start = _range(attributes["BYTERANGE"])
        return Part(url, start or 0, length)

    def _encryption(self, attributes: dict[str, str]) -> Key | None:
        method = attributes.get("METHOD", "NONE")
        if method == "NONE":
            return None
        if method != "AES-128" or attributes.get("KEYFORMAT", "identity") != "identity":
            raise PlaylistError("the HLS stream is protected (DRM)")
        iv = None
        if "IV" in attributes:
            digits = attributes["IV"].lower().removeprefix("0x")
            if not re.fullmatch(r"[0-9a-f]{1,32}", digits):
                raise PlaylistError("the HLS playlist holds a key that is none")
            iv = int(digits, 16).to_bytes(16, "big")
        return Key(_resolve(self._url, attributes.get("URI", "")), iv)

    def _segment(self, line: str) -> None:
        self._bounded()
        part = self._bytes(_resolve(self._url, line), self._range)
        if self._parts:
            self._segments += self._parts
        else:
            self._segments.append(Segment(self._number, part, self._seconds, self._anew, self._head, self._key))
        self._number += 1
        self._parts = []
        self._anew, self._range, self._seconds = False, None, 0.0

    def _part(self, attributes: dict[str, str]) -> None:
        """A part can be used where the server tells of the next one, and where it can be read by itself: of fragmented
        MP4, in the clear."""
        if not self._blocking or not self._part_seconds or self._head is None or self._key is not None:
            return
        self._bounded()
        self._had_parts = True
        range_ = _range(attributes["BYTERANGE"]) if "BYTERANGE" in attributes else None
        part = self._bytes(_resolve(self._url, attributes.get("URI", "")), range_)
        made = Segment(
            number=self._number,
            part=part,
            seconds=_number(attributes.get("DURATION", "")),
            anew=self._anew and not self._parts,
            head=self._head,
            key=None,
            index=len(self._parts),
            independent=attributes.get("INDEPENDENT") == "YES",
        )
        self._parts.append(made)

    def _bytes(self, url: str, range_: tuple[int, int | None] | None) -> Part:
        if range_ is None:
            return Part(url)
        length, start = range_
        part = Part(url, self._behind.get(url, 0) if start is None else start, length)
        self._behind[url] = part.start + length
        return part

    def _bounded(self) -> None:
        if len(self._segments) + len(self._parts) >= MAX_SEGMENTS:
            raise PlaylistError(f"the HLS playlist has more than {MAX_SEGMENTS} segments")


def _attributes(line: str) -> dict[str, str]:
    return {name: value.strip('"') for name, value in _ATTRIBUTE.findall(line.partition(":")[2])}


def _range(text: str) -> tuple[int, int | None]:
    found = _RANGE.fullmatch(text.strip())
    if found is None:
        raise PlaylistError("the HLS playlist holds a byte range that is none")
    return int(found[1]), int(found[2]) if found[2] else None


def _number(text: str) -> float:
    found = re.fullmatch(r"[0-9]{1,15}(\.[0-9]*)?", text.strip())
    return float(found[0]) if found else 0.0


def _resolve(base: str, reference: str) -> str:
    try:
        url = urljoin(base, reference)
        scheme = urlsplit(url).scheme
    except ValueError:
        scheme = ""
    if scheme not in ("http", "https"):
        raise PlaylistError("the HLS playlist holds an address that is not http or https")
    return url
