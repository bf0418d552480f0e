"""The agent's end of the process that encodes a source's sound (`worker`).

`push` never blocks and never fails: what comes before the process is ready, or faster than it works, is dropped and
counted, and pictures go on. A process that ends, or hangs, is started again after growing pauses; one that says that it
cannot decode this is not, and `problem` tells so.
"""

import asyncio
import contextlib
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from enum import StrEnum

import structlog

from sightline_agent import child
from sightline_agent.sources.sound import wire
from sightline_agent.sources.sound.worker import CANNOT_DECODE, READY

Deliver = Callable[[bytes, int], None]
"""An Opus packet and its time in samples at 48 kHz."""

_MAX_UNSENT_BYTES = 32 * 1024
"""Some two seconds of AAC: a process that is further behind is too slow."""
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 30.0
_STABLE_SECONDS = 10.0
_GOODBYE_SECONDS = 1.0
_START_SECONDS = 30.0
_HUNG_SECONDS = 5.0
"""A process that takes nothing more and gives nothing for so long does not merely work slowly."""

_log = structlog.get_logger(__name__)


class Drop(StrEnum):
    """Why sound was dropped before it was encoded."""

    NOT_READY = "not-ready"
    TOO_SLOW = "too-slow"
    TOO_LONG = "too-long"


class OpusProcess:
    """One source's encoder; `run` is supervised by the source, `problem` says why there is no sound any more."""

    def __init__(
        self,
        coding: wire.Coding,
        deliver: Deliver,
        dropped: "Counter[Drop] | None" = None,
        command: Sequence[str] | None = None,
    ) -> None:
        """`dropped`: where drops are counted; `command`: what is started instead of the worker."""
        program = [sys.executable, "-I", "-m", "sightline_agent.sources.sound.worker"]
        self._command = list(command) if command is not None else [*program, *coding.arguments()]
        self._deliver = deliver
        self._input: asyncio.StreamWriter | None = None
        self._limit: asyncio.Timeout | None = None
        self.ready = asyncio.Event()
        """Set while what is pushed is encoded."""
        self.dropped: Counter[Drop] = dropped if dropped is not None else Counter()
        self.starts = 0
        self.problem = ""

    def push(self, data: bytes, at: int) -> None:
        """A block of coded sound that begins at `at` (samples at 48 kHz)."""
        pipe = self._input
        if pipe is None or pipe.is_closing():
            self.dropped[Drop.NOT_READY] += 1
        elif len(data) > wire.MAX_RECORD_BYTES:
            self.dropped[Drop.TOO_LONG] += 1
        elif pipe.transport.get_write_buffer_size() > _MAX_UNSENT_BYTES:
            self.dropped[Drop.TOO_SLOW] += 1
            if self._limit is not None and self._limit.when() is None:
                self._limit.reschedule(asyncio.get_running_loop().time() + _HUNG_SECONDS)
        else:
            pipe.write(wire.write(at, data))

    async def run(self) -> None:
        """Keep the process running until cancelled, or until it says that it cannot decode this."""
        try:
            await self._keep_running()
        finally:
            _log.info("sound encoder stopped", starts=self.starts, problem=self.problem)

    async def _keep_running(self) -> None:
        loop = asyncio.get_running_loop()
        pause = _FIRST_PAUSE
        while True:
            began = loop.time()
            status = await self._live()
            if status == CANNOT_DECODE:
                self.problem = "it cannot be decoded"
                return
            if loop.time() - began > _STABLE_SECONDS:
                pause = _FIRST_PAUSE
            _log.warning("sound encoder failed", status=status, pause=pause)
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    async def _live(self) -> int | None:
        """One process, from its start to its end; its exit status, None where there was none to start."""
        self.starts += 1
        try:
            process = await child.start(self._command)
        except OSError:
            return None
        try:
            await self._read(process.input, process.output)
        finally:
            self._input = self._limit = None
            self.ready.clear()
            await process.end(_GOODBYE_SECONDS)
        return process.status

    async def _read(self, commands: asyncio.StreamWriter, answers: asyncio.StreamReader) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, OSError, TimeoutError, wire.WireError):
            async with asyncio.timeout(_START_SECONDS) as limit:
                if await answers.readexactly(len(READY)) != READY:
                    return
                self._input, self._limit = commands, limit
                self.ready.set()
                while True:
                    limit.reschedule(None)
                    at, length = wire.read_head(await answers.readexactly(wire.HEAD_BYTES))
                    self._deliver(await answers.readexactly(length), at)
