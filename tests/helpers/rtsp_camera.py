"""Starts `gst_camera.py`, the RTSP camera that we did not write, and counts who is connected to it."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

PROGRAM = Path(__file__).with_name("gst_camera.py")
PYTHON = "/usr/bin/python3"


@dataclass
class RtspCamera:
    """A running camera, and what it has told so far."""

    host: str
    port: int
    scheme: str = "rtsp"
    pid: int = 0
    opened: int = 0
    """Connections since the start."""
    connected: int = 0
    """Connections now."""
    last_closed: float = 0.0
    """time.monotonic() when the last connection closed."""
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def url(self) -> str:
        """Where the stream is, without credentials."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}/cam"

    def take(self, event: str) -> None:
        """Count one event."""
        if event == "connected":
            self.opened += 1
            self.connected += 1
        elif event == "closed":
            self.connected -= 1
            self.last_closed = time.monotonic()
        self._changed.set()

    async def wait_connected(self, number: int, seconds: float = 60.0) -> None:
        """Wait until that many connections are open."""
        async with asyncio.timeout(seconds):
            while self.connected != number:
                self._changed.clear()
                await self._changed.wait()


@asynccontextmanager
async def rtsp_camera(host: str, *options: str) -> AsyncIterator[RtspCamera]:
    """Run a camera on a free port of `host`; options are those of `gst_camera.py`."""
    process = await asyncio.create_subprocess_exec(
        PYTHON, str(PROGRAM), "--host", host, *options, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        first = json.loads(await asyncio.wait_for(process.stdout.readline(), 60))
        camera = RtspCamera(host, first["port"], "rtsps" if "--certificate" in options else "rtsp", process.pid)
        reader = asyncio.create_task(_read(process.stdout, camera))
        try:
            yield camera
        finally:
            reader.cancel()
    finally:
        process.kill()
        await process.wait()


async def _read(output: asyncio.StreamReader, camera: RtspCamera) -> None:
    async for line in output:
        camera.take(json.loads(line)["event"])
