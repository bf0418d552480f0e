"""The clip that all servers are measured with: 1080p30, 4 Mbit/s that are real, a key frame every two seconds.

Noise keeps the encoder from doing better than the bit rate asked for. Each picture carries its own number as a row of
dark and bright squares, so that a viewer that decodes can say which picture it sees.
"""

import fractions
from collections.abc import Iterator
from pathlib import Path

import av
from av.filter import Graph
from av.video.codeccontext import VideoCodecContext
from av.video.frame import PictureType, VideoFrame

WIDTH, HEIGHT, RATE, GOP = 1920, 1080, 30, 60
FRAMES = 600
BIT_RATE = 4_000_000
BITS = 10
"""Enough for the numbers of all frames."""

_VERSION = 2
_SQUARE = 32
_DARK, _BRIGHT = 40, 210
_X264 = {
    "preset": "veryfast",
    "tune": "zerolatency",
    "profile": "baseline",
    "level": "4.0",
    "maxrate": str(BIT_RATE),
    "bufsize": str(BIT_RATE // 2),
    "x264-params": f"slices=1:sliced-threads=0:repeat-headers=1:keyint={GOP}:min-keyint={GOP}:scenecut=0",
}


class ClipError(Exception):
    """The encoder did not make what was asked for."""


def ensure(folder: Path) -> Path:
    """The clip's file, made on the first call (half a minute)."""
    path = folder / f"clip-{_VERSION}.h264"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        fresh = path.with_suffix(".new")
        fresh.write_bytes(b"".join(_encode()))
        check(fresh)
        fresh.rename(path)
    return path


def check(path: Path) -> None:
    """Raise unless the size is that of the bit rate."""
    rate = path.stat().st_size * 8 * RATE / FRAMES
    if not 0.95 < rate / BIT_RATE < 1.05:
        raise ClipError(f"{path} has {rate / 1e6:.2f} Mbit/s instead of {BIT_RATE / 1e6:.2f}")


def number_of(frame: VideoFrame) -> int:
    """The number that a decoded picture carries."""
    plane = frame.planes[0]
    luma, stride = memoryview(plane), plane.line_size
    middle = _SQUARE // 2
    threshold = (_DARK + _BRIGHT) // 2
    bits = (luma[middle * stride + bit * _SQUARE + middle] > threshold for bit in range(BITS))
    return sum(1 << bit for bit, bright in enumerate(bits) if bright)


def _encode() -> Iterator[bytes]:
    context = av.CodecContext.create("libx264", "w")
    assert isinstance(context, VideoCodecContext)
    context.width, context.height, context.pix_fmt = WIDTH, HEIGHT, "yuv420p"
    context.bit_rate = BIT_RATE
    context.framerate = fractions.Fraction(RATE)
    context.time_base = fractions.Fraction(1, RATE)
    context.gop_size, context.max_b_frames = GOP, 0
    context.options = _X264
    for frame in _pictures():
        for packet in context.encode(frame):
            yield bytes(packet)
    for packet in context.encode(None):
        yield bytes(packet)


def _pictures() -> Iterator[VideoFrame]:
    graph = Graph()
    source = graph.add("testsrc2", f"size={WIDTH}x{HEIGHT}:rate={RATE}:duration={FRAMES // RATE}")
    noise = graph.add("noise", "alls=6:allf=t")
    pixels = graph.add("format", "pix_fmts=yuv420p")
    sink = graph.add("buffersink")
    graph.link_nodes(source, noise, pixels, sink).configure()
    for number in range(FRAMES):
        frame = sink.pull()
        assert isinstance(frame, VideoFrame)
        _write_number(frame, number)
        frame.pict_type = PictureType.NONE  # the source marks all of them as key frames
        frame.pts, frame.time_base = number, fractions.Fraction(1, RATE)
        yield frame


def _write_number(frame: VideoFrame, number: int) -> None:
    plane = frame.planes[0]
    stride = plane.line_size
    luma = bytearray(plane)
    row = b"".join(bytes([_BRIGHT if number >> bit & 1 else _DARK]) * _SQUARE for bit in range(BITS))
    for y in range(_SQUARE):
        luma[y * stride : y * stride + len(row)] = row
    plane.update(bytes(luma))
