"""`sightline dev` as a process of its own, for end-to-end tests and measurements."""

import asyncio
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from tests.helpers.processes import children_that_run

TOKEN = "a-token-for-tests"


@dataclass
class Dev:
    """A running development cluster."""

    process: asyncio.subprocess.Process
    url: str
    state: Path

    def agents(self) -> list[int]:
        """Process ids of its agents."""
        return children_that_run(self.process.pid, "sightline_agent")

    async def read(self, path: str) -> dict[str, object]:
        """GET of a JSON resource as the developer."""
        headers = {"Authorization": f"Bearer {TOKEN}"}
        async with aiohttp.ClientSession() as session, session.get(f"{self.url}{path}", headers=headers) as answer:
            assert answer.status == 200
            found: dict[str, object] = await answer.json()
            return found


async def start(state: Path, *arguments: str) -> Dev:
    """Start `sightline dev` on a port of its own choice and wait for its address."""
    process = await asyncio.create_subprocess_exec(
        str(Path(sys.executable).with_name("sightline")),
        *("dev", "--port", "0", "--token", TOKEN, "--no-open", "--state", str(state), *arguments),
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(90):
            async for line in process.stdout:
                if found := re.search(rb"page +(http://[0-9.:]+)/", line):
                    return Dev(process, found.group(1).decode(), state)
        raise AssertionError("sightline dev ended without an address")
    except BaseException:
        if process.returncode is None:
            process.kill()
        await process.wait()
        raise


async def stop(dev: Dev) -> None:
    """Ctrl-C, and no agent is left behind."""
    agents = dev.agents()
    dev.process.send_signal(signal.SIGINT)
    assert await asyncio.wait_for(dev.process.wait(), 60) == 0
    assert [pid for pid in agents if Path(f"/proc/{pid}").exists()] == []


@asynccontextmanager
async def running(state: Path, *arguments: str) -> AsyncIterator[Dev]:
    """A development cluster, ended as a person ends it."""
    dev = await start(state, *arguments)
    try:
        yield dev
        await stop(dev)
    finally:
        if dev.process.returncode is None:
            dev.process.kill()
            await dev.process.wait()
