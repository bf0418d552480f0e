"""A recorded clip played as if it were live: H.264 or H.265 as it is, in the clip's own time, over and over if wanted.

Pictures are not re-encoded here, other codecs are refused with their name; sound is, where browsers do not play it.
Timestamps go on across the seam of a loop, so players see one endless stream. Containers hold the two tracks in blocks,
one before the other; they are put in the order of time before anything waits for its moment (`_in_order`).
"""

import heapq
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from sightline_agent.media.frames import CLOCK_RATE, MediaFormat
from sightline_agent.sources.access_units import AccessUnits, Pace, annex_b, codec_of, video_stream
from sightline_agent.sources.averrors import translated
from sightline_agent.sources.base import Sink, SourceError
from sightline_agent.sources.sound.container import ContainerSound, coding_of, sound_stream
from sightline_agent.sources.sound.passing import Heard
from sightline_agent.sources.worker import Emitter, run_in_thread
from sightline_model.camera import FileSource as FileSpec
from sightline_model.reasons import SourceReason

_IT = "the file"
_OPEN_SECONDS = 8.0
_READ_SECONDS = 5.0
_HELD_SECONDS = 2.0
"""So much of one track is read at most while the other one is awaited."""


@dataclass(frozen=True, slots=True)
class _Unit:
    """One access unit in annex B, or a packet of sound; times in seconds from the begin of the clip, over all loops."""

    data: bytes
    shown: float
    decoded: float
    codec: str
    """Of the pictures; empty for sound."""


class ClipFile:
    """The source; `clock` is any monotonic clock in seconds."""

    def __init__(self, spec: FileSpec, clock: Callable[[], float] = time.monotonic, sound: bool = True) -> None:
        self._location = spec.url or spec.path or ""
        self._loop = spec.loop
        self._clock = clock
        self._wants_sound = sound
        self._sound: ContainerSound | None = None

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
                stream = sound_stream(container) if self._wants_sound else None
                self._renew(stream)
                units = _round(container, stream)
                for unit in _in_order(units) if stream is not None else units:
                    yield replace(unit, shown=offset + unit.shown, decoded=offset + unit.decoded)
                    if unit.codec:
                        end = max(end, offset + unit.shown + _frame_seconds(container))
            if end == offset:
                raise SourceError(SourceReason.NO_FRAMES, "the file holds no frames")
            if not self._loop:
                return
            offset = end

    def _heard(self, unit: _Unit) -> list[Heard]:
        return self._sound.chunks(unit.data, round(unit.shown * CLOCK_RATE)) if self._sound is not None else []

    def _renew(self, stream: Any) -> None:
        """Decoders go on over the seams, as long as the clip stays the same."""
        coding = coding_of(stream) if stream is not None else None
        if self._sound is None or coding != self._sound.coding:
            self._sound = ContainerSound(coding) if coding is not None else None

    def _play(self, emitter: Emitter, units: Iterator[_Unit]) -> None:
        made = AccessUnits()
        pace = Pace(self._clock)
        for unit in units:
            if not unit.codec:
                emitter.wait(pace.wait(unit.decoded))
                for chunk, picture in self._heard(unit) if made.started else ():
                    emitter.write_audio(chunk, picture)
                continue
            if unit.codec != made.codec:
                made.renew(codec=unit.codec)
            chunks = made.chunks(unit.data, round(unit.shown * CLOCK_RATE))
            emitter.wait(pace.wait(unit.decoded))
            format_ = made.news()
            if format_ is not None:
                sound = self._sound
                emitter.start(MediaFormat(format_, sound.format if sound else None, sound.problem if sound else ""))
            for chunk in chunks if made.started else ():
                emitter.write(chunk)


def _round(container: Any, sound: Any) -> Iterator[_Unit]:
    """One round of the clip; times from the first picture on, sound from before it is left out."""
    stream = video_stream(container, _IT)
    codec = codec_of(stream)
    frame_seconds = _frame_seconds(container)
    to_annex_b = annex_b(stream)
    first, count = None, 0
    for packet in container.demux([stream] if sound is None else [stream, sound]):
        if not packet.size:
            continue
        if packet.stream is sound:
            if first is not None and packet.pts is not None:
                at = float(packet.pts * packet.time_base) - first
                yield _Unit(bytes(packet), at, at, "")
            continue
        shown, decoded = _times(packet, count * frame_seconds)
        count += 1
        first = shown if first is None else first
        for part in to_annex_b.filter(packet):
            yield _Unit(bytes(part), shown - first, decoded - first, codec)


def _in_order(units: Iterable[_Unit]) -> Iterator[_Unit]:
    """By the time of decoding: a unit goes on when the other track has come as far, or is far behind."""
    held: list[tuple[float, int, _Unit]] = []
    newest = {True: float("-inf"), False: float("-inf")}
    for number, unit in enumerate(units):
        heapq.heappush(held, (unit.decoded, number, unit))
        newest[bool(unit.codec)] = max(newest[bool(unit.codec)], unit.decoded)
        while held and held[0][0] <= max(min(newest.values()), max(newest.values()) - _HELD_SECONDS):
            yield heapq.heappop(held)[2]
    while held:
        yield heapq.heappop(held)[2]


def _frame_seconds(container: Any) -> float:
    rate = container.streams.video[0].average_rate
    return float(1 / rate) if rate else 1 / 25


def _times(packet: Any, counted: float) -> tuple[float, float]:
    """When a packet is shown and decoded; a bare byte stream holds no times, so its frames are counted."""
    if packet.dts is None:
        return counted, counted
    shown = packet.pts if packet.pts is not None else packet.dts
    return float(shown * packet.time_base), float(packet.dts * packet.time_base)
