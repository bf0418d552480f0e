"""The hub: one source of a camera, shared by all its viewers.

`renditions` has one for each quality, calls `attach` and `detach` for each viewer, asks for `report` and supervises
`run`. What to do is decided by `sources.plan`; here it is done: start the source, hand its chunks to
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

from sightline_agent.media.frames import CLOCK_RATE, Chunk, MediaFormat, VideoFormat
from sightline_agent.media.kept import KeptGroup
from sightline_agent.media.meter import Meter
from sightline_agent.media.playable import refusal
from sightline_agent.media.timeline import Timeline
from sightline_agent.soundtrack import Soundtrack
from sightline_agent.sources.base import KeyFrameSource, Sink, Source, SourceError
from sightline_agent.sources.factory import MakeSource
from sightline_agent.sources.plan import Plan
from sightline_agent.transport.fanout import FanOut, FanOutTotals
from sightline_model.agent import MAIN_PROFILE, AgentConfig, SourceReport
from sightline_model.camera import AudioMode, StartMode, TranscodeMode
from sightline_model.reasons import SourceReason

_STOP_SECONDS = 2.0
_KEY_FRAME_SECONDS = 0.5
"""Between two key frames on request: they are large, and one serves everybody."""
_LONG_GOP_SECONDS = 3.0
"""A viewer needs most of a second to decode its way through more than that."""
_NEW_SECONDS = 0.3
"""A group of pictures that has just begun: who changes over to it sees no jump."""

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


@dataclass(frozen=True, slots=True)
class Tracks:
    """What viewers are sent."""

    pictures: FanOut
    sound: Soundtrack

    def totals(self) -> FanOutTotals:
        """Of both."""
        return self.pictures.totals() + self.sound.totals()


class Hub:
    """One source of a camera and who depends on it. Others than the main one run only while they are watched."""

    def __init__(
        self,
        config: AgentConfig,
        make_source: MakeSource,
        tracks: Tracks,
        outside: Outside | None = None,
        name: str = MAIN_PROFILE,
    ) -> None:
        self.name = name
        self.tracks = tracks
        self._outside = outside or Outside()
        self._config = config
        self._make_source = make_source
        probes = name == MAIN_PROFILE
        self._plan = Plan(_always(config), config.lifecycle.idle_timeout, self._outside.random, probes)
        self._timeline = Timeline()
        self._meter = Meter()
        self._taps: list[Sink] = []
        self._kept = KeptGroup()
        self._parked: set[asyncio.Future[MediaFormat]] = set()
        self._for_key_frame: set[asyncio.Future[None]] = set()
        self._wake = asyncio.Event()
        self._run: _Run | None = None
        self._source: Source | None = None
        self._key_wanted_at = float("-inf")
        self._task: asyncio.Task[None] | None = None
        self._watchers: list[Watcher] = []
        self._told: SourceReport | None = None
        self._format: MediaFormat | None = None
        self._refused = ""
        """What the format has that not every player shows."""
        self._verified = False
        self._reconnects = 0
        self._broke = False
        self._last_error = ""
        self._goodbye = "the agent is shutting down"
        self._last_frame_at: float | None = None
        self._last_placed = (0, 0.0)
        self._streaming_since: datetime | None = None

    # Viewers

    async def attach(self) -> MediaFormat:
        """Count a viewer in and wait for the picture; SourceError (then nobody was counted) where there is none."""
        if self._plan.streaming and self._format is not None:
            self._plan.joined()
            return self._format
        known = self._plan.fresh_failure(self._now())
        if known is not None:
            raise SourceError(known.reason, str(known))
        self._plan.hurry()
        parked: asyncio.Future[MediaFormat] = asyncio.get_running_loop().create_future()
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
        cached = self.tracks.pictures.gop_seconds()
        if cached is None or cached > _LONG_GOP_SECONDS:
            self._ask_for_key_frame()

    def tap(self, sink: Sink) -> tuple[tuple[Chunk, ...], Callable[[], None]]:
        """For a rendition that is made of this one: the group of pictures under way, and from then on everything that
        viewers get, on their line of timestamps, until the answer's second part is called."""
        self._taps.append(sink)
        return self._kept.chunks, lambda: self._taps.remove(sink)

    async def key_frame(self, patience: float) -> None:
        """Wait for a picture that a viewer of another quality can go on with; after `patience` seconds, any will do."""
        cached = self.tracks.pictures.gop_seconds()
        if cached is not None and cached <= _NEW_SECONDS:
            return
        self._ask_for_key_frame()
        coming: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._for_key_frame.add(coming)
        try:
            async with asyncio.timeout(patience):
                await coming
        except TimeoutError:
            if self.tracks.pictures.gop_seconds() is None:
                text = f"no key frame within {patience:g} seconds"
                raise SourceError(SourceReason.NO_FRAMES, text) from None
        finally:
            self._for_key_frame.discard(coming)

    def _ask_for_key_frame(self) -> None:
        now = self._now()
        if isinstance(self._source, KeyFrameSource) and now - self._key_wanted_at >= _KEY_FRAME_SECONDS:
            self._key_wanted_at = now
            self._source.want_key_frame()

    # Control

    @property
    def format(self) -> MediaFormat | None:
        """What the source sends, or sent last."""
        return self._format

    def report(self) -> SourceReport:
        """What the source does now."""
        now, wall = self._now(), self._outside.wall()
        fps, bitrate = self._meter.rates(now) if self._plan.streaming else (0.0, 0)
        last = self._last_frame_at
        reason, message = self._state(now)
        format_ = self._format or MediaFormat(VideoFormat(codec=""))
        video, audio = format_.video, format_.audio
        return SourceReport(
            reason=reason,
            message=message,
            verified=self._verified,
            profile=self.name,
            video_codec=video.codec,
            audio_codec=audio.codec if audio is not None else "",
            width=video.width,
            height=video.height,
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
        changed = _essence(config) != _essence(self._config)
        self._config = config
        self._plan.always = _always(config)
        self._plan.idle_timeout = config.lifecycle.idle_timeout
        if changed:
            self._release_run()
            self._plan.replaced()
            self._verified = False
            self._format, self._refused = None, ""
            self._last_error = ""
            self._streaming_since = None
            self._changed()
        self._look_again()

    def retire(self) -> None:
        """This quality is no longer one of the camera's: its viewers are to hear it. `run` is cancelled next."""
        self._goodbye = "the camera has this quality no more"
        last = self.report().model_copy(update={"reason": SourceReason.IDLE, "message": self._goodbye})
        for watcher in tuple(self._watchers):
            watcher(last)

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
            self._park_none(SourceError(SourceReason.IDLE, self._goodbye))

    async def _sleep(self, deadline: float | None) -> None:
        delay = None if deadline is None else max(deadline - self._now(), 0.0)
        try:
            async with asyncio.timeout(delay):
                await self._wake.wait()
        except TimeoutError:
            return

    def _start(self) -> None:
        self._plan.started()
        self.tracks.pictures.cut()
        self.tracks.sound.restart()
        self._kept.clear()
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
            told = f"{error.reason}: {error}"
            # A watched camera that is away is tried each second: one line tells of it.
            log = _log.warning if self._plan.streaming or told != self._last_error else _log.debug
            self._broke = self._broke or self._plan.streaming
            self._plan.failed(error, self._now())
            self._last_error = told
            self._park_none(error)
            log(
                "source failed",
                profile=self.name,
                reason=error.reason,
                message=str(error),
                viewers=self._plan.watching,
            )
        self._changed()
        self._look_again()

    def _release_run(self) -> None:
        """What the present run still delivers is not wanted any more; `run` ends its task."""
        self._run = None
        if self._task is not None:
            self._task.cancel()

    async def _end_task(self) -> None:
        task = self._task
        if task is None:
            return
        task.cancel()
        finished, _ = await asyncio.wait({task}, timeout=_STOP_SECONDS)
        self._task = None  # only now: who is cancelled while waiting here comes again
        if not finished:
            _log.warning("source did not stop in time")

    # What a run delivers

    def _on_start(self, run: "_Run", format_: MediaFormat) -> None:
        refused = refusal(format_.video) if self._config.transcode is TranscodeMode.NEVER else ""
        if refused:
            self._refuse(run, SourceError(SourceReason.CODEC_UNSUPPORTED, f"the camera sends {refused}"))
            return
        if self._config.audio is AudioMode.NONE:
            format_ = MediaFormat(format_.video)
        self.tracks.sound.start(format_.audio)
        self._format, self._refused = format_, refusal(format_.video)
        for tap in self._taps:
            tap.start(format_)
        if self._plan.streaming:  # another resolution in the middle of a stream
            self._changed()

    def _refuse(self, run: "_Run", error: SourceError) -> None:
        """What comes is not wanted; the source, which does not know, is ended by `run`."""
        task = self._task
        self._finished(run, error)
        self._task = task

    def _on_chunk(self, run: "_Run", chunk: Chunk) -> None:
        now = self._now()
        if self._meter.add(chunk, now):
            self._last_frame_at = now
        if not run.key_seen:
            self._begin(now)
            if not chunk.key:
                return  # nobody can decode it
            run.key_seen = True
            self._plan.proved()
            self._verified = True
            self._changed()
            self._look_again()
        placed = self._timeline.place(chunk, now)
        self._last_placed = placed.timestamp, now
        for tap in self._taps:
            tap.write(placed)
        if self._refused:
            self._kept.add(placed)
        self.tracks.sound.picture(placed.timestamp, now)
        self.tracks.pictures.send(placed)
        if chunk.key:
            for coming in self._for_key_frame:
                if not coming.done():
                    coming.set_result(None)

    def _begin(self, now: float) -> None:
        """Something comes, if not yet a key frame."""
        if not self._plan.streaming:
            self._plan.streamed(now)
            self._streaming_since = self._outside.wall()
            self._unpark()
            self._changed()

    def _on_sound(self, run: "_Run", chunk: Chunk, picture: int | None) -> None:
        if run.key_seen:  # sound begins with the pictures
            now = self._now()
            same = self._timeline.placed(picture) if picture is not None else None
            placed = self.tracks.sound.write(chunk, now, same)
            if placed is None:
                return
            for tap in self._taps:
                tap.write_audio(placed, same if same is not None else self._picture_at(now))

    def _picture_at(self, now: float) -> int:
        """The time of the picture that arrives now."""
        timestamp, at = self._last_placed
        return (timestamp + round((now - at) * CLOCK_RATE)) % (1 << 32)

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
            return SourceReason.STREAMING, _remarks(self._format) if self._format is not None else ""
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

    def start(self, format_: MediaFormat) -> None:
        if self._hub._run is self:
            self._hub._on_start(self, format_)

    def write(self, chunk: Chunk) -> None:
        if self._hub._run is self:
            self._hub._on_chunk(self, chunk)

    def write_audio(self, chunk: Chunk, picture: int | None = None) -> None:
        if self._hub._run is self:
            self._hub._on_sound(self, chunk, picture)


def _remarks(format_: MediaFormat) -> str:
    """What people should know of a stream that works."""
    silence, refused = format_.audio_problem, refusal(format_.video)
    remarks = (
        f"no sound: {silence}" if silence else "",
        f"transcoded for players that cannot show it: the camera sends {refused}" if refused else "",
    )
    return "; ".join(filter(None, remarks))


def _essence(config: AgentConfig) -> tuple[object, ...]:
    """What makes it another source."""
    return config.source, config.audio, config.transcode


def _always(config: AgentConfig) -> bool:
    return config.lifecycle.start is StartMode.ALWAYS


def _has_result(future: "asyncio.Future[MediaFormat]") -> bool:
    return future.done() and not future.cancelled() and future.exception() is None
