"""One server, one camera, one process of viewers: started together, asked in turn, ended together."""

import asyncio
import json
import re
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from hack.cluster.paths import ROOT, build_dir
from tests.bench import measures, receiver
from tests.bench.servers import SERVER_CORE, VIEWER_CORE, BenchError, Server, await_port, free_ports, pinned, process

Result = dict[str, Any]

_ANSWER_SECONDS = 60.0
_VIEWER_SECONDS = 0.1
_REST_SECONDS = 1.0
_SETTLE_SECONDS = 2.2
"""More than a GOP: by then everybody has a picture."""


class Run:
    """A server that is being measured."""

    def __init__(self, viewers: asyncio.subprocess.Process, server: int) -> None:
        self._viewers = viewers
        self._server = server
        self.idle_mb = measures.memory_mb(measures.family(server))

    async def ask(self, do: str, **arguments: float) -> Result:
        """Have the viewers do something."""
        assert self._viewers.stdin is not None
        assert self._viewers.stdout is not None
        self._viewers.stdin.write(json.dumps({"do": do, **arguments}).encode() + b"\n")
        seconds = _ANSWER_SECONDS + _VIEWER_SECONDS * max(arguments.values())
        try:
            line = await asyncio.wait_for(self._viewers.stdout.readline(), seconds)
        except TimeoutError:
            raise BenchError(f"no answer to {do} within {seconds:.0f} s") from None
        if not line:
            raise BenchError("the viewers ended")
        result: Result = json.loads(line)
        if "error" in result:
            raise BenchError(result["error"])
        return result

    async def steps(self, counts: Sequence[int], seconds: float) -> AsyncIterator[Result]:
        """Join and measure, with more and more viewers."""
        before = 0.0
        for count in counts:
            joined = await self.ask("join", to=count)
            await asyncio.sleep(_SETTLE_SECONDS)
            result = await self.ask("measure", seconds=seconds)
            rate = result["cpu"] / result["seconds"]
            # What the stream itself cost meanwhile is taken off: on average, that of before and after.
            streaming = joined["seconds"] * (before + rate) / 2
            joined["ms_per_join"] = (joined["cpu"] - streaming) / max(1, joined["joined"]) * 1e3
            before = rate
            yield {**result, "wanted": count, "join": joined}


@asynccontextmanager
async def running(server: Server, clip: Path) -> AsyncIterator[Run]:
    """The server with its camera on the two cores."""
    library = receiver.build(receiver.SOURCE, build_dir() / "bench" / "receiver.so")
    logs = build_dir() / "bench" / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="sightline-bench-") as name:
        folder, ports = Path(name), free_ports()
        launch = server.prepare(folder, ports)
        where = ["--udp", str(ports.push)] if launch.pushed else ["--rtsp", str(ports.rtsp)]
        log = folder / "frames"
        module = [sys.executable, "-m", "tests.bench.camera"]
        with process(VIEWER_CORE, [*module, "--clip", clip, "--log", log, *where], folder / "camera.log") as camera:
            if launch.pushed:
                await _await_text(folder / "camera.log", "ready")
            else:
                await asyncio.to_thread(await_port, camera, ports.rtsp, folder / "camera.log")
            server_log = logs / f"{server.name}.log"
            with process(SERVER_CORE, launch.command, server_log, launch.environment) as child:
                await asyncio.to_thread(await_port, child, ports.http, server_log)
                await asyncio.sleep(_REST_SECONDS)
                if not re.search(launch.says, server_log.read_text()):
                    raise BenchError(f"{server.title} does not say {launch.says} (for native: hack/build-fanout.sh)")
                options = ["--server", str(child.pid), "--core", str(SERVER_CORE), "--log", str(log)]
                options += ["--library", str(library), "--whep", launch.whep, "--janus", launch.janus]
                async with _viewers(options) as viewers:
                    try:
                        yield Run(viewers, child.pid)
                    except BenchError as error:
                        end = server_log.read_text(errors="replace")[-1500:]
                        raise BenchError(f"{server.title}: {error}; its log ends:\n{end}") from error


@asynccontextmanager
async def _viewers(options: Sequence[str]) -> AsyncIterator[asyncio.subprocess.Process]:
    command = pinned(VIEWER_CORE, [sys.executable, "-m", "tests.bench.viewers", *options])
    child = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, cwd=ROOT, limit=1 << 24
    )
    try:
        yield child
    finally:
        if child.returncode is None:
            child.kill()
        await child.wait()


async def _await_text(path: Path, text: str) -> None:
    async with asyncio.timeout(20):
        while text not in path.read_text():
            await asyncio.sleep(0.05)
