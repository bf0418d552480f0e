"""Targets that read what the other pull sources get: HLS playlists, RTMP commands, a camera's RTCP."""

import contextlib
from random import Random

from sightline_agent.media import rtp
from sightline_agent.sources.hls import playlist
from sightline_agent.sources.rtmp import amf
from sightline_agent.sources.rtsp.feedback import Reception
from sightline_agent.transport import rtcp
from tests.fuzz.runner import Target

_URL = "https://example.com/live/index.m3u8"


class Playlist:
    """An HLS playlist."""

    def feed(self, data: bytes, random: Random) -> None:
        try:
            found = playlist.parse(data.decode("utf-8", "replace"), _URL)
        except playlist.PlaylistError as error:
            assert len(str(error)) < 200
            return
        if isinstance(found, playlist.Master):
            best = found.best()
            assert best is None or best.url.startswith(("http://", "https://"))
            return
        assert len(found.segments) <= playlist.MAX_SEGMENTS
        assert all(segment.part.url.startswith(("http://", "https://")) for segment in found.segments)
        assert found.target_seconds >= 0
        last = found.entry(random.choice((1, 3)))
        for segment in found.segments:
            if segment.follows(last):
                last = segment.place
        assert not any(segment.follows(last) for segment in found.segments)

    def check(self) -> None: ...

    def close(self) -> None: ...


class Amf:
    """The values of an RTMP command."""

    def feed(self, data: bytes, random: Random) -> None:
        try:
            values = amf.decode(data)
        except amf.AmfError:
            return
        assert len(values) <= len(data)

    def check(self) -> None: ...

    def close(self) -> None: ...


class CameraReports:
    """A camera's sender reports between its packets, and the reports that we make of them."""

    def __init__(self) -> None:
        self._reception = Reception(1)
        self._now = 0.0

    def feed(self, data: bytes, random: Random) -> None:
        self._now += random.random()
        self._reception.control(data, self._now)
        with contextlib.suppress(rtp.RtpError):
            self._reception.packet(rtp.parse(data), self._now)
        assert not rtcp.parse(self._reception.report(self._now)).malformed

    def check(self) -> None: ...

    def close(self) -> None: ...


_HLS_TOKENS = (
    b"#EXTM3U\n",
    b"#EXTINF:4.0,\n",
    b"#EXT-X-STREAM-INF:BANDWIDTH=9\n",
    b"#EXT-X-BYTERANGE:100@0\n",
    b'#EXT-X-PART:DURATION=0.5,URI="p",INDEPENDENT=YES\n',
    b"#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES\n",
    b"#EXT-X-PART-INF:PART-TARGET=0.5\n",
    b'#EXT-X-KEY:METHOD=AES-128,URI="k",IV=0x1\n',
    b'#EXT-X-MAP:URI="i.mp4",BYTERANGE="9@0"\n',
    b"http://[",
    b"file:///",
    b"//",
)
_AMF_TOKENS = (
    b"\3",
    b"\x0a\0\0\3\xe8",
    b"\x0a\0\0\0\1" * 20,
    b"\0\0\x09",
    b"\x08\0\0\0\1",
    b"\x0c\xff\xff\xff\xff",
    b"\5",
)
_RTP_TOKENS = (b"\x80\xc8\0\6", b"\x81\xcb\0\1", b"\x80\x60", bytes(12), b"\xff" * 8)

TARGETS = (
    Target("playlist", Playlist, _HLS_TOKENS, 256 * 1024),
    Target("amf", Amf, _AMF_TOKENS, 65_536),
    Target("camera-reports", CameraReports, _RTP_TOKENS, 65_535),
)
