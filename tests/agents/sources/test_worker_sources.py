"""Sources that run in a thread: the test pattern and clips, made and read with FFmpeg's libraries."""

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import av
import pytest

from sightline_agent.media.frames import MAX_PAYLOAD, Chunk, MediaFormat
from sightline_agent.sources import glyphs
from sightline_agent.sources.base import Sink, SourceError
from sightline_agent.sources.factory import source_factory
from sightline_agent.sources.file import ClipFile
from sightline_agent.sources.test_pattern import Caption, TestPattern, clock_text
from sightline_agent.sources.worker import Emitter, run_in_thread
from sightline_agent.sources.x264 import bitrate
from sightline_model.camera import (
    FileSource,
    HlsSource,
    PushSource,
    RtmpSource,
    RtspSource,
    V4l2Source,
    WhepSource,
)
from sightline_model.camera import Source as SourceSpec
from sightline_model.camera import TestPatternSource as TestPatternSpec
from sightline_model.reasons import SourceReason
from tests.helpers.coded import B_FRAMES, H265
from tests.helpers.http_server import Reply, serve
from tests.helpers.recording import Recorder, Waited, clip, decode, failing, record, thread_ends

pytestmark = pytest.mark.stacks


async def test_the_test_pattern_can_be_decoded() -> None:
    recorder = Recorder(12)
    await record(TestPattern(TestPatternSpec(width=320, height=240, fps=60)), recorder)
    assert recorder.format is not None
    assert (recorder.format.width, recorder.format.height) == (320, 240)
    assert recorder.format.profile_level_id.startswith("42")
    chunks = recorder.chunks
    assert [chunk.key for chunk in chunks] == [True] + [False] * (len(chunks) - 1)
    assert all(chunk.last for chunk in chunks)
    assert all(len(payload) <= MAX_PAYLOAD for chunk in chunks for payload in chunk.payloads)
    assert {chunk.timestamp % 1500 for chunk in chunks} == {0}
    assert decode(chunks) == [(320, 240)] * len(chunks)


async def test_the_test_pattern_goes_on_after_half_a_day(monkeypatch: pytest.MonkeyPatch) -> None:
    """When timestamps of 32 bits begin anew, after 13 hours, 15 minutes and 22 seconds."""
    later, waited = 0.0, Waited(monkeypatch)
    source = TestPattern(TestPatternSpec(width=64, height=64, fps=60), clock=lambda: waited() + later)
    recorder = Recorder(60, enough_sounds=60)  # the thread is some twenty of each ahead

    def on_chunk(number: int) -> None:
        nonlocal later
        later = 50_000.0 if number >= 5 else 0.0

    recorder.on_chunk = on_chunk
    await record(source, recorder)
    assert all(0 <= stamp < 1 << 32 for stamp in recorder.stamps)
    assert any(stamp // 90_000 == 50_000 * 90_000 % (1 << 32) // 90_000 for stamp in recorder.stamps)


@pytest.mark.parametrize("method", ["start", "write"])
async def test_a_sink_that_fails_ends_the_source(monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    def fail(sink: Recorder, what: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(Recorder, method, fail)
    with pytest.raises(ZeroDivisionError):
        await asyncio.wait_for(TestPattern(TestPatternSpec(width=64, height=64)).run(Recorder(1)), 30)
    await thread_ends("test-pattern")


async def test_a_key_frame_is_made_on_request() -> None:
    source = TestPattern(TestPatternSpec(width=64, height=64, fps=60))
    recorder = Recorder(40)

    def on_chunk(number: int) -> None:
        if number == 5:
            source.want_key_frame()

    recorder.on_chunk = on_chunk
    await record(source, recorder)
    assert [chunk.key for chunk in recorder.chunks].count(True) == 2


def rows_at(plane: Any, top: int, count: int, width: int) -> list[bytes]:
    pixels = bytes(plane)
    return [pixels[row * plane.line_size :][:width] for row in range(top, top + count)]


def test_the_time_and_the_number_are_burnt_in() -> None:
    text = clock_text(42, datetime(2030, 1, 2, 13, 4, 5, 67_000, tzinfo=UTC))
    assert text == "13:04:05.067 #000042"
    frame = av.VideoFrame(640, 360, "yuv420p")
    Caption(TestPatternSpec(width=640, height=360, text="hello")).draw(frame, text)
    drawn = glyphs.luma(text, 2, 640)
    top = next(top for top in range(300) if rows_at(frame.planes[0], top, len(drawn), len(drawn[0])) == drawn)
    assert rows_at(frame.planes[1], top // 2, len(drawn) // 2, 80) == [b"\x80" * 80] * (len(drawn) // 2)
    below = glyphs.luma("hello", 8, 640)
    assert rows_at(frame.planes[0], top + len(drawn), len(below), len(below[0])) == below
    Caption(TestPatternSpec(width=64, height=64)).draw(
        av.VideoFrame(64, 64, "yuv420p"), text
    )  # fits nowhere, harms nobody


async def test_frames_show_when_they_leave() -> None:
    """The clock of the machine, in steps of a frame."""
    shown: list[str] = []
    began = datetime(2030, 1, 2, 13, 0, 0, tzinfo=UTC)
    source = TestPattern(TestPatternSpec(width=64, height=64, fps=50), wall=lambda: began)
    draw = Caption.draw

    def remember(caption: Caption, frame: Any, text: str) -> None:
        shown.append(text)
        draw(caption, frame, text)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Caption, "draw", remember)
        await record(source, Recorder(5))
    assert shown[0] == "13:00:00.000 #000000"
    number = int(shown[4].partition("#")[2])
    assert shown[4] == clock_text(number, began + timedelta(milliseconds=20 * number))


async def test_threads_end_when_they_are_cancelled(tmp_path: Path) -> None:
    await record(TestPattern(TestPatternSpec(width=64, height=64)), Recorder(1))
    await thread_ends("test-pattern")
    await record(ClipFile(FileSource(path=str(clip(tmp_path / "clip.mp4")))), Recorder(1))
    await thread_ends("clip")


async def test_the_thread_of_a_clip_that_hangs_ends_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """FFmpeg cannot be told to stop, but it has its own limits."""
    monkeypatch.setattr("sightline_agent.sources.file._OPEN_SECONDS", 2.0)
    async with serve(lambda asked: Reply(hangs=True)) as server:
        running = asyncio.create_task(ClipFile(FileSource(url=server.url("/clip.mp4"))).run(Recorder(1)))
        await server.came.wait()
        running.cancel()
        await asyncio.wait({running})
        assert running.cancelled()
        await thread_ends("clip")


def test_the_bitrate_follows_the_size() -> None:
    assert 1_400_000 < bitrate(TestPatternSpec()) < 1_600_000
    assert bitrate(TestPatternSpec(width=64, height=64, fps=1)) == 200_000
    assert bitrate(TestPatternSpec(width=3840, height=2160, fps=60)) == 8_000_000


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv", "clip.flv", "clip.ts", "clip.h264"])
async def test_a_clip_is_played_over_and_over(tmp_path: Path, name: str) -> None:
    path = clip(tmp_path / name)
    recorder = Recorder(30)
    await record(ClipFile(FileSource(path=str(path))), recorder)
    chunks = recorder.chunks
    assert recorder.format is not None
    assert (recorder.format.width, recorder.format.height) == (64, 48)
    assert chunks[0].key
    assert sum(chunk.key for chunk in chunks) >= 4
    # The seam of a loop is a frame's time like any other (some containers count milliseconds).
    assert max(recorder.steps) - min(recorder.steps) <= 90
    assert min(recorder.steps) >= 1440
    assert decode(chunks) == [(64, 48)] * len(chunks)


async def test_a_clip_is_played_once(tmp_path: Path) -> None:
    path = clip(tmp_path / "clip.mp4")
    recorder = Recorder(100)
    await record(ClipFile(FileSource(path=str(path), loop=False)), recorder)
    assert len(recorder.chunks) == 12


@pytest.mark.parametrize(("kind", "codec", "b_frames"), [(B_FRAMES, "H264", True), (H265, "H265", False)])
async def test_clips_that_few_browsers_play(
    tmp_path: Path, kind: tuple[str, dict[str, str]], codec: str, b_frames: bool
) -> None:
    path = clip(tmp_path / "clip.mp4", *kind, frames=30)
    recorder = Recorder(100)
    await record(ClipFile(FileSource(path=str(path), loop=False)), recorder)
    assert recorder.format is not None
    assert (recorder.format.codec, recorder.format.b_frames) == (codec, b_frames)
    assert len(set(recorder.stamps)) == len(recorder.chunks) == 30
    assert (recorder.stamps != sorted(recorder.stamps)) is b_frames


async def test_clips_that_cannot_be_played(tmp_path: Path) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no clip" * 100)
    other = clip(tmp_path / "other.mp4", codec="mpeg4", options={})
    error = await failing(ClipFile(FileSource(path=str(other))))
    assert (error.reason, "MPEG4" in str(error)) == (SourceReason.CODEC_UNSUPPORTED, True)
    error = await failing(ClipFile(FileSource(path=str(tmp_path / "none.mp4"))))
    assert error.reason is SourceReason.NOT_FOUND
    error = await failing(ClipFile(FileSource(path=str(broken))))
    assert error.reason is SourceReason.PROTOCOL_ERROR


async def test_a_url_that_nobody_serves() -> None:
    error = await failing(ClipFile(FileSource(url="http://127.0.0.1:1/clip.mp4?key=secret")))
    assert error.reason is SourceReason.UNREACHABLE
    assert "secret" not in str(error)


async def test_a_thread_that_is_faster_than_the_loop_waits() -> None:
    written: list[int] = []

    class Slow:
        def start(self, format_: MediaFormat) -> None: ...

        def write(self, chunk: Chunk) -> None:
            written.append(chunk.timestamp)

        def write_audio(self, chunk: Chunk, picture: int | None = None) -> None: ...

    def work(emitter: Emitter) -> None:
        for number in range(1000):
            emitter.write(Chunk((b"x",), number, True, False))

    sink: Sink = Slow()
    await run_in_thread("test", work, sink)
    assert written == list(range(1000))


async def test_what_a_thread_raises_is_raised() -> None:
    def work(emitter: Emitter) -> None:
        raise SourceError(SourceReason.NOT_FOUND, "gone")

    with pytest.raises(SourceError, match="gone"):
        await run_in_thread("test", work, Recorder(1))


def test_the_factory_knows_the_kinds() -> None:
    make = source_factory(lambda _: None)
    assert isinstance(make(SourceSpec(test_pattern=TestPatternSpec())), TestPattern)
    assert isinstance(make(SourceSpec(file=FileSource(path="/x"))), ClipFile)
    assert type(make(SourceSpec(rtsp=RtspSource(url="rtsp://camera/x")))).__name__ == "RtspSource"
    assert type(make(SourceSpec(hls=HlsSource(url="https://x.example/y")))).__name__ == "HlsSource"
    assert type(make(SourceSpec(rtmp=RtmpSource(url="rtmp://x.example/live/y")))).__name__ == "RtmpSource"
    assert type(make(SourceSpec(whep=WhepSource(url="https://x.example/whep")))).__name__ == "WhepSource"
    assert type(make(SourceSpec(v4l2=V4l2Source(device="/dev/video0")))).__name__ == "V4l2Source"
    with pytest.raises(SourceError, match="push"):
        make(SourceSpec(push=PushSource()))
