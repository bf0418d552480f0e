"""A standalone agent as a process of its own, as somebody without Kubernetes runs it."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2

from sightline_model.agent import AgentReport

PATTERN = "testpattern://?width=640&height=360&fps=30"


@dataclass
class Standalone:
    """A running agent."""

    process: asyncio.subprocess.Process
    port: int
    media_port: int
    """UDP."""

    @property
    def whep(self) -> str:
        """Where it is watched."""
        return f"http://127.0.0.1:{self.port}/whep"

    async def report(self) -> AgentReport:
        """What it says about itself."""
        async with httpx2.AsyncClient(trust_env=False, timeout=30) as client:
            response = await client.get(f"http://127.0.0.1:{self.port}/v1/status")
            return AgentReport.model_validate(response.json())


@asynccontextmanager
async def standalone(source: str = PATTERN, *arguments: str) -> AsyncIterator[Standalone]:
    """Run an agent on free ports of all addresses; it must end well."""
    process = await asyncio.create_subprocess_exec(
        str(Path(sys.executable).with_name("sightline-agent")),
        *("--standalone", "--source", source, "--host", "0.0.0.0", "--port", "0", "--udp-port", "0", *arguments),
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        started = await asyncio.wait_for(_started(process.stdout), 90)
        draining = asyncio.create_task(process.stdout.read())
        yield Standalone(process, _port(started["control"]), _port(started["media"]))
        process.terminate()
        assert await asyncio.wait_for(process.wait(), 60) == 0
        await draining
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def _started(output: asyncio.StreamReader) -> dict[str, Any]:
    async for line in output:
        event: dict[str, Any] = json.loads(line)
        if event["event"] == "agent started":
            return event
    raise AssertionError("the agent ended before it had started")


def _port(address: str) -> int:
    return int(address.partition("/")[0].rpartition(":")[2])
