"""Watches an RTSP camera through the agent's source, without hub and viewers."""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

from sightline_agent.media.frames import Chunk, MediaFormat, VideoFormat
from sightline_agent.sources.credentials import Credentials
from sightline_agent.sources.rtsp.source import RtspSource
from sightline_model.camera import RtspSource as RtspSpec
from sightline_model.camera import RtspTransport
from tests.helpers import virtual_time
from tests.helpers.rtsp_server import Habits, RtspServer, serve


@dataclass
class Recorder:
    """A sink that says when it has enough chunks."""

    enough: int = 10
    formats: list[VideoFormat] = field(default_factory=list)
    chunks: list[Chunk] = field(default_factory=list)
    sounds: list[Chunk] = field(default_factory=list)
    full: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def format(self) -> VideoFormat | None:
        """The newest one."""
        return self.formats[-1] if self.formats else None

    def start(self, format_: MediaFormat) -> None:
        self.formats.append(format_.video)

    def write(self, chunk: Chunk) -> None:
        self.chunks.append(chunk)
        if len(self.chunks) >= self.enough:
            self.full.set()

    def write_audio(self, chunk: Chunk, picture: int | None = None) -> None:
        self.sounds.append(chunk)


async def record(spec: RtspSpec, credentials: Credentials | None = None, enough: int = 10) -> Recorder:
    """Run until there are enough chunks; SourceError when it fails before."""
    recorder = Recorder(enough)
    await record_with(recorder, spec, credentials)
    return recorder


async def record_with(recorder: Recorder, spec: RtspSpec, credentials: Credentials | None = None) -> None:
    """The same with a recorder of one's own."""
    running = asyncio.create_task(RtspSource(spec, credentials).run(recorder))
    full = asyncio.create_task(recorder.full.wait())
    await asyncio.wait({running, full}, return_when=asyncio.FIRST_COMPLETED)
    full.cancel()
    if running.done():
        running.result()
    running.cancel()
    await asyncio.wait({running})


async def watch(
    camera: RtspServer,
    credentials: Credentials | None = None,
    enough: int = 10,
    transport: RtspTransport = RtspTransport.AUTO,
) -> Recorder:
    """`record` of a camera in the test's own loop."""
    return await record(RtspSpec(url=camera.url, transport=transport), credentials, enough)


def on_camera(
    habits: Habits, scenario: Callable[[RtspServer], Coroutine[Any, Any, None]], host: str = "127.0.0.1"
) -> None:
    """Run a scenario with a camera, on virtual time."""

    async def run() -> None:
        async with serve(habits, host) as camera:
            await scenario(camera)
            await virtual_time.settle()

    virtual_time.run(run())
