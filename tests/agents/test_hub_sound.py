"""The hub and the sound of its source, on virtual time."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import cast

from sightline_agent.hub import Hub, Tracks
from sightline_agent.media.frames import AudioFormat, Chunk, MediaFormat, VideoFormat
from sightline_agent.media.sound import OPUS
from sightline_agent.soundtrack import Soundtrack
from sightline_agent.sources.base import Sink
from sightline_agent.transport.fanout import FanOut
from sightline_model.agent import AgentConfig, AgentLifecycle, CameraIdentity
from sightline_model.camera import AudioMode, StartMode
from sightline_model.camera import Source as SourceSpec
from sightline_model.camera import TestPatternSource as TestPatternSpec
from sightline_model.reasons import SourceReason
from tests.helpers.virtual_time import run

FORMAT = MediaFormat(VideoFormat("H264", "42c01e", 640, 360))
CONFIG = AgentConfig(
    camera=CameraIdentity(namespace="default", name="door", uid="1"),
    source=SourceSpec(test_pattern=TestPatternSpec()),
    lifecycle=AgentLifecycle(start=StartMode.ALWAYS),
)


class Recorder:
    """As much of a fan-out as a hub without viewers needs."""

    def __init__(self) -> None:
        self.chunks: list[Chunk] = []
        self.cuts: list[int] = []

    def send(self, chunk: Chunk) -> None:
        self.chunks.append(chunk)

    def cut(self) -> None:
        self.cuts.append(len(self.chunks))


class Sounding:
    """A camera with sound, which comes before its pictures; its codec and its clocks are the test's."""

    def __init__(self, audio: AudioFormat | None, problem: str = "") -> None:
        self._format = replace(FORMAT, audio=audio, audio_problem=problem)

    async def run(self, sink: Sink) -> None:
        sink.start(self._format)
        for number in range(1000):
            sink.write_audio(Chunk((b"early",), number * 4800, False, True))
            sink.write(Chunk((b"x",), 900_000 + number * 9000, True, number % 10 == 0))
            sink.write_audio(Chunk((b"beside",), number * 4800, False, True), 900_000 + number * 9000)
            await asyncio.sleep(0.1)


@contextlib.asynccontextmanager
async def hearing(audio: AudioFormat | None, problem: str = "") -> AsyncIterator[tuple[Hub, list[Recorder]]]:
    made: list[Recorder] = []

    def make() -> FanOut:
        made.append(Recorder())
        return cast("FanOut", made[-1])

    tracks = Tracks(cast("FanOut", Recorder()), Soundtrack(make))
    hub = Hub(CONFIG, lambda _spec: Sounding(audio, problem), tracks)
    task = asyncio.create_task(hub.run())
    try:
        yield hub, made
    finally:
        task.cancel()
        await asyncio.wait({task})


def test_sound_begins_with_the_pictures_and_is_reported() -> None:
    async def tell() -> None:
        async with hearing(OPUS) as (hub, made):
            await asyncio.sleep(1.05)
            assert hub.report().audio_codec == "OPUS"
            (sound,) = made
            assert [chunk.payloads[0] for chunk in sound.chunks[:3]] == [b"beside", b"early", b"beside"]
            assert hub.tracks.sound.correction(asyncio.get_running_loop().time()) == 0

    run(tell())


def test_sound_that_is_not_carried_is_told_and_costs_nothing_else() -> None:
    async def tell() -> None:
        async with hearing(None, "it is GSM") as (hub, made):
            await asyncio.sleep(1.05)
            report = hub.report()
            assert (report.reason, report.message) == (SourceReason.STREAMING, "no sound: it is GSM")
            assert (report.audio_codec, made) == ("", [])

    run(tell())


def test_a_camera_that_is_set_to_no_sound_begins_anew_without() -> None:
    async def tell() -> None:
        async with hearing(OPUS) as (hub, made):
            await asyncio.sleep(1.05)
            heard = len(made[0].chunks)
            hub.reconfigure(CONFIG.model_copy(update={"audio": AudioMode.NONE}))
            await asyncio.sleep(1.05)
            assert hub.report().reason is SourceReason.STREAMING
            assert hub.report().audio_codec == ""
            assert len(made[0].chunks) == heard
            assert made[0].cuts == [heard]

    run(tell())
