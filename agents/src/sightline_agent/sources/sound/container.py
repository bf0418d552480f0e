"""The sound of a container that FFmpeg's libraries read: passed on where browsers play it, else encoded again here.

For sources that read and wait in a thread of their own.
"""

from typing import Any

from sightline_agent.media.frames import CLOCK_RATE, AudioFormat
from sightline_agent.media.sound import OPUS, OPUS_RATE
from sightline_agent.sources.sound.encoder import CannotDecodeError, ToOpus
from sightline_agent.sources.sound.passing import Heard, Passing, heard, passed_on
from sightline_agent.sources.sound.wire import Coding


def sound_stream(container: Any) -> Any | None:
    """The container's sound; None where there is none."""
    return next(iter(container.streams.audio), None)


def coding_of(stream: Any) -> Coding:
    """What its decoder is made from."""
    context = stream.codec_context
    return Coding(context.name, context.sample_rate or 0, context.channels or 0, bytes(context.extradata or b""))


class ContainerSound:
    """One stream of sound over all its parts, such as the rounds of a clip."""

    def __init__(self, coding: Coding) -> None:
        self.coding = coding
        self.problem = ""
        """Why there is no sound any more."""
        format_ = passed_on(coding)
        self._passing = Passing(format_) if format_ is not None else None
        self._encoder: ToOpus | None = None
        if self._passing is None:
            try:
                self._encoder = ToOpus(coding)
            except CannotDecodeError as error:
                self.problem = str(error)

    @property
    def format(self) -> AudioFormat | None:
        """What comes out."""
        if self.problem:
            return None
        return self._passing.format if self._passing is not None else OPUS

    def chunks(self, data: bytes, at: int) -> list[Heard]:
        """The chunks of one packet; `at` is its time on the pictures' line at 90 kHz, unwrapped."""
        if self._passing is not None:
            return self._passing.chunks(data, at)
        if self._encoder is None:
            return []
        try:
            packets = self._encoder.feed(data, at * OPUS_RATE // CLOCK_RATE)
        except CannotDecodeError as error:
            self.problem, self._encoder = str(error), None
            return []
        return [heard(packet, begin, OPUS) for packet, begin in packets]
