"""Sound made for tests, and what a decoder hears in it: beeps of a tenth of a second at each full second."""

import array
import math
from collections.abc import Iterable
from fractions import Fraction
from typing import Any

import av

BEEP_SECONDS = 0.1
_LOUD = 0.1
_QUIET_SECONDS = 0.2


def beeps(rate: int, first: int, samples: int) -> "array.array[float]":
    """Samples from `first` on."""
    return array.array(
        "f",
        (
            0.5 * math.sin(2 * math.pi * 1000 * number / rate) if number % rate < rate * BEEP_SECONDS else 0.0
            for number in range(first, first + samples)
        ),
    )


def frames(rate: int, channels: int, seconds: float, samples: int = 1024) -> list[av.AudioFrame]:
    """The same as frames with their times in samples."""
    made = []
    for first in range(0, round(rate * seconds), samples):
        frame = av.AudioFrame(format="fltp", layout="stereo" if channels == 2 else "mono", samples=samples)
        for plane in frame.planes:
            plane.update(beeps(rate, first, samples).tobytes())
        frame.sample_rate, frame.pts, frame.time_base = rate, first, Fraction(1, rate)
        made.append(frame)
    return made


def aac(rate: int, channels: int, seconds: float) -> tuple[bytes, list[tuple[bytes, int]]]:
    """An AudioSpecificConfig, and access units with their times in samples."""
    encoder: Any = av.CodecContext.create("aac", "w")
    encoder.sample_rate, encoder.format = rate, "fltp"
    encoder.layout = "stereo" if channels == 2 else "mono"
    encoder.bit_rate = 64_000
    encoder.flags |= 1 << 22  # the configuration beside the stream, as RTP and RTMP have it
    encoder.open()
    packets = [packet for frame in frames(rate, channels, seconds) for packet in encoder.encode(frame)]
    return bytes(encoder.extradata), [(bytes(packet), packet.pts) for packet in packets]


def onsets(codec: str, rate: int, packets: Iterable[tuple[bytes, int]]) -> list[float]:
    """When beeps begin in coded sound, in seconds; times of the packets are in samples."""
    decoder: Any = av.CodecContext.create(codec, "r")
    decoder.sample_rate = rate
    decoder.layout = "mono"
    found: list[float] = []
    loud_at = float("-inf")
    for data, at in packets:
        for frame in decoder.decode(av.Packet(data)):
            for number, level in enumerate(_levels(frame)):
                seconds = (at + number) / rate
                if level > _LOUD:
                    if seconds - loud_at > _QUIET_SECONDS:
                        found.append(seconds)
                    loud_at = seconds
    return found


def _levels(frame: Any) -> list[float]:
    resampled = av.AudioResampler("flt", "mono").resample(frame)
    levels: list[float] = []
    for part in resampled:
        values = array.array("f", bytes(part.planes[0])[: part.samples * 4])
        levels += [abs(value) for value in values]
    return levels


def add_sound(container: Any, codec: str = "aac", rate: int = 48_000) -> Any:
    """A stream of sound in a container that is written."""
    stream = container.add_stream(codec, rate=rate)
    stream.layout = "mono"
    return stream


def mux_beeps(container: Any, stream: Any, seconds: float) -> None:
    """Write beeps into it."""
    shape = stream.codec_context
    resampler = av.AudioResampler(shape.format.name, "mono", shape.sample_rate, frame_size=shape.frame_size or 160)
    for frame in [*frames(shape.sample_rate, 1, seconds), None]:
        for part in resampler.resample(frame):
            container.mux(stream.encode(part))
    container.mux(stream.encode(None))
