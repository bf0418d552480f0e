"""Sources that run in a thread: the test pattern and clips, made and read with FFmpeg's libraries."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest

from sightline_agent.media.frames import MAX_PAYLOAD, Chunk, VideoFormat
from sightline_agent.media.h264 import reassemble
from sightline_agent.sources.base import Sink, Source, SourceError
from sightline_agent.sources.factory import source_factory
from sightline_agent.sources.file import ClipFile
from sightline_agent.sources.test_pattern import TestPattern, bitrate
from sightline_agent.sources.worker import Emitter, run_in_thread
from sightline_model.camera import FileSource, HlsSource, RtspSource
from sightline_model.camera import Source as SourceSpec
from sightline_model.camera import TestPatternSource as TestPatternSpec
from sightline_model.reasons import SourceReason


@dataclass
class Recorder:
    enough: int
    format: VideoFormat | None = None
    chunks: list[Chunk] = field(default_factory=list)
    on_chunk: Callable[[int], None] = lambda number: None
    full: asyncio.Event = field(default_factory=asyncio.Event)

    def start(self, format_: VideoFormat) -> None:
        assert self.format is None
        self.format = format_

    def write(self, chunk: Chunk) -> None:
        assert self.format is not None
        self.chunks.append(chunk)
        self.on_chunk(len(self.chunks))
        if len(self.chunks) == self.enough:
            self.full.set()


async def record(source: Source, recorder: Recorder) -> None:
    running = asyncio.create_task(source.run(recorder))
    full = asyncio.create_task(recorder.full.wait())
    await asyncio.wait({running, full}, return_when=asyncio.FIRST_COMPLETED)
    full.cancel()
    if running.done():
        running.result()
        return
    running.cancel()
    await asyncio.wait({running})


def decode(chunks: list[Chunk]) -> list[tuple[int, int]]:
    """Sizes of the pictures that a decoder makes of it."""
    decoder = av.CodecContext.create("h264", "r")
    sizes = []
    for chunk in chunks:
        data = b"".join(b"\0\0\0\1" + nal for nal in reassemble(chunk.payloads))
        sizes += [(frame.width, frame.height) for frame in decoder.decode(av.Packet(data))]
    return sizes + [(frame.width, frame.height) for frame in decoder.decode(None)]


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


async def test_a_key_frame_is_made_on_request() -> None:
    source = TestPattern(TestPatternSpec(width=64, height=64, fps=60))
    recorder = Recorder(40)

    def on_chunk(number: int) -> None:
        if number == 5:
            source.want_key_frame()

    recorder.on_chunk = on_chunk
    await record(source, recorder)
    assert [chunk.key for chunk in recorder.chunks].count(True) == 2


def test_the_bitrate_follows_the_size() -> None:
    assert 1_400_000 < bitrate(TestPatternSpec()) < 1_600_000
    assert bitrate(TestPatternSpec(width=64, height=64, fps=1)) == 200_000
    assert bitrate(TestPatternSpec(width=3840, height=2160, fps=60)) == 8_000_000


def clip(path: Path, codec: str = "libx264", options: dict[str, str] | None = None, frames: int = 12) -> Path:
    """A small clip in the container that the name asks for."""
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=60)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.gop_size = 6
        stream.options = options if options is not None else {"bf": "0", "preset": "ultrafast"}
        for number in range(frames):
            frame = av.VideoFrame(64, 48, "yuv420p")
            for plane in frame.planes:
                plane.update(bytes([number * 10 % 256]) * plane.buffer_size)
            frame.pts, frame.time_base = number, Fraction(1, 60)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


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
    stamps = [chunk.timestamp for chunk in chunks]
    assert stamps == sorted(set(stamps))
    assert decode(chunks) == [(64, 48)] * len(chunks)


async def test_a_clip_is_played_once(tmp_path: Path) -> None:
    path = clip(tmp_path / "clip.mp4")
    recorder = Recorder(100)
    await record(ClipFile(FileSource(path=str(path), loop=False)), recorder)
    assert len(recorder.chunks) == 12


async def failing(source: Source) -> SourceError:
    with pytest.raises(SourceError) as caught:
        await record(source, Recorder(100))
    return caught.value


async def test_clips_that_cannot_be_played(tmp_path: Path) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no clip" * 100)
    other = clip(tmp_path / "other.mp4", codec="mpeg4", options={})
    two_way = clip(tmp_path / "b.mp4", options={"bf": "2", "b-adapt": "0"})
    error = await failing(ClipFile(FileSource(path=str(other))))
    assert (error.reason, "MPEG4" in str(error)) == (SourceReason.CODEC_UNSUPPORTED, True)
    error = await failing(ClipFile(FileSource(path=str(two_way))))
    assert (error.reason, "B-frames" in str(error)) == (SourceReason.CODEC_UNSUPPORTED, True)
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
        def start(self, format_: VideoFormat) -> None: ...

        def write(self, chunk: Chunk) -> None:
            written.append(chunk.timestamp)

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
    make = source_factory(lambda: None)
    assert isinstance(make(SourceSpec(test_pattern=TestPatternSpec())), TestPattern)
    assert isinstance(make(SourceSpec(file=FileSource(path="/x"))), ClipFile)
    assert type(make(SourceSpec(rtsp=RtspSource(url="rtsp://camera/x")))).__name__ == "RtspSource"
    with pytest.raises(SourceError, match="hls"):
        make(SourceSpec(hls=HlsSource(url="https://x.example/y")))
