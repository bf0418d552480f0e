"""A moving picture made by the agent itself: FFmpeg's testsrc2 with its running clock, encoded by x264 without delay.

Every frame is due at a fixed time after the first; a machine that is too slow skips frames instead of falling
behind.
"""

import threading
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any

from sightline_agent.media import h264
from sightline_agent.media.assembler import Assembler
from sightline_agent.media.frames import CLOCK_RATE
from sightline_agent.sources import glyphs
from sightline_agent.sources.base import Sink, SourceError
from sightline_agent.sources.worker import Emitter, run_in_thread
from sightline_model.camera import TestPatternSource as TestPatternSpec
from sightline_model.reasons import SourceReason

GOP_SECONDS = 2
_BITS_PER_PIXEL = 0.054
"""At 30 fps: 1.5 Mbit/s for 1280x720."""
_MIN_BITRATE = 200_000
_MAX_BITRATE = 8_000_000


class TestPattern:
    """The source; `clock` is any monotonic clock in seconds."""

    __test__ = False  # not a test class, whatever pytest thinks of its name

    def __init__(self, spec: TestPatternSpec, clock: Callable[[], float] = time.monotonic) -> None:
        self._spec = spec
        self._clock = clock
        self._key_frame_wanted = threading.Event()

    def want_key_frame(self) -> None:
        """A viewer came who can only begin at one."""
        self._key_frame_wanted.set()

    async def run(self, sink: Sink) -> None:
        """Deliver until cancelled."""
        await run_in_thread("test-pattern", self._work, sink)

    def _work(self, emitter: Emitter) -> None:
        fps = self._spec.fps
        assembler = Assembler()
        started = False
        began = self._clock()
        for number, data in self._encoded(lambda: int((self._clock() - began) * fps)):
            for nal in h264.split_annex_b(data):
                for payload in h264.fragment(nal):
                    assembler.push(payload, number * CLOCK_RATE // fps, marker=False)
            if not started:
                started = True
                emitter.start(assembler.format)
            chunks = assembler.finish()
            emitter.wait(began + number / fps - self._clock())
            for chunk in chunks:
                emitter.write(chunk)

    def _encoded(self, due: Callable[[], int]) -> Iterator[tuple[int, bytes]]:
        """(number, access unit) of each frame, not before the one that is `due`."""
        try:
            import av
            from av.filter import Graph
        except ImportError as error:  # pragma: no cover
            raise SourceError(SourceReason.CODEC_UNSUPPORTED, "PyAV is not installed") from error
        spec = self._spec
        graph = Graph()
        source = graph.add("testsrc2", f"size={spec.width}x{spec.height}:rate={spec.fps}")
        shape = graph.add("format", "pix_fmts=yuv420p")
        end = graph.add("buffersink")
        source.link_to(shape)
        shape.link_to(end)
        graph.configure()
        encoder = _encoder(av, spec)
        caption = _Caption(spec)
        for number in _numbers(due):
            frame: Any = end.pull()
            frame.pts = number
            frame.time_base = Fraction(1, spec.fps)
            # 0: the encoder decides; what the generator wrote there would make every frame a key frame.
            frame.pict_type = int(av.video.frame.PictureType.I) if self._key_frame_wanted.is_set() else 0
            self._key_frame_wanted.clear()
            caption.draw(frame)
            for packet in encoder.encode(frame):
                yield number, bytes(packet)


class _Caption:
    """The text, drawn over the lower left corner of each picture (yuv420p)."""

    def __init__(self, spec: TestPatternSpec) -> None:
        # As large as fits; even, because chroma has half the resolution.
        fitting = spec.width // glyphs.columns(spec.text) // 2 * 2
        scale = max(2, min(spec.height // 90 * 2, fitting))
        self._rows = glyphs.luma(spec.text, scale, spec.width) if spec.text else []
        self._top = max(0, spec.height - len(self._rows) - scale) // 2 * 2

    def draw(self, frame: Any) -> None:
        if not self._rows:
            return
        width, top = len(self._rows[0]), self._top
        grey = bytes([128]) * (width // 2)
        _paint(frame.planes[0], top, self._rows)
        for plane in frame.planes[1:]:
            _paint(plane, top // 2, [grey] * (len(self._rows) // 2))


def _paint(plane: Any, top: int, rows: list[bytes]) -> None:
    pixels, stride = memoryview(plane), plane.line_size
    for row, data in enumerate(rows[: plane.height - top], top):
        pixels[row * stride : row * stride + len(data)] = data


def bitrate(spec: TestPatternSpec) -> int:
    """Bits per second that keep the picture clear at this size."""
    wanted = spec.width * spec.height * spec.fps * _BITS_PER_PIXEL
    return round(min(max(wanted, _MIN_BITRATE), _MAX_BITRATE))


def _numbers(due: Callable[[], int]) -> Iterator[int]:
    number = 0
    while True:
        yield number
        number = max(number + 1, due())


def _encoder(av: Any, spec: TestPatternSpec) -> Any:
    encoder = av.CodecContext.create("libx264", "w")
    encoder.width, encoder.height, encoder.pix_fmt = spec.width, spec.height, "yuv420p"
    encoder.time_base = Fraction(1, spec.fps)
    encoder.framerate = Fraction(spec.fps)
    encoder.bit_rate = bitrate(spec)
    encoder.gop_size = GOP_SECONDS * spec.fps
    encoder.thread_count = 1
    encoder.options = {
        "preset": "ultrafast",
        "tune": "zerolatency",
        "profile": "baseline",
        "forced-idr": "1",
        "x264-params": f"scenecut=0:keyint={GOP_SECONDS * spec.fps}:min-keyint={GOP_SECONDS * spec.fps}"
        f":vbv-maxrate={bitrate(spec) // 1000}:vbv-bufsize={bitrate(spec) // 2000}",
    }
    return encoder
