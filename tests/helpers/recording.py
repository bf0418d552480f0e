"""A sink that keeps what a source delivers, clips to deliver, and what a decoder says of it."""

import asyncio
import itertools
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest

from sightline_agent.media.frames import AudioFormat, Chunk, MediaFormat, VideoFormat
from sightline_agent.media.h264 import reassemble
from sightline_agent.sources.base import Source, SourceError
from sightline_agent.sources.worker import Emitter

WIDTH, HEIGHT, FPS = 64, 48, 60


@dataclass
class Recorder:
    enough: int
    format: VideoFormat | None = None
    chunks: list[Chunk] = field(default_factory=list)
    sounds: list[Chunk] = field(default_factory=list)
    audio: AudioFormat | None = None
    audio_problem: str = ""
    relations: list[int | None] = field(default_factory=list)
    """For each chunk of sound, the picture of the same moment."""
    enough_sounds: int = 0
    on_chunk: Callable[[int], None] = lambda number: None
    full: asyncio.Event = field(default_factory=asyncio.Event)

    def start(self, format_: MediaFormat) -> None:
        assert self.format in (None, format_.video)
        self.format = format_.video
        self.audio, self.audio_problem = format_.audio, format_.audio_problem

    def write(self, chunk: Chunk) -> None:
        assert self.format is not None
        self.chunks.append(chunk)
        self.on_chunk(len(self.chunks))
        self._look()

    def write_audio(self, chunk: Chunk, picture: int | None = None) -> None:
        self.sounds.append(chunk)
        self.relations.append(picture)
        self._look()

    def _look(self) -> None:
        if len(self.chunks) >= self.enough and len(self.sounds) >= self.enough_sounds:
            self.full.set()

    @property
    def stamps(self) -> list[int]:
        return list(dict.fromkeys(chunk.timestamp for chunk in self.chunks))

    @property
    def steps(self) -> set[int]:
        return {(after - before) % (1 << 32) for before, after in itertools.pairwise(self.stamps)}


async def record(source: Source, recorder: Recorder) -> None:
    """Run the source until the recorder has enough, or the source is over."""
    running = asyncio.create_task(source.run(recorder))
    full = asyncio.create_task(recorder.full.wait())
    await asyncio.wait({running, full}, return_when=asyncio.FIRST_COMPLETED)
    full.cancel()
    if running.done():
        running.result()
        return
    running.cancel()
    await asyncio.wait({running})
    if not running.cancelled():
        running.result()


async def failing(source: Source) -> SourceError:
    """Why the source fails."""
    return await failing_with(source, Recorder(10_000))


async def failing_with(source: Source, recorder: Recorder) -> SourceError:
    """The same, looking at what it delivers before."""
    with pytest.raises(SourceError) as caught:
        await record(source, recorder)
    return caught.value


def decode(chunks: list[Chunk]) -> list[tuple[int, int]]:
    """Sizes of the pictures that a decoder makes of it: from the first key frame, where the hub begins, to the last
    frame that is whole."""
    begin = next(index for index, chunk in enumerate(chunks) if chunk.key)
    end = max(index for index, chunk in enumerate(chunks) if chunk.last)
    chunks = chunks[begin : end + 1]
    decoder = av.CodecContext.create("h264", "r")
    nals = reassemble(payload for chunk in chunks for payload in chunk.payloads)
    packet = av.Packet(b"".join(b"\0\0\0\1" + nal for nal in nals))
    parsed = [*decoder.parse(bytes(packet)), *decoder.parse(None)]
    frames = [frame for one in [*parsed, None] for frame in decoder.decode(one)]
    return [(frame.width, frame.height) for frame in frames]


class Waited:
    """A clock that runs while a source's thread waits, and in no time: nothing is ever late, on whatever machine."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        wait = Emitter.wait

        def pass_(emitter: Emitter, seconds: float) -> None:
            self.now += max(seconds, 0.0)
            wait(emitter, 0.0)

        monkeypatch.setattr(Emitter, "wait", pass_)

    def __call__(self) -> float:
        return self.now


def pictures(frames: int) -> list[av.VideoFrame]:
    """Frames of changing grey."""
    made = []
    for number in range(frames):
        frame = av.VideoFrame(WIDTH, HEIGHT, "yuv420p")
        for plane in frame.planes:
            plane.update(bytes([number * 10 % 256]) * plane.buffer_size)
        frame.pts, frame.time_base = number, Fraction(1, FPS)
        made.append(frame)
    return made


def add_video(container: Any, codec: str = "libx264", options: dict[str, str] | None = None) -> Any:
    """A stream of such frames in a container that is written."""
    stream = container.add_stream(codec, rate=FPS)
    stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
    stream.gop_size = 6
    stream.options = options if options is not None else {"bf": "0", "preset": "ultrafast", "sc_threshold": "0"}
    return stream


def clip(path: Path, codec: str = "libx264", options: dict[str, str] | None = None, frames: int = 12) -> Path:
    """A small clip in the container that the name asks for."""
    with av.open(str(path), "w") as container:
        stream = add_video(container, codec, options)
        for frame in pictures(frames):
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


async def thread_ends(name: str) -> None:
    """Wait for every thread of that name; the test's own time limit is the limit."""
    for thread in threading.enumerate():
        if thread.name == name:
            await asyncio.to_thread(thread.join)
