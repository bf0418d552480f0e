"""Running a source that blocks (PyAV) in a thread of its own, without letting it run ahead of the loop.

The thread calls `Emitter.start` and `Emitter.write`; both hand over to the event loop. At most `_IN_FLIGHT`
chunks are on their way: a thread that is faster waits, so nothing grows. When `run_in_thread` is cancelled
the thread is told (`Emitter.stopped`, or `StoppedError` out of the next call), given a moment, and abandoned with
a warning if it hangs in a library. What the sink raises ends the run, too.
"""

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import Any

import structlog

from sightline_agent.media.frames import Chunk, MediaFormat
from sightline_agent.sources.base import Sink

_IN_FLIGHT = 32
_GOODBYE_SECONDS = 1.0

_log = structlog.get_logger(__name__)


class StoppedError(Exception):
    """Raised inside the thread when it is to end."""


class Emitter:
    """The thread's end of the hand-over."""

    def __init__(self, loop: asyncio.AbstractEventLoop, sink: Sink) -> None:
        self._loop = loop
        self._sink = sink
        self._stop = threading.Event()
        self._free = threading.Semaphore(_IN_FLIGHT)
        self.refused: Exception | None = None
        """What the sink has raised."""

    def start(self, format_: MediaFormat) -> None:
        """Tell the sink the format."""
        self._call(self._guarded, self._sink.start, format_)

    def write(self, chunk: Chunk) -> None:
        """Hand a chunk of pictures over; waits while too many are on their way."""
        self._hand_over(self._sink.write, chunk)

    def write_audio(self, chunk: Chunk, picture: int | None = None) -> None:
        """The same of the sound."""
        self._hand_over(lambda one: self._sink.write_audio(one, picture), chunk)

    def wait(self, seconds: float) -> None:
        """Sleep, but end at once when told to."""
        if self._stop.wait(max(seconds, 0.0)):
            raise StoppedError

    @property
    def stopped(self) -> bool:
        """True when the thread is to end."""
        return self._stop.is_set()

    def stop(self) -> None:
        """Called on the loop: the thread is to end."""
        self._stop.set()

    def _hand_over(self, write: Callable[[Chunk], None], chunk: Chunk) -> None:
        while not self._free.acquire(timeout=0.2):
            if self._stop.is_set():
                raise StoppedError
        self._call(self._deliver, write, chunk)

    def _deliver(self, write: Callable[[Chunk], None], chunk: Chunk) -> None:
        self._free.release()
        self._guarded(write, chunk)

    def _guarded(self, tell: Callable[[Any], None], what: Any) -> None:
        if self._stop.is_set():
            return
        try:
            tell(what)
        except Exception as error:
            self.refused = error
            self._stop.set()

    def _call(self, function: Callable[..., None], *args: Any) -> None:
        if self._stop.is_set():
            raise StoppedError
        with contextlib.suppress(RuntimeError):  # the loop is closed: the process ends
            self._loop.call_soon_threadsafe(function, *args)


async def run_in_thread(name: str, work: Callable[[Emitter], None], sink: Sink) -> None:
    """Run `work` in a daemon thread until it returns or fails; its exception is raised here."""
    loop = asyncio.get_running_loop()
    emitter = Emitter(loop, sink)
    done: asyncio.Future[BaseException | None] = loop.create_future()

    def finish(error: BaseException | None) -> None:
        if not done.done():
            done.set_result(error)

    def body() -> None:
        outcome: BaseException | None = None
        try:
            work(emitter)
        except StoppedError:
            pass
        except BaseException as error:
            outcome = error
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(finish, outcome)

    thread = threading.Thread(target=body, name=name, daemon=True)
    thread.start()
    try:
        error = await asyncio.shield(done)
    except asyncio.CancelledError:
        emitter.stop()
        finished, _ = await asyncio.wait({done}, timeout=_GOODBYE_SECONDS)
        if not finished:
            _log.warning("source thread abandoned", thread=name)
        raise
    error = error or emitter.refused
    if error is not None:
        raise error
