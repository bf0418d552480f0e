"""A video device of the machine: H.264 as it is where the device makes it, else encoded here without delay.

The device is read without blocking, because a device that gives nothing would hold its thread for good: FFmpeg's reader
cannot be interrupted otherwise. A thread of its own looks for a frame every few milliseconds and ends when told to.
"""

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from sightline_agent.media.frames import CLOCK_RATE, MediaFormat
from sightline_agent.sources import x264
from sightline_agent.sources.access_units import AccessUnits, Line, annex_b
from sightline_agent.sources.averrors import Row, translated
from sightline_agent.sources.base import Sink, SourceError
from sightline_agent.sources.worker import Emitter, run_in_thread
from sightline_model.camera import V4l2Source as V4l2Spec
from sightline_model.reasons import SourceReason

_IT = "the video device"
FIRST_FRAME_SECONDS = 5.0
STALL_SECONDS = 5.0
_OPEN_SECONDS = 5.0
_LOOK_SECONDS = 0.004
_DEFAULT_FPS, _MAX_FPS = 30, 60
_NON_BLOCKING = "+4"
"""AVFMT_FLAG_NONBLOCK, which has no name among FFmpeg's options."""
_SPECIAL = (
    Row(("FileNotFoundError", "NotADirectoryError"), SourceReason.NOT_FOUND, "{it} is not there"),
    Row(("PermissionError",), SourceReason.AUTHENTICATION_FAILED, "{it} may not be opened by this user"),
    Row(("OSError",), SourceReason.UNREACHABLE, "{it} cannot be read; another program may be using it"),
)


def open_device(device: str) -> Any:
    """FFmpeg's reader: the device's own H.264 if it has it, else what the device would rather give."""
    import av

    options = {"fflags": _NON_BLOCKING}
    timeout = (_OPEN_SECONDS, None)
    try:
        return av.open(device, "r", "v4l2", options={**options, "input_format": "h264"}, timeout=timeout)
    except (av.error.ArgumentError, av.error.InvalidDataError):
        return av.open(device, "r", "v4l2", options=options, timeout=timeout)


@dataclass(frozen=True, slots=True)
class _Shape:
    width: int
    height: int
    fps: int


class V4l2Source:
    """One device; `open_` opens it, `clock` is any monotonic clock in seconds."""

    def __init__(
        self,
        spec: V4l2Spec,
        open_: Callable[[str], Any] = open_device,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._device = spec.device
        self._open = open_
        self._clock = clock
        self._key_frame_wanted = threading.Event()

    def want_key_frame(self) -> None:
        """A viewer came who can only begin at one; a device that encodes by itself is not asked."""
        self._key_frame_wanted.set()

    async def run(self, sink: Sink) -> None:
        """Deliver until cancelled; SourceError when the device fails."""
        await run_in_thread("v4l2", self._work, sink)

    def _work(self, emitter: Emitter) -> None:
        import av

        made, line = AccessUnits(), Line()
        try:
            with self._open(self._device) as container:
                for data, ticks in self._units(emitter, container):
                    chunks = made.chunks(data, line.place(ticks))
                    format_ = made.news()
                    if format_ is not None:
                        emitter.start(MediaFormat(format_))
                    for chunk in chunks if made.started else ():
                        emitter.write(chunk)
        except (av.FFmpegError, OSError) as error:
            raise translated(error, _IT, _SPECIAL) from error
        raise SourceError(SourceReason.UNREACHABLE, f"{_IT} gives no more pictures")

    def _units(self, emitter: Emitter, container: Any) -> Iterator[tuple[bytes, int]]:
        stream = next(iter(container.streams.video), None)
        if stream is None:
            raise SourceError(SourceReason.CODEC_UNSUPPORTED, f"{_IT} has no video")
        packets = self._packets(emitter, container, stream)
        if stream.codec_context.name != "h264":
            yield from self._encoded(stream, packets)
            return
        to_annex_b = annex_b(stream)
        for packet in packets:
            ticks = _ticks(packet)
            for part in to_annex_b.filter(packet):
                yield bytes(part), ticks

    def _packets(self, emitter: Emitter, container: Any, stream: Any) -> Iterator[Any]:
        """Packets as they come; StoppedError when the thread is to end."""
        limit = self._clock() + FIRST_FRAME_SECONDS
        seen = False
        while True:
            try:
                for packet in container.demux(stream):
                    if not packet.size or packet.pts is None:
                        continue
                    seen, limit = True, self._clock() + STALL_SECONDS
                    yield packet
                return
            except BlockingIOError:
                if self._clock() >= limit:
                    raise _silence(seen) from None
                emitter.wait(_LOOK_SECONDS)

    def _encoded(self, stream: Any, packets: Iterator[Any]) -> Iterator[tuple[bytes, int]]:
        rate = stream.average_rate or stream.guessed_rate or _DEFAULT_FPS
        fps = min(max(round(rate), 1), _MAX_FPS)
        context = stream.codec_context
        # x264 wants even sides.
        shape = _Shape(context.width // 2 * 2, context.height // 2 * 2, fps)
        encoder = x264.encoder(shape)
        encoder.time_base = Fraction(1, CLOCK_RATE)
        for packet in packets:
            ticks = _ticks(packet)
            for decoded in packet.decode():
                frame = decoded.reformat(shape.width, shape.height, "yuv420p")
                frame.pts, frame.time_base = ticks, Fraction(1, CLOCK_RATE)
                x264.as_key_frame(frame, self._key_frame_wanted.is_set())
                self._key_frame_wanted.clear()
                for coded in encoder.encode(frame):
                    yield bytes(coded), ticks


def _ticks(packet: Any) -> int:
    ticks: int = round(packet.pts * packet.time_base * CLOCK_RATE)
    return ticks


def _silence(seen: bool) -> SourceError:
    if seen:
        return SourceError(SourceReason.STALLED, f"{_IT} gave nothing for {STALL_SECONDS:g} s")
    return SourceError(SourceReason.NO_FRAMES, f"{_IT} was opened but gives no pictures")
