"""RTCP between us and the camera: what it says of its stream, and receiver reports about how the stream arrives.

Some cameras take receiver reports for the sign of life of a UDP session, whatever RTSP requests come. Pure; formats
by RFC 3550 section 6.
"""

from dataclasses import dataclass
from struct import Struct

from sightline_agent.media.frames import CLOCK_RATE
from sightline_agent.media.rtp import RtpPacket, ahead
from sightline_agent.media.runs import Run
from sightline_agent.transport import rtcp

_BLOCK = Struct("!IIIIII")
_CNAME = b"sightline"
_MAX_LOST = 0x7FFFFF
_NTP_SECOND = 1 << 32
_RESTART = 1000
"""A jump of sequence numbers further than this is no loss: the camera began anew."""


@dataclass(slots=True)
class _Source:
    """What is counted of one stream (one SSRC)."""

    ssrc: int
    first: int
    """Sequence numbers here go on beyond 65535."""
    highest: int
    received: int = 0
    reported_expected: int = 0
    reported_received: int = 0
    timestamp: int | None = None
    transit: float = 0.0
    jitter: float = 0.0


class Reception:
    """How a camera's stream arrives. Times are any monotonic seconds."""

    def __init__(self, ssrc: int, clock_rate: int = CLOCK_RATE) -> None:
        self._ssrc = ssrc
        self._rate = clock_rate
        self._source: _Source | None = None
        self._sender_report = 0
        self._sender_report_at = 0.0
        self.told: tuple[float, int] | None = None
        """Seconds on the camera's clock and the timestamp of the same moment, from its last sender report."""

    def packet(self, packet: RtpPacket | Run, now: float, following: int = 0) -> None:
        """Count a packet, or the first one of a run, and so many of the same frame that follow it."""
        source = self._source
        if source is not None and source.ssrc == packet.ssrc:
            step = following + 1  # the everyday case
            if packet.sequence != (source.highest + 1) & 0xFFFF:
                step = ahead(packet.sequence + following, source.highest & 0xFFFF)
            if abs(step) > _RESTART:
                source = None
            elif step > 0:
                source.highest += step
        if source is None or source.ssrc != packet.ssrc:
            source = self._source = _Source(packet.ssrc, packet.sequence, packet.sequence + following)
        source.received += 1 + following
        if packet.timestamp != source.timestamp:  # one look per frame: its packets leave the camera together
            transit = now * self._rate - packet.timestamp
            change = abs(transit - source.transit)
            if source.timestamp is not None and change < self._rate:
                source.jitter += (change - source.jitter) / 16
            source.timestamp, source.transit = packet.timestamp, transit

    def control(self, data: bytes, now: float) -> bool:
        """Read the camera's RTCP; True if it says goodbye to the stream that is counted."""
        if len(data) >= 28 and data[0] >> 6 == 2 and data[1] == rtcp.SENDER_REPORT:
            self._sender_report = int.from_bytes(data[10:14], "big")
            self._sender_report_at = now
            clock = int.from_bytes(data[8:16], "big")
            self.told = (clock / _NTP_SECOND, int.from_bytes(data[16:20], "big")) if clock else None
        bye = rtcp.parse(data).bye
        return bool(bye) and (self._source is None or self._source.ssrc in bye)

    def report(self, now: float) -> bytes:
        """A receiver report with our name; without a block as long as nothing came."""
        blocks = b"" if self._source is None else self._block(self._source, now)
        count = len(blocks) // _BLOCK.size
        head = bytes((0x80 | count, rtcp.RECEIVER_REPORT)) + (1 + len(blocks) // 4).to_bytes(2, "big")
        chunk = self._ssrc.to_bytes(4, "big") + bytes((1, len(_CNAME))) + _CNAME
        chunk += bytes(4 - len(chunk) % 4)
        name = bytes((0x81, rtcp.SOURCE_DESCRIPTION)) + (len(chunk) // 4).to_bytes(2, "big") + chunk
        return head + self._ssrc.to_bytes(4, "big") + blocks + name

    def _block(self, source: _Source, now: float) -> bytes:
        expected = source.highest - source.first + 1
        lost = max(expected - source.received, 0)
        newly = expected - source.reported_expected
        newly_lost = max(newly - (source.received - source.reported_received), 0)
        fraction = min(newly_lost * 256 // newly, 255) if newly > 0 else 0
        source.reported_expected, source.reported_received = expected, source.received
        delay = 0
        if self._sender_report:
            delay = min(round((now - self._sender_report_at) * 65536), 0xFFFFFFFF)
        return _BLOCK.pack(
            source.ssrc,
            fraction << 24 | min(lost, _MAX_LOST),
            source.highest & 0xFFFFFFFF,
            min(round(source.jitter), 0xFFFFFFFF),
            self._sender_report,
            delay,
        )
