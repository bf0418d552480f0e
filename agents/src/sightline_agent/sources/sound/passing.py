"""Sound of containers and protocols that browsers play as it comes. Pure.

What comes has times on the pictures' line of 90 kHz; what goes on counts samples, and says beside each chunk which
picture is of the same moment.
"""

from sightline_agent.media import sound
from sightline_agent.media.frames import CLOCK_RATE, AudioFormat, Chunk
from sightline_agent.sources.sound.wire import Coding

Heard = tuple[Chunk, int]
"""A chunk, and the timestamp of a picture of the same moment."""

_PASSED_ON = {("opus", 48_000): sound.OPUS, ("pcm_mulaw", 8000): sound.PCMU, ("pcm_alaw", 8000): sound.PCMA}
_TIMESTAMPS = 1 << 32


def passed_on(coding: Coding) -> AudioFormat | None:
    """What it is called where browsers play it; None for what has to be encoded again."""
    format_ = _PASSED_ON.get((coding.codec, coding.rate))
    # Two channels of G.711 in one stream are nothing that browsers offer to play.
    return format_ if format_ is sound.OPUS or coding.channels == 1 else None


def heard(payload: bytes, at: int, format_: AudioFormat) -> Heard:
    """A payload that begins at this sample of the pictures' line."""
    return sound.chunk(payload, at), at * CLOCK_RATE // format_.clock_rate % _TIMESTAMPS


class Passing:
    """One stream of sound of that format."""

    def __init__(self, format_: AudioFormat) -> None:
        self.format = format_
        self._line = sound.SampleLine(format_.clock_rate)

    def chunks(self, data: bytes, at: int) -> list[Heard]:
        """The chunks of one packet; `at` is its time at 90 kHz, unwrapped."""
        format_ = self.format
        samples = sound.opus_samples(data) if format_ is sound.OPUS else len(data)
        begin = self._line.place(at * format_.clock_rate // CLOCK_RATE, samples) if samples else None
        if begin is None:
            return []
        return [heard(piece, begin + distance, format_) for piece, distance in sound.pieces(format_, data)]
