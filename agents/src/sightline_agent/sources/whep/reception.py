"""RTP of a WHEP session made into chunks: in order, with what is missing asked for again.

The receiver (`session`) hands over each packet once retransmissions are unwrapped. What has to be asked of the server
is only noted here: a key frame after a loss that was not repaired, and until the first key frame has come.
"""

import asyncio
from collections.abc import Callable

from sightline_agent.media.assembler import Assembler
from sightline_agent.media.frames import MediaFormat, VideoFormat
from sightline_agent.media.rtp import RtpPacket
from sightline_agent.sources.base import Sink, SourceError
from sightline_agent.sources.ordered import OrderedPackets
from sightline_agent.sources.whep.sound import Hearing
from sightline_model.reasons import SourceReason

_WINDOW = 128
"""Packets; a lost one comes again within some round trips."""
_PATIENCE_SECONDS = 0.3
_ASK_AGAIN_SECONDS = 1.0
"""Between requests for a key frame."""
_KEY_FRAME_SECONDS = 15.0


class Reception:
    """One session's pictures. `wake` is called when whoever runs the session has to look at it."""

    def __init__(self, sink: Sink, wake: Callable[[], None], hearing: Hearing | None = None) -> None:
        self._sink = sink
        self._hearing = hearing
        self._wake = wake
        self._loop = asyncio.get_running_loop()
        self._assembler = Assembler()
        self._ordered = OrderedPackets(_WINDOW, _PATIENCE_SECONDS, self._push, self._deliver)
        self._told: VideoFormat | None = None
        self._asked_at = float("-inf")
        self._first_at: float | None = None
        self._broken = True
        """Nothing can be decoded before the next key frame."""
        self.last_at: float | None = None
        self.ssrc: int | None = None
        self.error: SourceError | None = None

    def packet(self, packet: RtpPacket) -> bool:
        """Digest a packet; True if a key frame shall be asked for."""
        now = self._loop.time()
        self.ssrc = packet.ssrc
        if self.error is not None:
            return False
        if packet.payload:
            self.last_at = now
            if self._first_at is None:
                self._first_at = now
                self._wake()  # from now on silence is measured from the last packet
        self._ordered.take(packet)
        self._ordered.settle()
        self._deliver(now)
        return self._wants_key_frame(now)

    def asked(self) -> None:
        """A key frame was asked for."""
        self._asked_at = self._loop.time()

    def close(self) -> None:
        """Nothing more is delivered."""
        self._ordered.close()
        if self._hearing is not None:
            self._hearing.close()
        self.error = self.error or SourceError(SourceReason.IDLE, "the session is over")

    def _push(self, packet: RtpPacket, gap: bool) -> None:
        self._broken = self._broken or gap
        if packet.payload:
            self._assembler.push(packet.payload, packet.timestamp, packet.marker, gap)

    def _deliver(self, now: float) -> None:
        made = self._assembler.take()
        if not self._assembler.known:
            if self._first_at is not None and now - self._first_at > _KEY_FRAME_SECONDS:
                text = f"the WHEP server sent no key frame in {_KEY_FRAME_SECONDS:g} s"
                self._fail(SourceError(SourceReason.NO_FRAMES, text))
            return
        if any(chunk.key for chunk in made):
            self._broken = False
        if self._told != self._assembler.format:
            self._told = self._assembler.format
            self._sink.start(MediaFormat(self._told, self._hearing.format if self._hearing is not None else None))
            if self._hearing is not None:
                self._hearing.begin()
        for chunk in made:
            self._sink.write(chunk)

    def _wants_key_frame(self, now: float) -> bool:
        if not self._broken or self._ordered.waiting or now - self._asked_at < _ASK_AGAIN_SECONDS:
            return False
        self._asked_at = now
        return True

    def _fail(self, error: SourceError) -> None:
        self.error = self.error or error
        self._wake()
