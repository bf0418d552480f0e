"""The hub on virtual time: sharing, parking, idling, reconnecting, swapping."""

import asyncio
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import structlog

from sightline_agent.hub import Hub, Outside, Tracks
from sightline_agent.media.frames import CLOCK_RATE, Chunk, MediaFormat, VideoFormat
from sightline_agent.soundtrack import Soundtrack
from sightline_agent.sources.base import Sink, SourceError
from sightline_agent.transport.fanout import Address, Carried, FanOutTotals, Moment, Viewer, ViewerStats
from sightline_model.agent import AgentConfig, AgentLifecycle, CameraIdentity, SourceReport
from sightline_model.camera import Source as SourceSpec
from sightline_model.camera import StartMode
from sightline_model.camera import TestPatternSource as TestPatternSpec
from sightline_model.reasons import SourceReason
from tests.helpers.virtual_time import run, settle

FPS = 10
FORMAT = MediaFormat(VideoFormat("H264", "42c01e", 640, 360))
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)


class Recorder:
    """A fan-out that keeps what it was given."""

    def __init__(self) -> None:
        self.chunks: list[Chunk] = []
        self.gop: float | None = None
        """What a viewer who joined would get at once."""
        self.cuts: list[int] = []
        """How many chunks had come when the source began anew."""

    def gop_seconds(self) -> float | None:
        return self.gop

    def cut(self) -> None:
        self.cuts.append(len(self.chunks))

    def refresh(self, handle: int) -> bool:
        raise NotImplementedError

    def send(self, chunk: Chunk) -> None:
        self.chunks.append(chunk)

    def add(self, viewer: Viewer, on_start: Callable[[], None] | None = None) -> int:
        raise NotImplementedError

    def remove(self, handle: int) -> None:
        raise NotImplementedError

    def settled(self, handle: int) -> bool:
        raise NotImplementedError

    def release(self, handle: int) -> Carried | None:
        raise NotImplementedError

    def adopt(self, carried: Carried, clock_rate: int = 90_000, *, at_once: bool = True) -> int:
        raise NotImplementedError

    def move(self, handle: int, address: Address) -> None:
        raise NotImplementedError

    def resend(self, handle: int, sequence_numbers: list[int]) -> None:
        raise NotImplementedError

    def report(self, handle: int, moment: Moment, clock_rate: int = CLOCK_RATE, correction: int = 0) -> int | None:
        raise NotImplementedError

    def stats(self, handle: int) -> ViewerStats | None:
        return None

    def totals(self) -> FanOutTotals:
        return FanOutTotals()


class Camera:
    """Sources that do what the test wants; counts runs."""

    def __init__(self) -> None:
        self.runs = 0
        self.running = 0
        self.specs: list[SourceSpec] = []
        self.error: SourceError | None = None
        """Raised instead of pictures."""
        self.delay = 0.1
        """Until the first picture, or the error."""
        self.hang = False
        self.first = 0
        """Number of the first frame; those that 20 divides are key frames."""
        self.frames: int | None = None
        self.format = FORMAT
        self.broken = asyncio.Event()
        self.keys_wanted = 0

    def make(self, spec: SourceSpec) -> "Pictures":
        self.specs.append(spec)
        return Pictures(self)

    def break_now(self) -> None:
        self.broken.set()


class Pictures:
    def __init__(self, camera: Camera) -> None:
        self._camera = camera

    def want_key_frame(self) -> None:
        self._camera.keys_wanted += 1

    async def run(self, sink: Sink) -> None:
        camera = self._camera
        camera.runs += 1
        camera.running += 1
        try:
            if camera.hang:
                await asyncio.Event().wait()
            await asyncio.sleep(camera.delay)
            if camera.error is not None:
                raise camera.error
            sink.start(camera.format)
            number = camera.first
            while number != camera.frames:
                key = number % (2 * FPS) == 0
                sink.write(Chunk((b"x" * 100,), number * 9000, True, key))
                number += 1
                try:
                    async with asyncio.timeout(1 / FPS):
                        await camera.broken.wait()
                except TimeoutError:
                    continue
                camera.broken.clear()
                raise SourceError(SourceReason.STALLED, "broken by the test")
        finally:
            camera.running -= 1


class World:
    """A hub with everything around it."""

    def __init__(self, start: StartMode = StartMode.ON_DEMAND) -> None:
        self.camera = Camera()
        self.fanout = Recorder()
        self.states: list[SourceReport] = []
        loop = asyncio.get_running_loop()
        outside = Outside(wall=lambda: BEGIN + timedelta(seconds=loop.time()), random=lambda: 0.0)
        self.hub = Hub(config(start=start), self.camera.make, Tracks(self.fanout, Soundtrack(Recorder)), outside)
        self.hub.subscribe(self.states.append)

    def reasons(self) -> list[SourceReason]:
        found: list[SourceReason] = []
        for state in self.states:
            if not found or found[-1] is not state.reason:
                found.append(state.reason)
        return found


def config(width: int = 1280, start: StartMode = StartMode.ON_DEMAND) -> AgentConfig:
    return AgentConfig(
        camera=CameraIdentity(namespace="default", name="door", uid="1"),
        source=SourceSpec(test_pattern=TestPatternSpec(width=width)),
        lifecycle=AgentLifecycle(start=start, idle_timeout=30, start_timeout=10),
    )


def story(scenario: Callable[[World], Coroutine[Any, Any, None]], start: StartMode = StartMode.ON_DEMAND) -> None:
    async def tell() -> None:
        world = World(start)
        task = asyncio.create_task(world.hub.run())
        try:
            await scenario(world)
        finally:
            task.cancel()
            await asyncio.wait({task})
        assert world.camera.running == 0

    run(tell())


async def probed(world: World) -> None:
    """Until the probe is over."""
    await asyncio.sleep(1.0)
    assert (world.camera.runs, world.camera.running) == (1, 0)


def test_the_probe_tells_what_the_camera_sends_and_stops() -> None:
    async def scenario(world: World) -> None:
        await probed(world)
        report = world.hub.report()
        assert report.verified
        assert (report.reason, report.video_codec, report.width, report.height) == (SourceReason.IDLE, "H264", 640, 360)
        assert world.reasons() == [SourceReason.CONNECTING, SourceReason.STREAMING, SourceReason.IDLE]

    story(scenario)


def test_a_failing_probe_goes_on_until_it_succeeds() -> None:
    async def scenario(world: World) -> None:
        world.camera.error = SourceError(SourceReason.AUTHENTICATION_FAILED, "the camera refuses the password")
        await asyncio.sleep(1.0)
        report = world.hub.report()
        assert (report.reason, report.verified) == (SourceReason.AUTHENTICATION_FAILED, False)
        assert report.message == "the camera refuses the password"
        await asyncio.sleep(60.0)
        assert 3 <= world.camera.runs <= 6
        world.camera.error = None
        await asyncio.sleep(60.0)
        runs = world.camera.runs
        report = world.hub.report()
        assert (report.reason, report.verified) == (SourceReason.IDLE, True)
        assert report.last_error == "AuthenticationFailed: the camera refuses the password"
        await asyncio.sleep(3600.0)
        assert world.camera.runs == runs

    story(scenario)


def test_all_viewers_share_one_source() -> None:
    async def scenario(world: World) -> None:
        await probed(world)
        formats = await asyncio.gather(*(world.hub.attach() for _ in range(20)))
        assert set(formats) == {FORMAT}
        assert await world.hub.attach() == FORMAT
        assert (world.camera.runs, world.camera.running) == (2, 1)

    story(scenario)


def test_the_source_stops_30_seconds_after_the_last_viewer_and_not_before() -> None:
    async def scenario(world: World) -> None:
        await probed(world)
        await world.hub.attach()
        await world.hub.attach()
        world.hub.detach()
        await asyncio.sleep(100)
        world.hub.detach()
        await asyncio.sleep(29.9)
        assert world.camera.running == 1
        await asyncio.sleep(0.2)
        assert world.camera.running == 0
        assert world.hub.report().reason is SourceReason.IDLE

    story(scenario)


def test_a_return_after_20_seconds_finds_it_running() -> None:
    async def scenario(world: World) -> None:
        await probed(world)
        await world.hub.attach()
        world.hub.detach()
        await asyncio.sleep(20)
        await world.hub.attach()
        await asyncio.sleep(60)
        assert (world.camera.runs, world.camera.running) == (2, 1)

    story(scenario)


def test_always_runs_without_anybody() -> None:
    async def scenario(world: World) -> None:
        await asyncio.sleep(3600)
        assert (world.camera.runs, world.camera.running) == (1, 1)

    story(scenario, StartMode.ALWAYS)


def test_parked_viewers_hear_why_the_source_failed() -> None:
    async def scenario(world: World) -> None:
        await probed(world)
        world.camera.error = SourceError(SourceReason.UNREACHABLE, "nobody there")
        results = await asyncio.gather(*(world.hub.attach() for _ in range(3)), return_exceptions=True)
        assert [error.reason for error in results if isinstance(error, SourceError)] == [SourceReason.UNREACHABLE] * 3
        with pytest.raises(SourceError, match="nobody there"):  # at once, from memory
            await world.hub.attach()
        assert world.camera.runs == 2

    story(scenario)


def test_parked_viewers_are_answered_when_nothing_comes() -> None:
    async def scenario(world: World) -> None:
        await probed(world)
        world.camera.hang = True
        begun = asyncio.get_running_loop().time()
        with pytest.raises(SourceError, match="10 seconds"):
            await world.hub.attach()
        assert asyncio.get_running_loop().time() - begun == pytest.approx(10.0)
        await settle()
        assert world.camera.running == 0

    story(scenario)


def test_who_gives_up_is_not_counted() -> None:
    async def scenario(world: World) -> None:
        await probed(world)
        world.camera.delay = 5.0
        waiting = asyncio.create_task(world.hub.attach())
        await asyncio.sleep(1.0)
        assert world.camera.running == 1
        waiting.cancel()
        await asyncio.wait({waiting})
        await settle()
        assert world.camera.running == 0

    story(scenario)


def test_who_gives_up_at_the_very_moment_of_the_answer_is_not_counted() -> None:
    async def scenario(world: World) -> None:
        await probed(world)
        waiting = asyncio.create_task(world.hub.attach())

        def on_state(report: SourceReport) -> None:
            if report.reason is SourceReason.STREAMING:
                waiting.cancel()

        world.hub.subscribe(on_state)
        await asyncio.wait({waiting})
        assert waiting.cancelled()
        await asyncio.sleep(31)
        assert world.camera.running == 0

    story(scenario)


def test_watchers_stay_while_the_source_is_connected_to_again() -> None:
    async def scenario(world: World) -> None:
        await probed(world)
        await world.hub.attach()
        await asyncio.sleep(10)
        world.camera.break_now()
        await asyncio.sleep(0.05)
        report = world.hub.report()
        assert (report.reason, report.message) == (SourceReason.STALLED, "broken by the test")
        assert world.camera.runs == 3  # at once
        await asyncio.sleep(5)
        report = world.hub.report()
        assert (report.reason, report.reconnects) == (SourceReason.STREAMING, 1)
        stamps = [chunk.timestamp for chunk in world.fanout.chunks[1:]]  # the first is the probe's
        assert stamps == sorted(set(stamps))
        assert world.hub.report().fps == pytest.approx(FPS, abs=1)

    story(scenario)


def test_pictures_before_the_first_key_frame_of_a_run_go_nowhere() -> None:
    async def scenario(world: World) -> None:
        await probed(world)
        await world.hub.attach()
        await asyncio.sleep(1.05)
        before = len(world.fanout.chunks)
        world.camera.first = 17
        world.camera.break_now()
        await asyncio.sleep(1.0)
        assert world.fanout.chunks[before].key

    story(scenario)


@pytest.mark.parametrize(("watched", "least", "most"), [(True, 40, 120), (False, 8, 18)])
def test_reconnecting_is_slower_each_time_unless_somebody_watches(watched: bool, least: int, most: int) -> None:
    async def scenario(world: World) -> None:
        if watched:
            await world.hub.attach()
        await asyncio.sleep(10)
        world.camera.error = SourceError(SourceReason.UNREACHABLE, "away")
        runs = world.camera.runs
        world.camera.break_now()
        with structlog.testing.capture_logs() as lines:
            await asyncio.sleep(60)
        assert least <= world.camera.runs - runs <= most
        assert [line["message"] for line in lines if line["log_level"] == "warning"] == ["broken by the test", "away"]
        world.camera.error = None
        await asyncio.sleep(11)
        assert world.hub.report().reason is SourceReason.STREAMING

    story(scenario, StartMode.ALWAYS)


def test_another_source_is_swapped_in_under_the_viewers() -> None:
    async def scenario(world: World) -> None:
        await probed(world)
        await world.hub.attach()
        await asyncio.sleep(5)
        world.hub.reconfigure(config(width=640))
        assert not world.hub.report().verified
        await asyncio.sleep(5)
        assert [spec.test_pattern.width for spec in world.camera.specs if spec.test_pattern] == [1280, 1280, 640]
        assert world.camera.running == 1
        stamps = [chunk.timestamp for chunk in world.fanout.chunks[1:]]
        assert stamps == sorted(set(stamps))

    story(scenario)


def test_the_same_source_is_left_alone() -> None:
    async def scenario(world: World) -> None:
        await probed(world)
        await world.hub.attach()
        world.hub.reconfigure(config().model_copy(update={"revision": "2", "max_viewers": 3}))
        await asyncio.sleep(5)
        assert world.camera.runs == 2

    story(scenario)


def test_a_stream_that_ends_by_itself_is_idle_until_somebody_comes() -> None:
    async def scenario(world: World) -> None:
        await probed(world)
        world.camera.frames = 5
        await world.hub.attach()
        await asyncio.sleep(60)
        assert world.hub.report().reason is SourceReason.IDLE
        assert world.camera.runs == 2
        await world.hub.attach()
        assert world.camera.runs == 3

    story(scenario)


def test_a_bug_in_a_source_is_a_failure_with_no_details() -> None:
    async def scenario(world: World) -> None:
        await probed(world)

        def broken(spec: SourceSpec) -> Pictures:
            raise RuntimeError("password=secret")

        world.hub._make_source = broken
        with pytest.raises(SourceError) as caught:
            await world.hub.attach()
        assert caught.value.reason is SourceReason.PROTOCOL_ERROR
        assert "secret" not in world.hub.report().model_dump_json()

    story(scenario)


def test_key_frames_are_asked_for_but_not_too_often() -> None:
    async def scenario(world: World) -> None:
        await probed(world)
        await world.hub.attach()
        for _ in range(10):
            world.hub.want_key_frame()
        assert world.camera.keys_wanted == 1
        await asyncio.sleep(1)
        world.hub.want_key_frame()
        assert world.camera.keys_wanted == 2

    story(scenario)


def test_no_key_frame_is_asked_for_while_viewers_can_begin_without() -> None:
    async def scenario(world: World) -> None:
        await probed(world)
        await world.hub.attach()
        world.fanout.gop = 2.0
        world.hub.want_key_frame()
        assert world.camera.keys_wanted == 0
        world.fanout.gop = 4.0  # too long to be quick
        world.hub.want_key_frame()
        assert world.camera.keys_wanted == 1

    story(scenario)


def test_nobody_begins_with_pictures_from_before_the_source_was_stopped() -> None:
    async def scenario(world: World) -> None:
        await probed(world)
        await world.hub.attach()
        await asyncio.sleep(5)
        world.camera.break_now()
        await asyncio.sleep(5)
        assert len(world.fanout.cuts) == world.camera.runs == 3
        assert all(world.fanout.chunks[cut].key for cut in world.fanout.cuts)

    story(scenario)


def test_shutting_down_answers_who_waits() -> None:
    async def tell() -> None:
        world = World()
        world.camera.hang = True
        task = asyncio.create_task(world.hub.run())
        waiting = asyncio.create_task(world.hub.attach())
        await asyncio.sleep(1)
        task.cancel()
        await asyncio.wait({task, waiting})
        with pytest.raises(SourceError):
            waiting.result()
        assert world.camera.running == 0

    run(tell())


class Resized:
    """A camera that is set to another resolution while it streams."""

    async def run(self, sink: Sink) -> None:
        for number, width in enumerate((640, 1280)):
            sink.start(MediaFormat(VideoFormat("H264", "42c01e", width, 360)))
            sink.write(Chunk((b"x",), number * 9000, True, True))
            await asyncio.sleep(0.1)
        await asyncio.Event().wait()


def test_another_resolution_is_told_at_once() -> None:
    async def tell() -> None:
        seen: list[int] = []
        hub = Hub(config(start=StartMode.ALWAYS), lambda _spec: Resized(), Tracks(Recorder(), Soundtrack(Recorder)))
        hub.subscribe(lambda report: seen.append(report.width))
        task = asyncio.create_task(hub.run())
        await asyncio.sleep(1)
        task.cancel()
        await asyncio.wait({task})
        assert seen[-1] == 1280
        assert 640 in seen

    run(tell())


def test_who_changes_over_waits_for_the_next_key_frame() -> None:
    async def scenario(world: World) -> None:
        await world.hub.attach()
        await asyncio.sleep(1.05)
        world.fanout.gop = 1.0
        loop = asyncio.get_running_loop()
        began = loop.time()
        await world.hub.key_frame(3.0)
        assert world.fanout.chunks[-1].key
        assert 0.5 < loop.time() - began < 2.0
        assert world.camera.keys_wanted == 1
        world.fanout.gop = 0.1  # a group that has just begun will do
        began = loop.time()
        await world.hub.key_frame(3.0)
        assert loop.time() == began

    story(scenario)


def test_who_changes_over_begins_with_an_older_picture_in_the_end() -> None:
    async def scenario(world: World) -> None:
        world.camera.frames = 10
        await world.hub.attach()
        world.fanout.gop = 5.0
        began = asyncio.get_running_loop().time()
        await world.hub.key_frame(0.5)
        assert asyncio.get_running_loop().time() - began == pytest.approx(0.5)
        world.fanout.gop = None
        with pytest.raises(SourceError, match="no key frame"):
            await world.hub.key_frame(0.5)

    story(scenario)
