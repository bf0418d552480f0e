"""The operator's process on a test API server, as its image runs it, and one that is killed and started again.

`start_operator` gives a process that is ready; on standby counts as ready, so who needs the leader waits for it.
"""

import asyncio
import os
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import aiohttp

from sightline_model.tokens import generate_private_key_pem
from tests.helpers.apiserver import Apiserver
from tests.helpers.fault_proxy import Call, FaultProxy
from tests.helpers.ports import free_port

PROGRAM = "sightline-operator"
"""What its User-Agent begins with."""
START_SECONDS = 120.0
SWEPT = "cameras"
"""A kind that every sweep lists, and nothing else of this User-Agent: each LIST of it stands for one sweep."""


async def until(condition: Callable[[], Awaitable[bool]], seconds: float = 90.0) -> None:
    """Wait until the condition holds; TimeoutError if it does not in that time, which a busy machine may need."""
    async with asyncio.timeout(seconds):
        while not await condition():
            await asyncio.sleep(0.02)


async def start_operator(apiserver: Apiserver, directory: Path, **more: str) -> tuple[Process, int]:
    """`python -m sightline_operator`, ready, and the port of its pages; further variables of its environment."""
    process, port = await _spawn(apiserver.kubeconfig, directory, more)
    try:
        await _ready(process, port)
    except BaseException:
        await end(process)
        raise
    return process, port


async def end(process: Process) -> None:
    """SIGKILL, unless it has ended by itself."""
    if process.returncode is None:
        process.kill()
    await process.wait()


async def page(port: int, path: str) -> tuple[int, str]:
    """One of its pages."""
    async with aiohttp.ClientSession() as http, http.get(f"http://127.0.0.1:{port}{path}") as response:
        return response.status, await response.text()


async def _spawn(kubeconfig: Path, directory: Path, more: dict[str, str]) -> tuple[Process, int]:
    key = directory / "signing.pem"
    if not key.exists():
        key.write_bytes(generate_private_key_pem())
    port = free_port()
    environment = {
        **os.environ,
        "KUBECONFIG": str(kubeconfig),
        "SIGHTLINE_AGENT_IMAGE": "sightline-agent:test",
        "SIGHTLINE_SIGNING_KEY_FILE": str(key),
        "SIGHTLINE_HOST": "127.0.0.1",
        "SIGHTLINE_PORT": str(port),
        **more,
    }
    command = (sys.executable, "-m", "sightline_operator")
    return await asyncio.create_subprocess_exec(*command, env=environment, cwd=directory), port


async def _ready(process: Process, port: int) -> None:
    async def is_ready() -> bool:
        assert process.returncode is None, "the operator has ended"
        try:
            return (await page(port, "/readyz"))[0] == 200
        except aiohttp.ClientError:
            return False

    await until(is_ready, START_SECONDS)


class Mortal:
    """The operator's process behind a proxy. It may be killed at a call, and others take its place."""

    def __init__(self, proxy: FaultProxy, directory: Path) -> None:
        self._kubeconfig = proxy.kubeconfig
        self._directory = directory
        self._process: Process | None = None
        self._left = 0
        self.calls: list[Call] = []
        """Those of passes since `kill_at`: not the lists and watches."""
        self.sweeps = 0
        self.writes = 0
        self.deaths = 0
        proxy.after = self._answered

    async def start(self) -> None:
        """The first process, ready."""
        await _ready(*await self._begin())

    def kill_at(self, call: int) -> None:
        """The next death is at this call, counted from now on."""
        self._left = call
        self.calls = []

    @asynccontextmanager
    async def followed(self) -> AsyncIterator[None]:
        """While the context lasts each dead one is followed by another, as the kubelet would have it; then none."""
        follower = asyncio.create_task(self._follow())
        try:
            yield
        finally:
            follower.cancel()
            with suppress(asyncio.CancelledError):
                await follower
            await self.end()

    async def end(self) -> None:
        """No more."""
        if self._process is not None:
            await end(self._process)

    async def swept(self, times: int) -> None:
        """Wait until so many further sweeps have begun: those between were whole."""
        enough = self.sweeps + times + 1

        async def has_swept() -> bool:
            return self.sweeps >= enough

        await until(has_swept, START_SECONDS)

    async def at_rest(self, sweeps: int = 2) -> None:
        """Wait until so many sweeps go by without a write: what was due, late or repeated is done with."""

        async def wrote_nothing() -> bool:
            before = self.writes
            await self.swept(sweeps)
            return self.writes == before

        await until(wrote_nothing, START_SECONDS)

    async def _begin(self) -> tuple[Process, int]:
        process, port = await _spawn(self._kubeconfig, self._directory, {"SIGHTLINE_SWEEP_INTERVAL": "2"})
        self._process = process
        return process, port

    async def _follow(self) -> None:
        while True:
            assert self._process is not None
            await self._process.wait()
            await self._begin()

    def _answered(self, call: Call) -> None:
        if not call.agent.startswith(PROGRAM):
            return
        if call.verb == "list":
            self.sweeps += call.resource == SWEPT
            return
        self.calls.append(call)
        self.writes += call.writes
        self._left -= 1
        if self._left == 0 and self._process is not None:
            self._process.kill()
            self.deaths += 1
