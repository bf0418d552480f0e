"""What a source is to its parent, the hub.

`run` works until it is cancelled or fails: it connects, tells the sink the format and then each chunk. It
raises SourceError with the reason when it fails; the hub decides whether and when to run it again (jittered
backoff), so no source reconnects by itself. Nothing in a source blocks the event loop: what must block runs
in a thread of its own that ends when `run` is cancelled.
"""

from typing import Protocol, runtime_checkable

from sightline_agent.media.frames import Chunk, MediaFormat
from sightline_model.reasons import SourceReason


class SourceError(Exception):
    """The source failed; `reason` is told to operators and viewers, `str(error)` never holds credentials."""

    def __init__(self, reason: SourceReason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Sink(Protocol):
    """Where a source delivers. Methods are called on the event loop's thread and never block."""

    def start(self, format_: MediaFormat) -> None:
        """The source is connected and will send this; again when that changes."""
        ...

    def write(self, chunk: Chunk) -> None:
        """The next payloads of the pictures."""
        ...

    def write_audio(self, chunk: Chunk, picture: int | None = None) -> None:
        """The next payload of the sound: one per chunk, always `key`, `last` as the marker bit.

        `picture`: the timestamp that a picture of the same moment has, where the source knows it; it keeps lips in
        step. Without it the moment of arrival counts.
        """
        ...


class Source(Protocol):
    """One way to get pictures."""

    async def run(self, sink: Sink) -> None:
        """Deliver until cancelled; SourceError when it fails; returns when the stream ended by itself."""
        ...


@runtime_checkable
class KeyFrameSource(Protocol):
    """A source that can make a key frame when it is asked for one."""

    def want_key_frame(self) -> None:
        """The next frame shall be one. Called on the event loop's thread; never blocks."""
        ...
