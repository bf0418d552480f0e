"""A recorded clip played as if it were live: H.264 as it is, in the clip's own time, over and over if wanted.

Nothing is re-encoded. What a WebRTC player could not show (another codec, B-frames) is refused with its name.
Timestamps go on across the seam of a loop, so players see one endless stream.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from sightline_agent.media import h264
from sightline_agent.media.assembler import Assembler
from sightline_agent.media.frames import CLOCK_RATE
from sightline_agent.sources.base import Sink, SourceError
from sightline_agent.sources.worker import Emitter, run_in_thread
from sightline_model.camera import FileSource as FileSpec
from sightline_model.reasons import SourceReason

_OPEN_SECONDS = 8.0
_READ_SECONDS = 5.0
_CATCH_UP_SECONDS = 1.0
"""Further behind than this (the machine was suspended), the clip goes on from now instead of racing."""


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
        except av.FFmpegError as error:
            raise _translated(error) from error
        except OSError as error:
            raise SourceError(SourceReason.UNREACHABLE, "the file cannot be read") from error

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
        assembler = Assembler()
        started = False
        began = self._clock()
        last_shown = -1.0
        for unit in units:
            if unit.shown <= last_shown:
                raise SourceError(
                    SourceReason.CODEC_UNSUPPORTED,
                    "the file has B-frames, which WebRTC players cannot put in order; encode it without them",
                )
            last_shown = unit.shown
            timestamp = round(unit.shown * CLOCK_RATE) % (1 << 32)
            for nal in h264.split_annex_b(unit.data):
                for payload in h264.fragment(nal):
                    assembler.push(payload, timestamp, marker=False)
            chunks = assembler.finish()
            if not started and assembler.decodable:
                started = True
                emitter.start(assembler.format)
            late = self._clock() - (began + unit.decoded)
            if late > _CATCH_UP_SECONDS:
                began += late
            emitter.wait(-late)
            for chunk in chunks if started else ():
                emitter.write(chunk)


def _round(container: Any) -> Iterator[tuple[_Unit, float]]:
    """The access units of one round, and when each is over; times from the first picture on."""
    from av.bitstream import BitStreamFilterContext

    stream = next(iter(container.streams.video), None)
    if stream is None:
        raise SourceError(SourceReason.CODEC_UNSUPPORTED, "the file has no video")
    if stream.codec_context.name != "h264":
        name = stream.codec_context.name.upper()
        raise SourceError(SourceReason.CODEC_UNSUPPORTED, f"the file's video is {name}; only H264 can be played")
    frame_seconds = float(1 / stream.average_rate) if stream.average_rate else 1 / 25
    # Makes start codes of lengths, and puts the container's parameter sets in band.
    to_annex_b = BitStreamFilterContext("h264_mp4toannexb", stream)
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


def _translated(error: Any) -> SourceError:
    import av

    kinds: tuple[tuple[type[BaseException] | tuple[type[BaseException], ...], SourceReason, str], ...] = (
        ((av.FileNotFoundError, av.HTTPNotFoundError), SourceReason.NOT_FOUND, "there is no such file"),
        (
            (av.HTTPUnauthorizedError, av.HTTPForbiddenError, av.PermissionError),
            SourceReason.AUTHENTICATION_FAILED,
            "the file may not be read",
        ),
        ((av.InvalidDataError,), SourceReason.PROTOCOL_ERROR, "the file is no clip that can be read"),
        ((av.ProtocolNotFoundError,), SourceReason.PROTOCOL_ERROR, "this kind of address cannot be read"),
    )
    for types, reason, message in kinds:
        if isinstance(error, types):
            return SourceError(reason, message)
    return SourceError(SourceReason.UNREACHABLE, "the file cannot be read")
