"""The test pattern's sound: a short beep at each full second of the time that is burnt into the picture.

With the white square that the picture has as long as the beep lasts, anybody sees and hears whether lips would be in
step, and programs measure it.
"""

import array
import math
from datetime import datetime
from fractions import Fraction
from typing import Any

from sightline_agent.media.sound import OPUS_RATE

PACKET_SECONDS = 0.02
_BEEP_SECONDS = 0.1
_HERTZ = 1000
_AMPLITUDE = 8000
"""A quarter of what 16 bits hold."""
_EDGE = OPUS_RATE // 500
"""Samples in which the beep swells and fades: an edge would be a click."""


def beeping(moment: datetime) -> bool:
    """Is there a beep at this moment?"""
    return moment.microsecond < _BEEP_SECONDS * 1_000_000


def second() -> bytes:
    """A second of sound, 16 bits a sample."""
    length = round(_BEEP_SECONDS * OPUS_RATE)
    samples = array.array("h", bytes(2 * OPUS_RATE))
    for number in range(length):
        loud = min(1.0, number / _EDGE, (length - number) / _EDGE)
        samples[number] = round(loud * _AMPLITUDE * math.sin(2 * math.pi * _HERTZ * number / OPUS_RATE))
    return samples.tobytes()


class Tone:
    """Packets of Opus, one after the other; the first sample is of the moment `began`."""

    def __init__(self, began: datetime) -> None:
        from sightline_agent.sources.sound.encoder import PACKET_SAMPLES, opus_encoder

        self._encoder = opus_encoder(1)
        self._samples = PACKET_SAMPLES
        self._offset = round(began.microsecond * OPUS_RATE / 1_000_000)
        self._circle = second() * 2
        self._next = 0

    @property
    def due(self) -> float:
        """When the next packet begins, in seconds from the beginning."""
        return self._next / OPUS_RATE

    def skip_to(self, seconds: float) -> None:
        """Leave out what is before."""
        self._next = max(self._next, int(seconds / PACKET_SECONDS) * self._samples)

    def packets(self) -> list[tuple[bytes, int]]:
        """The next ones, usually one; times in samples from the beginning."""
        import av

        frame: Any = av.AudioFrame(format="s16", layout="mono", samples=self._samples)
        begin = 2 * ((self._offset + self._next) % OPUS_RATE)
        frame.planes[0].update(self._circle[begin : begin + 2 * self._samples])
        frame.sample_rate, frame.pts, frame.time_base = OPUS_RATE, self._next, Fraction(1, OPUS_RATE)
        self._next += self._samples
        return [(bytes(packet), packet.pts) for packet in self._encoder.encode(frame)]
