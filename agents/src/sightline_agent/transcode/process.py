"""The transcoder as its parent sees it: a process that is fed, watched, and ended without ceremony.

`Transcoder.run` starts it, and returns only by cancellation or SourceError: when the process ends, writes nonsense, or
is fed for `STALL_SECONDS` without giving a picture. Whoever runs it (the rendition's hub) starts it again with growing
pauses.
"""

import asyncio
import contextlib
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import structlog

from sightline_agent import child
from sightline_agent.child import Child
from sightline_agent.sources.base import SourceError
from sightline_agent.transcode.backlog import Backlog
from sightline_agent.transcode.records import Kind, Record, RecordError, Splitter, Tally, pack
from sightline_model.reasons import SourceReason

STALL_SECONDS = 5.0
"""Also the time that the process has for its start."""
COMMAND = (sys.executable, "-I", "-m", "sightline_agent.transcode.worker")
_READ_BYTES = 1 << 16
_LAST_SECONDS = 1.0
"""For one whose output has ended to end by itself: killed now, it would not tell why."""

_log = structlog.get_logger(__name__)

Deliver = Callable[[int, bytes], None]
"""Called with the time and the bytes (annex B) of each access unit in H.264."""


@dataclass(frozen=True, slots=True)
class Outside:
    """The program, and the clock that it shares with us."""

    command: tuple[str, ...] = COMMAND
    clock: Callable[[], float] = time.monotonic


class Transcoder:
    """One process for one stream. `codec` is FFmpeg's name of what it gets."""

    def __init__(self, codec: str, deliver: Deliver, outside: Outside | None = None) -> None:
        self._deliver = deliver
        self._outside = outside or Outside()
        self._backlog = Backlog(codec)
        self._wake = asyncio.Event()
        self._stop = asyncio.Event()
        self._owing_since: float | None = None
        self._tally = Tally()
        self.pid: int | None = None

    def feed(self, ticks: int, unit: bytes, key: bool) -> None:
        """The next access unit. Never blocks; what does not fit is dropped and counted."""
        self._backlog.put(Record(Kind.UNIT, ticks, self._outside.clock(), unit), key)
        self._wake.set()

    def begin(self, units: Iterable[tuple[int, bytes]]) -> None:
        """What the first units refer to, in order: to be decoded but not shown."""
        self._backlog.precede(Record(Kind.PRELUDE, ticks, 0.0, unit) for ticks, unit in units)
        self._wake.set()

    def restart(self, codec: str) -> None:
        """What follows is coded in this."""
        self._backlog.restart(codec)
        self._wake.set()

    def want_key_frame(self) -> None:
        """The next picture shall be one to begin at."""
        self._backlog.want_key_frame()
        self._wake.set()

    @property
    def left_out(self) -> int:
        """Pictures that were dropped on the way in, or not encoded because they came too late."""
        return self._backlog.dropped + self._tally.late

    async def run(self) -> None:
        """Transcode until cancelled; SourceError. However often it is, the process has ended when this returns."""
        living = asyncio.create_task(self._live(), name="transcoder")
        try:
            await asyncio.shield(living)
        finally:
            self._stop.set()
            while not living.done():
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.wait({living})
            if not living.cancelled():
                living.exception()  # retrieved, where nobody asks any more

    async def _live(self) -> None:
        try:
            process = await child.start(self._outside.command)
        except OSError as error:
            raise SourceError(SourceReason.STALLED, "the transcoder cannot be started") from error
        self.pid = process.pid
        _log.info("transcoder started")
        tasks = self._tasks(process)
        stopped = asyncio.create_task(self._stop.wait(), name="transcoder stop")
        patience = 0.0  # it keeps nothing, so it is not asked
        try:
            done, _ = await asyncio.wait({stopped, *tasks}, return_when=asyncio.FIRST_COMPLETED)
            for task in done - {stopped}:
                task.result()
                patience = _LAST_SECONDS
                raise SourceError(SourceReason.STALLED, "the transcoder ended unexpectedly")
        finally:
            for task in (stopped, *tasks):
                task.cancel()
            await process.end(patience)
            await asyncio.gather(stopped, *tasks, return_exceptions=True)
            figures = {"dropped": self._backlog.dropped, **self._tally._asdict()}
            if self._stop.is_set():
                _log.info("transcoder stopped", **figures)
            else:
                _log.warning("transcoder failed", code=process.status, **figures)

    def _tasks(self, process: Child) -> set[asyncio.Task[None]]:
        return {
            asyncio.create_task(self._write(process.input), name="transcoder input"),
            asyncio.create_task(self._read(process.output), name="transcoder output"),
            asyncio.create_task(self._watch(), name="transcoder watch"),
        }

    async def _write(self, pipe: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):  # the process has ended: the reader sees it too
            while True:
                record = self._backlog.take()
                if record is None:
                    self._wake.clear()
                    await self._wake.wait()
                    continue
                if record.kind is Kind.UNIT and self._owing_since is None:
                    self._owing_since = self._now()
                pipe.write(pack(record))
                await pipe.drain()

    async def _read(self, pipe: asyncio.StreamReader) -> None:
        splitter = Splitter()
        while piece := await pipe.read(_READ_BYTES):
            try:
                for record in splitter.feed(piece):
                    self._take(record)
            except RecordError as error:
                raise SourceError(SourceReason.STALLED, "the transcoder writes nonsense") from error

    def _take(self, record: Record) -> None:
        if record.kind is Kind.TALLY:
            self._tally = Tally.unpack(record.body)
        elif record.kind is Kind.UNIT:
            self._owing_since = None
            self._deliver(record.ticks, record.body)

    async def _watch(self) -> None:
        """Ends with SourceError when the process owes a picture for too long."""
        while True:
            since = self._owing_since
            await asyncio.sleep(STALL_SECONDS if since is None else max(0.0, since + STALL_SECONDS - self._now()))
            if self._owing_since is not None and self._now() - self._owing_since >= STALL_SECONDS:
                raise SourceError(SourceReason.STALLED, f"the transcoder gave no picture for {STALL_SECONDS:g} s")

    def _now(self) -> float:
        return asyncio.get_running_loop().time()
