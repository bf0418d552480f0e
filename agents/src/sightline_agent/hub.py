"""The hub: one camera's source, shared by all its viewers.

The registry calls `attach` and `detach` for each viewer, control asks for `report`, `run` is supervised by
the process. What to do is decided by `sources.plan`; here it is done: start the source, hand its chunks to
the fan-out, stop it. One task runs at most one source. Each run has its own `_Run`, so that what a stopped
run still delivers reaches nobody.

Viewers who wait for the first picture are parked and always answered: with the format, with why the source
failed, or after `start_timeout`. Viewers who already watch stay while the source is connected to again, on
one line of timestamps.
"""

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import structlog

from sightline_agent.media.frames import Chunk, VideoFormat
from sightline_agent.media.meter import Meter
from sightline_agent.media.timeline import Timeline
from sightline_agent.sources.base import KeyFrameSource, Source, SourceError
from sightline_agent.sources.factory import MakeSource
from sightline_agent.sources.plan import Plan
from sightline_agent.transport.fanout import FanOut
from sightline_model.agent import AgentConfig, SourceReport
from sightline_model.camera import StartMode
from sightline_model.reasons import SourceReason

_STOP_SECONDS = 2.0
_KEY_FRAME_SECONDS = 0.5
"""Between two key frames on request: they are large, and one serves everybody."""
_LONG_GOP_SECONDS = 3.0
"""A viewer needs most of a second to decode its way through more than that."""

_log = structlog.get_logger(__name__)

Watcher = Callable[[SourceReport], None]


def _utc_now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Outside:
    """What the hub takes from the world: clocks and chance."""

    clock: Callable[[], float] | None = None
    """Monotonic seconds; None: the running loop's."""
    wall: Callable[[], datetime] = _utc_now
    random: Callable[[], float] = field(default=random.random)


class Hub:
    """One camera's source and who depends on it."""

    def __init__(
        self, config: AgentConfig, make_source: MakeSource, fanout: FanOut, outside: Outside | None = None
    ) -> None:
        self._outside = outside or Outside()
        self._config = config
        self._make_source = make_source
        self._fanout = fanout
        self._plan = Plan(_always(config), config.lifecycle.idle_timeout, self._outside.random)
        self._timeline = Timeline()
        self._meter = Meter()
        self._parked: set[asyncio.Future[VideoFormat]] = set()
        self._wake = asyncio.Event()
        self._run: _Run | None = None
        self._source: Source | None = None
        self._key_wanted_at = float("-inf")
        self._task: asyncio.Task[None] | None = None
        self._watchers: list[Watcher] = []
        self._told: SourceReport | None = None
        self._format: VideoFormat | None = None
        self._verified = False
        self._reconnects = 0
        self._broke = False
        self._last_error = ""
        self._last_frame_at: float | None = None
        self._streaming_since: datetime | None = None

    # Viewers

    async def attach(self) -> VideoFormat:
        """Count a viewer in and wait for the picture; SourceError (then nobody was counted) where there is none."""
        if self._plan.streaming and self._format is not None:
            self._plan.joined()
            return self._format
        known = self._plan.fresh_failure(self._now())
        if known is not None:
            raise SourceError(known.reason, str(known))
        self._plan.hurry()
        parked: asyncio.Future[VideoFormat] = asyncio.get_running_loop().create_future()
        self._parked.add(parked)
        self._look_again()
        timeout = self._config.lifecycle.start_timeout
        try:
            async with asyncio.timeout(timeout):
                return await parked
        except TimeoutError:
            if _has_result(parked):
                return parked.result()
            failure = self._plan.failure
            reason = failure.reason if failure else SourceReason.NO_FRAMES
            message = str(failure) if failure else f"no picture within {timeout:g} seconds"
            raise SourceError(reason, message) from None
        except asyncio.CancelledError:
            if _has_result(parked):
                self.detach()
            raise
        finally:
            self._parked.discard(parked)
            self._look_again()

    def detach(self) -> None:
        """A viewer that `attach` had let in is gone."""
        self._plan.left(self._now())
        self._look_again()

    def want_key_frame(self) -> None:
        """A viewer can only begin, or go on, at a key frame. Asked for where the source can make one, and where the
        group of pictures under way is not there to begin with or takes long to decode."""
        cached = self._fanout.gop_seconds()
        if cached is not None and cached <= _LONG_GOP_SECONDS:
            return
        now = self._now()
        if isinstance(self._source, KeyFrameSource) and now - self._key_wanted_at >= _KEY_FRAME_SECONDS:
            self._key_wanted_at = now
            self._source.want_key_frame()

    # Control

    def report(self) -> SourceReport:
        """What the source does now."""
        now, wall = self._now(), self._outside.wall()
        fps, bitrate = self._meter.rates(now) if self._plan.streaming else (0.0, 0)
        last = self._last_frame_at
        reason, message = self._state(now)
        format_ = self._format or VideoFormat(codec="")
        return SourceReport(
            reason=reason,
            message=message,
            verified=self._verified,
            video_codec=format_.codec,
            width=format_.width,
            height=format_.height,
            fps=fps,
            bitrate=bitrate,
            keyframe_interval=self._meter.keyframe_interval,
            last_frame_time=wall - timedelta(seconds=now - last) if last is not None else None,
            running_since=self._streaming_since,
            reconnects=self._reconnects,
            last_error=self._last_error,
        )

    def subscribe(self, watcher: Watcher) -> Callable[[], None]:
        """Be told when the state changes (not for each frame); the answer ends it."""
        self._watchers.append(watcher)
        return lambda: self._watchers.remove(watcher)

    def reconfigure(self, config: AgentConfig) -> None:
        """Another config is in force; the source is swapped only if its description changed. Viewers stay."""
        changed = config.source != self._config.source
        self._config = config
        self._plan.always = _always(config)
        self._plan.idle_timeout = config.lifecycle.idle_timeout
        if changed:
            self._release_run()
            self._plan.replaced()
            self._verified = False
            self._format = None
            self._last_error = ""
            self._streaming_since = None
            self._changed()
        self._look_again()

    # The task

    async def run(self) -> None:
        """Keep the source as the plan wants it, until cancelled."""
        try:
            while True:
                self._wake.clear()
                now = self._now()
                if self._task is not None and self._run is None:
                    await self._end_task()  # a run that was replaced
                    continue
                wants = self._plan.should_run(now)
                if wants and self._task is None:
                    self._start()
                elif not wants and self._task is not None:
                    self._release_run()
                    self._plan.stopped()
                    self._streaming_since = None
                    self._changed()
                    continue
                await self._sleep(self._plan.next_deadline(now))
        finally:
            self._release_run()
            await self._end_task()
            self._park_none(SourceError(SourceReason.IDLE, "the agent is shutting down"))

    async def _sleep(self, deadline: float | None) -> None:
        delay = None if deadline is None else max(deadline - self._now(), 0.0)
        try:
            async with asyncio.timeout(delay):
                await self._wake.wait()
        except TimeoutError:
            return

    def _start(self) -> None:
        self._plan.started()
        self._fanout.cut()
        self._meter.restart()
        self._timeline.restart()
        if self._broke:
            self._reconnects += 1
            self._broke = False
        run = _Run(self)
        self._run = run
        self._task = asyncio.create_task(self._drive(run), name="source")
        self._changed()

    async def _drive(self, run: "_Run") -> None:
        try:
            source = self._make_source(self._config.source)
            self._source = source
            await source.run(run)
        except SourceError as error:
            self._finished(run, error)
        except Exception:
            _log.exception("source failed unexpectedly")
            self._finished(run, SourceError(SourceReason.PROTOCOL_ERROR, "the source failed unexpectedly"))
        else:
            self._finished(run, None)

    def _finished(self, run: "_Run", error: SourceError | None) -> None:
        if self._run is not run:
            return
        self._run, self._task = None, None
        self._streaming_since = None
        if error is None:
            streamed = self._plan.streaming
            self._plan.ended()
            if not streamed:
                self._park_none(SourceError(SourceReason.NO_FRAMES, "the stream ended before its first picture"))
        else:
            self._broke = self._broke or self._plan.streaming
            self._plan.failed(error, self._now())
            self._last_error = f"{error.reason}: {error}"
            self._park_none(error)
            _log.warning("source failed", reason=error.reason, message=str(error), viewers=self._plan.watching)
        self._changed()
        self._look_again()

    def _release_run(self) -> None:
        """What the present run still delivers is not wanted any more; `run` ends its task."""
        self._run = None
        if self._task is not None:
            self._task.cancel()

    async def _end_task(self) -> None:
        task, self._task = self._task, None
        if task is None:
            return
        task.cancel()
        finished, _ = await asyncio.wait({task}, timeout=_STOP_SECONDS)
        if not finished:
            _log.warning("source did not stop in time")

    # What a run delivers

    def _on_start(self, format_: VideoFormat) -> None:
        self._format = format_
        if self._plan.streaming:  # another resolution in the middle of a stream
            self._changed()

    def _on_chunk(self, run: "_Run", chunk: Chunk) -> None:
        now = self._now()
        if self._meter.add(chunk, now):
            self._last_frame_at = now
        if not self._plan.streaming:
            self._plan.streamed(now)
            self._streaming_since = self._outside.wall()
            self._unpark()
            self._changed()
        if not run.key_seen:
            if not chunk.key:
                return  # nobody can decode it
            run.key_seen = True
            self._plan.proved()
            self._verified = True
            self._changed()
            self._look_again()
        self._fanout.send(self._timeline.place(chunk, now))

    def _unpark(self) -> None:
        if self._format is None:
            return
        for parked in self._parked:
            if not parked.done():
                self._plan.joined()
                parked.set_result(self._format)

    def _park_none(self, error: SourceError) -> None:
        for parked in self._parked:
            if not parked.done():
                parked.set_exception(SourceError(error.reason, str(error)))

    # Small things

    def _state(self, now: float) -> tuple[SourceReason, str]:
        if self._plan.streaming:
            return SourceReason.STREAMING, ""
        if self._plan.failure is not None:
            return self._plan.failure.reason, str(self._plan.failure)
        if self._plan.wanted(now):
            return SourceReason.CONNECTING, ""
        return SourceReason.IDLE, ""

    def _changed(self) -> None:
        """Tell the watchers, if what they see differs from what they were told."""
        report = self.report()
        # Rates and times change with every frame; they travel with the stats.
        report_for_comparison = report.model_copy(
            update={"fps": 0.0, "bitrate": 0, "last_frame_time": None, "keyframe_interval": 0.0}
        )
        if report_for_comparison == self._told:
            return
        self._told = report_for_comparison
        for watcher in tuple(self._watchers):
            watcher(report)

    def _look_again(self) -> None:
        self._plan.waiting = sum(not parked.done() for parked in self._parked)
        self._wake.set()

    def _now(self) -> float:
        clock = self._outside.clock
        return clock() if clock is not None else asyncio.get_running_loop().time()


class _Run:
    """One run's sink: forwards to the hub as long as it is the hub's present run."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self.key_seen = False

    def start(self, format_: VideoFormat) -> None:
        if self._hub._run is self:
            self._hub._on_start(format_)

    def write(self, chunk: Chunk) -> None:
        if self._hub._run is self:
            self._hub._on_chunk(self, chunk)


def _always(config: AgentConfig) -> bool:
    return config.lifecycle.start is StartMode.ALWAYS


def _has_result(future: "asyncio.Future[VideoFormat]") -> bool:
    return future.done() and not future.cancelled() and future.exception() is None
