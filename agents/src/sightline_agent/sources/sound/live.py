"""The sound of a stream that comes over the network: passed on where browsers play it, else encoded by a process.

For sources on the event loop. Nothing here ends or delays the pictures; `problem` says why there is no sound.
"""

import asyncio
from collections import Counter
from collections.abc import Callable

from sightline_agent.media.frames import CLOCK_RATE, AudioFormat, Chunk
from sightline_agent.media.sound import OPUS, OPUS_RATE
from sightline_agent.sources.sound.passing import Passing, heard, passed_on
from sightline_agent.sources.sound.process import Drop, OpusProcess
from sightline_agent.sources.sound.wire import Coding

Deliver = Callable[[Chunk, int], None]
"""A chunk, and the timestamp of a picture of the same moment."""


class LiveSound:
    """One stream's sound; `it` is a phrase such as "the RTMP stream". To be closed."""

    def __init__(self, it: str, deliver: Deliver, dropped: "Counter[Drop] | None" = None) -> None:
        """`dropped`: where drops are counted."""
        self._it = it
        self._dropped = dropped
        self._deliver = deliver
        self._coding: Coding | None = None
        self._foreign = ""
        self._passing: Passing | None = None
        self._process: OpusProcess | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def format(self) -> AudioFormat | None:
        """What goes on; None before it is known, and where there is none."""
        if self._coding is None or self.problem:
            return None
        return self._passing.format if self._passing is not None else OPUS

    @property
    def problem(self) -> str:
        """Why there is none."""
        if self._foreign:
            return f"the sound of {self._it} is {self._foreign}, which is not carried"
        if self._coding is not None and self._process is not None and self._process.problem:
            return f"the sound of {self._it} is {self._coding.codec}; {self._process.problem}"
        return ""

    def refuse(self, codec: str) -> None:
        """It is of a codec that is not carried."""
        self._foreign = codec

    def expect(self, coding: Coding) -> None:
        """What comes from now on."""
        if coding == self._coding:
            return
        self._stop()
        self._coding, self._foreign = coding, ""
        format_ = passed_on(coding)
        self._passing = Passing(format_) if format_ is not None else None
        self._process = None
        if self._passing is None:
            self._process = OpusProcess(coding, self._encoded, self._dropped)
            task = asyncio.create_task(self._process.run(), name="sound")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def take(self, data: bytes, at: int) -> None:
        """A block of it; `at` is its time on the pictures' line at 90 kHz, unwrapped."""
        if self._process is not None:
            self._process.push(data, at * OPUS_RATE // CLOCK_RATE)
        elif self._passing is not None:
            for chunk, picture in self._passing.chunks(data, at):
                self._deliver(chunk, picture)

    async def close(self) -> None:
        """End what runs beside."""
        tasks = set(self._tasks)
        self._stop()
        if tasks:
            await asyncio.wait(tasks)

    def _encoded(self, packet: bytes, at: int) -> None:
        self._deliver(*heard(packet, at, OPUS))

    def _stop(self) -> None:
        for task in self._tasks:
            task.cancel()
