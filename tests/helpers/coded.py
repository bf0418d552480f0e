"""Coded pictures of every kind that cameras send: made by FFmpeg's encoders, and what a decoder makes of pictures."""

from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import av
from av.filter import Graph

from sightline_agent.media.frames import CLOCK_RATE

SIZE, FPS = (160, 120), 30
B_FRAMES = ("libx264", {"bf": "3", "b-adapt": "0", "preset": "veryfast"})
INTERLACED = ("libx264", {"bf": "0", "preset": "veryfast", "flags": "+ildct+ilme", "x264-params": "interlaced=1"})
H265 = ("libx265", {"preset": "ultrafast", "tune": "zerolatency", "x265-params": "log-level=none"})
H265_B_FRAMES = ("libx265", {"preset": "ultrafast", "x265-params": "log-level=none:bframes=3:b-adapt=0"})
PLAIN = ("libx264", {"bf": "0", "preset": "ultrafast", "tune": "zerolatency"})


class Coded(NamedTuple):
    """One access unit."""

    ticks: int
    data: bytes
    key: bool


def coded(
    kind: tuple[str, dict[str, str]], frames: int = 40, size: tuple[int, int] = SIZE, gop: int = 15
) -> list[Coded]:
    """A moving picture in coded order; its upper left corner tells the last digit of each picture's number."""
    codec, options = kind
    encoder: Any = av.CodecContext.create(codec, "w")
    encoder.width, encoder.height, encoder.pix_fmt = *size, "yuv420p"
    encoder.time_base, encoder.framerate = Fraction(1, CLOCK_RATE), Fraction(FPS)
    encoder.gop_size, encoder.options, encoder.thread_count = gop, options, 1
    units: list[Any] = []
    for number, frame in enumerate(_pictures(frames, size)):
        frame.pts, frame.time_base = number * CLOCK_RATE // FPS, Fraction(1, CLOCK_RATE)
        units += encoder.encode(frame)
    units += encoder.encode(None)
    return [Coded(unit.pts, bytes(unit), unit.is_keyframe) for unit in units]


def clip(path: Path, kind: tuple[str, dict[str, str]], frames: int = 60, size: tuple[int, int] = SIZE) -> Path:
    """The same as a clip, which joins its own beginning where `frames` is a multiple of 10."""
    codec, options = kind
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=FPS)
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        stream.codec_context.gop_size, stream.options = FPS, options
        for number, frame in enumerate(_pictures(frames, size)):
            frame.pts, frame.time_base = number, Fraction(1, FPS)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def _pictures(count: int, size: tuple[int, int]) -> list[Any]:
    graph = Graph()
    source = graph.add("testsrc2", f"size={size[0]}x{size[1]}:rate={FPS}")
    form, end = graph.add("format", "pix_fmts=yuv420p"), graph.add("buffersink")
    source.link_to(form)
    form.link_to(end)
    graph.configure()
    made: list[Any] = []
    for number in range(count):
        frame: Any = end.pull()
        frame.pict_type = 0
        pixels, stride = memoryview(frame.planes[0]), frame.planes[0].line_size
        for row in range(32):
            pixels[row * stride : row * stride + 32] = bytes([_grey(number)]) * 32
        made.append(frame)
    return made


def _grey(number: int) -> int:
    return 20 + number % 10 * 20


class Seen(NamedTuple):
    """One decoded picture."""

    ticks: int
    digit: int
    """The last one of the picture's number."""
    size: tuple[int, int]
    key: bool


def seen(units: list[tuple[int, bytes]], codec: str = "h264") -> list[Seen]:
    """What a decoder shows of access units, by the numbers painted into the pictures."""
    decoder: Any = av.CodecContext.create(codec, "r")
    decoder.thread_count = 1
    found = []
    for ticks, data in [*units, (0, b"")]:
        packet = None
        if data:
            packet = av.Packet(data)
            packet.pts, packet.time_base = ticks, Fraction(1, CLOCK_RATE)
        found += [_seen(frame) for frame in decoder.decode(packet)]
    return found


def _seen(frame: Any) -> Seen:
    plane = frame.planes[0]
    pixels, stride = bytes(plane), plane.line_size
    values = [pixels[row * stride + column] for row in range(8, 24) for column in range(8, 24)]
    digit = round((sum(values) / len(values) - _grey(0)) / (_grey(1) - _grey(0)))
    return Seen(frame.pts, digit, (frame.width, frame.height), frame.key_frame)
