"""A moving picture made by the agent itself: FFmpeg's testsrc2, the camera's text, the time of day and a frame counter.

Every frame is due at a fixed time after the first; a machine that is too slow skips frames, and their numbers, instead
of falling behind. The time in a frame (UTC) is the moment when it leaves, so a photo of a screen beside a clock tells
the delay. At each full second there is a white square in a corner and, where sound is wanted, a beep (`tone`).
"""

import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from typing import Any

from sightline_agent.media import h264, sound
from sightline_agent.media.assembler import Assembler
from sightline_agent.media.frames import CLOCK_RATE, MediaFormat
from sightline_agent.media.sound import OPUS, OPUS_RATE
from sightline_agent.sources import glyphs, x264
from sightline_agent.sources.base import Sink, SourceError
from sightline_agent.sources.tone import Tone, beeping
from sightline_agent.sources.worker import Emitter, run_in_thread
from sightline_model.camera import TestPatternSource as TestPatternSpec
from sightline_model.reasons import SourceReason

_LATE_SECONDS = 1.0
_TIMESTAMPS = 1 << 32
_WHITE, _BLACK = 235, 16
_SHAPE_OF_CLOCK = "00:00:00.000 #000000"


class TestPattern:
    """The source; `clock` is any monotonic clock in seconds, `wall` the time to show."""

    __test__ = False  # not a test class, whatever pytest thinks of its name

    def __init__(
        self,
        spec: TestPatternSpec,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], datetime] = lambda: datetime.now(UTC),
        sound: bool = True,
    ) -> None:
        self._spec = spec
        self._sound = sound
        self._clock = clock
        self._wall = wall
        self._key_frame_wanted = threading.Event()

    def want_key_frame(self) -> None:
        """A viewer came who can only begin at one."""
        self._key_frame_wanted.set()

    async def run(self, sink: Sink) -> None:
        """Deliver until cancelled."""
        await run_in_thread("test-pattern", self._work, sink)

    def _work(self, emitter: Emitter) -> None:
        fps = self._spec.fps
        painter = _Painter(self._spec)
        # The clock starts now: what FFmpeg took to get ready shall not make the first pictures and all sound late.
        began, wall = self._clock(), self._wall()
        assembler = Assembler()
        started = False
        beeps = _Beeps(emitter, lambda seconds: began + seconds - self._clock(), wall) if self._sound else None
        for number in _numbers(lambda: int((self._clock() - began) * fps)):
            key = self._key_frame_wanted.is_set()
            self._key_frame_wanted.clear()
            for nal in h264.split_annex_b(painter.paint(number, wall + timedelta(seconds=number / fps), key)):
                for payload in h264.fragment(nal):
                    assembler.push(payload, number * CLOCK_RATE // fps % _TIMESTAMPS, marker=False)
            if not started:
                started = True
                emitter.start(MediaFormat(assembler.format, OPUS if beeps is not None else None))
            chunks = assembler.finish()
            if beeps is not None:
                beeps.until(number / fps)
            emitter.wait(began + number / fps - self._clock())
            for chunk in chunks:
                emitter.write(chunk)


class _Painter:
    """Paints pictures and encodes them; ready to do so once it is made."""

    def __init__(self, spec: TestPatternSpec) -> None:
        try:
            from av.filter import Graph
        except ImportError as error:  # pragma: no cover
            raise SourceError(SourceReason.CODEC_UNSUPPORTED, "PyAV is not installed") from error
        graph = Graph()
        source = graph.add("testsrc2", f"size={spec.width}x{spec.height}:rate={spec.fps}")
        shape = graph.add("format", "pix_fmts=yuv420p")
        end = graph.add("buffersink")
        source.link_to(shape)
        shape.link_to(end)
        graph.configure()
        self._graph, self._end = graph, end
        self._encoder = x264.encoder(spec)
        self._encoder.open()
        self._caption = Caption(spec)
        self._time_base = Fraction(1, spec.fps)

    def paint(self, number: int, moment: datetime, key: bool) -> bytes:
        """The access unit of the next picture, which has this number and shows this time."""
        frame: Any = self._end.pull()
        frame.pts = number
        frame.time_base = self._time_base
        x264.as_key_frame(frame, key)
        self._caption.draw(frame, clock_text(number, moment))
        self._caption.flash(frame, beeping(moment))
        return b"".join(map(bytes, self._encoder.encode(frame)))


class _Beeps:
    """Sound between the pictures; `wait` tells how long until so many seconds after the beginning."""

    def __init__(self, emitter: Emitter, wait: Callable[[float], float], began: datetime) -> None:
        self._emitter = emitter
        self._wait = wait
        self._tone = Tone(began)

    def until(self, seconds: float) -> None:
        """Send, each when it is due, what is due before the next picture."""
        tone = self._tone
        if tone.due < seconds - _LATE_SECONDS:
            tone.skip_to(seconds)
        while tone.due <= seconds:
            self._emitter.wait(self._wait(tone.due))
            for packet, at in tone.packets():
                picture = at * CLOCK_RATE // OPUS_RATE % _TIMESTAMPS
                self._emitter.write_audio(sound.chunk(packet, at), picture)


class Caption:
    """Time and number, and below them the camera's text, over the lower left corner of each picture (yuv420p)."""

    def __init__(self, spec: TestPatternSpec) -> None:
        self._width, self._height = spec.width, spec.height
        text = self._scale(spec.text)
        self._clock_scale = max(2, self._scale(_SHAPE_OF_CLOCK) // 4 * 2)
        self._rows = glyphs.luma(spec.text, text, spec.width) if spec.text else []
        self._top = max(0, spec.height - len(self._rows) - text) // 2 * 2

    def draw(self, frame: Any, time_and_number: str) -> None:
        clock = glyphs.luma(time_and_number, self._clock_scale, self._width)
        _overlay(frame, max(0, self._top - len(clock)) // 2 * 2, clock)
        _overlay(frame, self._top, self._rows)

    def flash(self, frame: Any, on: bool) -> None:
        """A square in the upper right corner, white or black."""
        side = max(2, self._height // 16 * 2)
        row = bytes([_WHITE if on else _BLACK]) * side
        _overlay(frame, 0, [row] * side, max(0, self._width - side) // 2 * 2)

    def _scale(self, text: str) -> int:
        """As large as fits; even, because chroma has half the resolution."""
        fitting = self._width // glyphs.columns(text) // 2 * 2
        return max(2, min(self._height // 90 * 2, fitting))


def clock_text(number: int, now: datetime) -> str:
    """Time of day to the millisecond, and the frame's number."""
    return f"{now:%H:%M:%S}.{now.microsecond // 1000:03d} #{number:06d}"


def _overlay(frame: Any, top: int, rows: list[bytes], left: int = 0) -> None:
    if not rows:
        return
    grey = bytes([128]) * (len(rows[0]) // 2)
    _paint(frame.planes[0], top, rows, left)
    for plane in frame.planes[1:]:
        _paint(plane, top // 2, [grey] * (len(rows) // 2), left // 2)


def _paint(plane: Any, top: int, rows: list[bytes], left: int) -> None:
    pixels, stride = memoryview(plane), plane.line_size
    for row, data in enumerate(rows[: plane.height - top], top):
        begin = row * stride + left
        pixels[begin : begin + len(data)] = data


def _numbers(due: Callable[[], int]) -> Iterator[int]:
    number = 0
    while True:
        yield number
        number = max(number + 1, due())
