"""A source whose pictures are another rendition's, transcoded: what a hub of its own runs for viewers who need it.

It counts as one viewer of the rendition that feeds it, so that one runs as long as it is needed. The feed's timestamps
are kept, hence sound passes through beside the pictures as it comes. Its own failure is reported like a camera's: its
hub runs it again. When the feed is connected to again nothing ends here; the pictures stand still until its next key
frame.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

from sightline_agent.media.frames import Chunk, MediaFormat
from sightline_agent.media.grammar import GRAMMARS
from sightline_agent.sources.access_units import AccessUnits
from sightline_agent.sources.base import Sink
from sightline_agent.transcode.process import Transcoder
from sightline_agent.transcode.units import Units

_DECODERS = {"H264": "h264", "H265": "hevc"}
"""FFmpeg's names."""


class Feed(Protocol):
    """The hub of the rendition that is transcoded."""

    async def attach(self) -> MediaFormat: ...

    def detach(self) -> None: ...

    def tap(self, sink: Sink) -> tuple[tuple[Chunk, ...], Callable[[], None]]: ...

    def want_key_frame(self) -> None: ...


class Totals:
    """Of all transcoders since the agent's start."""

    def __init__(self) -> None:
        self.starts = 0
        self._running: set[Transcoder] = set()
        self._left_out = 0

    @property
    def running(self) -> int:
        """How many there are now."""
        return len(self._running)

    @property
    def left_out(self) -> int:
        """Pictures that were not transcoded because the machine is too slow."""
        return self._left_out + sum(one.left_out for one in self._running)

    def begin(self, transcoder: Transcoder) -> None:
        """Count one in."""
        self.starts += 1
        self._running.add(transcoder)

    def end(self, transcoder: Transcoder) -> None:
        """It is over."""
        self._running.discard(transcoder)
        self._left_out += transcoder.left_out


class Transcode:
    """One rendition's source."""

    def __init__(self, feed: Feed, totals: Totals) -> None:
        self._feed = feed
        self._totals = totals
        self._transcoder: Transcoder | None = None

    def want_key_frame(self) -> None:
        """A viewer came who can only begin at one."""
        if self._transcoder is not None:
            self._transcoder.want_key_frame()

    async def run(self, sink: Sink) -> None:
        """Deliver until cancelled; SourceError when the feed or the transcoder fails."""
        format_ = await self._feed.attach()
        try:
            tap = _Tap(format_, sink)
            self._transcoder = tap.transcoder
            self._totals.begin(tap.transcoder)
            group, untap = self._feed.tap(tap)
            try:
                tap.begin(group)
                self._feed.want_key_frame()
                await tap.transcoder.run()
            finally:
                untap()
                self._totals.end(tap.transcoder)
                self._transcoder = None
        finally:
            self._feed.detach()


class _Tap:
    """Between the feed, the transcoder and the sink."""

    def __init__(self, format_: MediaFormat, sink: Sink) -> None:
        self._format = format_
        self._sink = sink
        self._units = Units(GRAMMARS[format_.video.codec])
        self._made = AccessUnits()
        self.transcoder = Transcoder(_DECODERS[format_.video.codec], self._deliver)

    def begin(self, group: tuple[Chunk, ...]) -> None:
        """The pictures that the next ones refer to."""
        self.transcoder.begin((ticks, unit) for chunk in group for ticks, unit, _ in self._units.add(chunk))

    # What the feed tells (Sink)

    def start(self, format_: MediaFormat) -> None:
        before, self._format = self._format, format_
        if format_.video.codec != before.video.codec:
            self._units = Units(GRAMMARS[format_.video.codec])
            self.transcoder.restart(_DECODERS[format_.video.codec])
        if self._made.started and (format_.audio, format_.audio_problem) != (before.audio, before.audio_problem):
            self._tell()

    def write(self, chunk: Chunk) -> None:
        for ticks, unit, key in self._units.add(chunk):
            self.transcoder.feed(ticks, unit, key)

    def write_audio(self, chunk: Chunk, picture: int | None = None) -> None:
        if self._made.started:
            self._sink.write_audio(chunk, picture)

    # What the transcoder tells

    def _deliver(self, ticks: int, unit: bytes) -> None:
        chunks = self._made.chunks(unit, ticks)
        if self._made.news() is not None:
            self._tell()
        if self._made.started:
            for chunk in chunks:
                self._sink.write(chunk)

    def _tell(self) -> None:
        self._sink.start(replace(self._format, video=self._made.format))
