"""Sound of any codec that FFmpeg decodes made into Opus, 20 ms a packet. Blocks for a fraction of a millisecond.

Times are samples at 48 kHz, on whatever line the caller has, and come out on the same line: a packet's time is when
the first sample is due that a player makes of it, the encoder's own delay included.
"""

from collections.abc import Iterator
from fractions import Fraction
from typing import Any

from sightline_agent.media.sound import OPUS_RATE, SampleLine
from sightline_agent.sources.sound.wire import Coding

PACKET_SAMPLES = OPUS_RATE // 50
_TICK = Fraction(1, OPUS_RATE)
_BITS_PER_CHANNEL = 40_000
_MAX_BAD = 50
"""Blocks in a row of which nothing can be made; more, and the decoder is given up."""


class CannotDecodeError(Exception):
    """There is no decoder, or it makes nothing of what comes. The message is for people."""


def opus_encoder(channels: int) -> Any:
    """An encoder for packets of 20 ms at 48 kHz, one or two channels of 16 bits."""
    import av

    made: Any = av.CodecContext.create("libopus", "w")
    made.sample_rate = OPUS_RATE
    made.layout = "stereo" if channels == 2 else "mono"
    made.format = "s16"
    made.bit_rate = _BITS_PER_CHANNEL * channels
    made.options = {"frame_duration": "20", "application": "audio"}
    return made


class ToOpus:
    """One stream of sound; state of decoder, resampler and encoder."""

    def __init__(self, coding: Coding) -> None:
        import av

        self._av = av
        self._coding = coding
        self._decoder: Any
        try:
            self._decoder = av.CodecContext.create(coding.codec, "r")
        except (ValueError, av.FFmpegError) as error:
            raise CannotDecodeError(f"{coding.codec} cannot be decoded here") from error
        if coding.configuration:
            self._decoder.extradata = coding.configuration
        self._decoder.sample_rate = coding.rate
        if coding.channels in (1, 2):  # else the decoder finds out
            self._decoder.layout = "stereo" if coding.channels == 2 else "mono"
        self._resampler: Any = None
        self._encoder: Any = None
        self._fifo: Any = None
        self._shape: tuple[object, ...] | None = None
        self._line = SampleLine(OPUS_RATE)
        self._begin = 0
        """When the first sample in the fifo is due."""
        self._bad = 0

    def feed(self, data: bytes, at: int) -> list[tuple[bytes, int]]:
        """Packets that are whole now, each with its time; CannotDecodeError."""
        found: list[tuple[bytes, int]] = []
        try:
            for frame in self._decoder.decode(self._av.Packet(data)):
                found += self._encoded(frame, at)
                at += frame.samples * OPUS_RATE // frame.sample_rate
                self._bad = 0
        except (self._av.FFmpegError, ValueError) as error:
            self._bad += 1
            self._shape = None
            if self._bad > _MAX_BAD:
                raise CannotDecodeError(f"the {self._coding.codec} sound makes no sense") from error
        return found

    def _encoded(self, frame: Any, at: int) -> Iterator[tuple[bytes, int]]:
        shape = (frame.sample_rate, frame.layout.name, frame.format.name)
        if shape != self._shape:
            self._begin_anew(shape, 2 if frame.layout.nb_channels > 1 else 1)
        frame.pts = None
        for plain in self._resampler.resample(frame):
            begin = self._line.place(at, plain.samples)
            at += plain.samples
            if begin is None:
                continue
            if begin != self._begin + self._fifo.samples:  # the first, or after a gap
                self._fifo = self._av.AudioFifo()
                self._begin = begin
            plain.pts = None
            self._fifo.write(plain)
        while (block := self._fifo.read(PACKET_SAMPLES)) is not None:
            block.pts, self._begin = self._begin, self._begin + PACKET_SAMPLES
            block.time_base = _TICK
            for packet in self._encoder.encode(block):
                yield bytes(packet), packet.pts

    def _begin_anew(self, shape: tuple[object, ...], channels: int) -> None:
        self._shape = shape
        layout = "stereo" if channels == 2 else "mono"
        self._resampler = self._av.AudioResampler("s16", layout, OPUS_RATE)
        self._fifo = self._av.AudioFifo()
        self._encoder = opus_encoder(channels)
