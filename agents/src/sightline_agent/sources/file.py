"""A recorded clip played as if it were live: H.264 as it is, in the clip's own time, over and over if wanted.

Nothing is re-encoded. What a WebRTC player could not show (another codec, B-frames) is refused with its name.
Timestamps go on across the seam of a loop, so players see one endless stream.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from sightline_agent.media.frames import CLOCK_RATE
from sightline_agent.sources.access_units import AccessUnits, Pace, annex_b, b_frames, h264_stream
from sightline_agent.sources.averrors import translated
from sightline_agent.sources.base import Sink, SourceError
from sightline_agent.sources.worker import Emitter, run_in_thread
from sightline_model.camera import FileSource as FileSpec
from sightline_model.reasons import SourceReason

_IT = "the file"
_OPEN_SECONDS = 8.0
_READ_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class _Unit:
    """One access unit in annex B; times in seconds from the begin of the clip, over all loops."""

    data: bytes
    shown: float
    decoded: float


class ClipFile:
    """The source; `clock` is any monotonic clock in seconds."""

    def __init__(self, spec: FileSpec, clock: Callable[[], float] = time.monotonic) -> None:
        self._location = spec.url or spec.path or ""
        self._loop = spec.loop
        self._clock = clock

    async def run(self, sink: Sink) -> None:
        """Deliver until cancelled, or until the end of a clip that is played once."""
        await run_in_thread("clip", self._work, sink)

    def _work(self, emitter: Emitter) -> None:
        import av

        try:
            self._play(emitter, self._units())
        except (av.FFmpegError, OSError) as error:
            raise translated(error, _IT) from error

    def _units(self) -> Iterator[_Unit]:
        """Round after round. The clip is opened anew for each: not every kind can be wound back."""
        import av

        offset = 0.0
        while True:
            end = offset
            with av.open(self._location, timeout=(_OPEN_SECONDS, _READ_SECONDS)) as container:
                for unit, until in _round(container):
                    yield _Unit(unit.data, offset + unit.shown, offset + unit.decoded)
                    end = max(end, offset + until)
            if end == offset:
                raise SourceError(SourceReason.NO_FRAMES, "the file holds no frames")
            if not self._loop:
                return
            offset = end

    def _play(self, emitter: Emitter, units: Iterator[_Unit]) -> None:
        made = AccessUnits(_IT)
        pace = Pace(self._clock)
        last_shown = -1.0
        for unit in units:
            if unit.shown <= last_shown:
                raise b_frames(_IT)
            last_shown = unit.shown
            chunks = made.chunks(unit.data, round(unit.shown * CLOCK_RATE))
            emitter.wait(pace.wait(unit.decoded))
            format_ = made.news()
            if format_ is not None:
                emitter.start(format_)
            for chunk in chunks if made.started else ():
                emitter.write(chunk)


def _round(container: Any) -> Iterator[tuple[_Unit, float]]:
    """The access units of one round, and when each is over; times from the first picture on."""
    stream = h264_stream(container, _IT)
    frame_seconds = float(1 / stream.average_rate) if stream.average_rate else 1 / 25
    to_annex_b = annex_b(stream)
    first, count = None, 0
    for packet in container.demux(stream):
        if not packet.size:
            continue
        shown, decoded = _times(packet, count * frame_seconds)
        count += 1
        first = shown if first is None else first
        for part in to_annex_b.filter(packet):
            yield _Unit(bytes(part), shown - first, decoded - first), shown - first + frame_seconds


def _times(packet: Any, counted: float) -> tuple[float, float]:
    """When a packet is shown and decoded; a bare byte stream holds no times, so its frames are counted."""
    if packet.dts is None:
        return counted, counted
    shown = packet.pts if packet.pts is not None else packet.dts
    return float(shown * packet.time_base), float(packet.dts * packet.time_base)
